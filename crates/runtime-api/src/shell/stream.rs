//! A streamed response on its way from the runtime to its caller.
//!
//! ```text
//!   body of the post ──► text of trailers held back ──► limit ──► bandwidth ──► sink
//! ```
//!
//! One frame of the body is in hand at a time: a caller who is slow stops the reading, and the
//! connection's window stops the runtime.

use super::shaping::Bucket;
use super::trailer::{self, Reported, TrailerText};
use crate::host::StreamEnd;
use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt;
use lambfold_types::ResponseSink;
use lambfold_types::limits::STREAMED_RESPONSE_BYTES;
use std::future::Future;
use tokio::time::{Instant, sleep_until};

/// What became of a streamed response.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pumped {
    /// `None`: the runtime process was given up.
    pub(super) end: Option<StreamEnd>,
    /// What was passed on, or would have been to a caller who had not gone.
    pub(super) bytes: u64,
}

/// Passes a body on. `announced`: its trailers may report an error, or text in their place.
pub(super) async fn pump<B>(body: &mut B, sink: &dyn ResponseSink, announced: bool) -> Pumped
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut flow = Flow { sink, bucket: Bucket::new(Instant::now()), bytes: 0, is_read: true };
    let mut text = TrailerText::new(announced);
    let stopped = flow.pass_body(body, &mut text).await;
    let end = match stopped {
        Ok(reported) => end(&mut flow, reported, text).await,
        Err(stop) => Err(stop),
    };
    let end = match end {
        Ok(end) => Some(end),
        Err(Stop::TooLarge) => Some(StreamEnd::TooLarge),
        Err(Stop::Truncated) => Some(StreamEnd::Truncated),
        Err(Stop::GivenUp) => None,
    };
    Pumped { end, bytes: flow.bytes }
}

async fn end(
    flow: &mut Flow<'_>,
    reported: Option<Reported>,
    text: TrailerText,
) -> Result<StreamEnd, Stop> {
    let reported = match text.finish() {
        Ok(rest) => {
            flow.pass(rest).await?;
            reported
        }
        Err(in_body) => reported.or(Some(in_body)),
    };
    Ok(match reported {
        Some(Reported { payload, error_type }) => StreamEnd::Error { payload, error_type },
        None => StreamEnd::Complete,
    })
}

/// Why a body is read no further.
enum Stop {
    TooLarge,
    Truncated,
    GivenUp,
}

struct Flow<'a> {
    sink: &'a dyn ResponseSink,
    bucket: Bucket,
    bytes: u64,
    /// The caller is there.
    is_read: bool,
}

impl Flow<'_> {
    /// Passes all data of a body on; gives the error that its trailers report.
    async fn pass_body<B>(
        &mut self,
        body: &mut B,
        text: &mut TrailerText,
    ) -> Result<Option<Reported>, Stop>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut reported = None;
        while let Some(frame) = self.unless_given_up(body.frame()).await? {
            match frame.map_err(|_| Stop::Truncated)?.into_data() {
                Ok(data) => self.pass(text.feed(data)).await?,
                Err(frame) => {
                    reported = frame.into_trailers().ok().as_ref().and_then(trailer::of_trailers);
                }
            }
        }
        Ok(reported)
    }

    async fn pass(&mut self, mut data: Bytes) -> Result<(), Stop> {
        let left = STREAMED_RESPONSE_BYTES - self.bytes;
        let is_over = u64::try_from(data.len()).is_ok_and(|length| length > left);
        if is_over {
            data.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        }
        while !data.is_empty() {
            if !self.is_read {
                // The function runs on, as fast as it likes.
                self.bytes += data.len() as u64;
                break;
            }
            match self.bucket.take(Instant::now(), data.len()) {
                Ok(size) => {
                    let chunk = data.split_to(size);
                    let sent = self.unless_given_up(self.sink.send(chunk)).await?;
                    self.is_read = sent.is_ok();
                    self.bytes += size as u64;
                }
                Err(next) => self.unless_given_up(sleep_until(next)).await?,
            }
        }
        if is_over { Err(Stop::TooLarge) } else { Ok(()) }
    }

    async fn unless_given_up<T>(&self, work: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::select! {
            biased;
            () = self.sink.closed() => Err(Stop::GivenUp),
            done = work => Ok(done),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
