//! What the runtime posts.

use super::Core;
use crate::context::Context;
use crate::fault::{Fault, error_payload};
use crate::phase::{Effects, Invoke, Phase, platform_answer};
use bytes::Bytes;
use lambfold_runtime_api::{Post, Posted, Posting, Refusal, State, StreamEnd};
use lambfold_types::Answer;
use lambfold_types::limits::{RESPONSE_BYTES, STREAMED_RESPONSE_BYTES};
use std::borrow::Cow;
use std::fmt::Display;

impl Core {
    pub(crate) fn begin_post(
        &mut self,
        ctx: &Context,
        id: &str,
        post: Post,
    ) -> Result<Posting, Refusal> {
        let posting = self.machine.post(id, post)?;
        if let Phase::Invoke(invoke) = &mut self.phase
            && let Some(timing) = &mut invoke.timing
        {
            timing.answering = Some(ctx.moment());
        }
        Ok(posting)
    }

    pub(crate) fn begin_init_error(&mut self) -> Result<Posting, Refusal> {
        if !self.has_runtime() {
            let from = self.machine.state();
            return Err(Refusal::Concurrent { from, to: State::InitError });
        }
        self.machine.init_error()
    }

    pub(crate) fn finish_post(
        &mut self,
        ctx: &Context,
        posting: Posting,
        posted: Posted,
        fx: &mut Effects,
    ) -> Result<(), Refusal> {
        self.machine.check(&posting)?;
        if posting.is_init_error() {
            self.init_failed(ctx, posted, fx);
            return Ok(());
        }
        if self.ends_for_memory(ctx, fx) {
            return Ok(());
        }
        // The runtime's following `next` is refused, as on AWS.
        if posted != Posted::InvalidResponseMode {
            self.machine.sent(&posting)?;
        }
        let Phase::Invoke(invoke) = &mut self.phase else { return Err(Refusal::Internal) };
        let (answer, produced_bytes) = match posted {
            Posted::Response { payload, content_type } => {
                let bytes = payload.len() as u64;
                let answer =
                    Answer { payload, content_type, function_error: false, stream_error: None };
                (answer, bytes)
            }
            Posted::Error { payload, content_type, error_type: _ } => {
                let bytes = payload.len() as u64;
                let answer =
                    Answer { payload, content_type, function_error: true, stream_error: None };
                (answer, bytes)
            }
            Posted::TooLarge => {
                let answer = too_large(invoke, RESPONSE_BYTES);
                let bytes = answer.payload.len() as u64;
                (answer, bytes)
            }
            Posted::InvalidResponseMode => {
                invoke.refused = Some("Runtime.InvalidResponseModeHeader");
                (platform_answer(Bytes::new()), 0)
            }
            Posted::Truncated => {
                invoke.withheld = Some(truncated(invoke));
                return Ok(());
            }
            Posted::Streamed { end, bytes } => {
                let error = |payload, code: Cow<'static, str>| Answer {
                    stream_error: Some(code),
                    ..platform_answer(payload)
                };
                let answer = match end {
                    StreamEnd::Complete => Answer {
                        payload: Bytes::new(),
                        content_type: None,
                        function_error: false,
                        stream_error: None,
                    },
                    StreamEnd::Error { payload, error_type } => {
                        error(payload, String::from(error_type).into())
                    }
                    StreamEnd::TooLarge => too_large(invoke, STREAMED_RESPONSE_BYTES),
                    StreamEnd::Truncated => {
                        if let Some(timing) = &mut invoke.timing {
                            timing.produced_bytes = bytes;
                        }
                        invoke.withheld = Some(truncated(invoke));
                        return Ok(());
                    }
                };
                (answer, bytes)
            }
        };
        if let Some(timing) = &mut invoke.timing {
            timing.answered = Some(ctx.moment());
            timing.produced_bytes = produced_bytes;
        }
        if let Some(on_answer) = invoke.answer.take() {
            fx.answer = Some((on_answer, answer));
        }
        Ok(())
    }

    fn init_failed(&mut self, ctx: &Context, posted: Posted, fx: &mut Effects) {
        let error_type = match posted {
            Posted::Error { payload, content_type, error_type } => {
                if !payload.is_empty() {
                    let answer =
                        Answer { payload, content_type, function_error: true, stream_error: None };
                    self.init_error = Some(answer);
                }
                error_type
            }
            _ => "Runtime.Unknown".into(),
        };
        self.fail(ctx, Fault::Init { error_type }, fx);
    }
}

/// A response that the platform does not take, from a runtime that stays well.
fn too_large(invoke: &mut Invoke, limit: impl Display) -> Answer {
    const TYPE: &str = "Function.ResponseSizeTooLarge";
    invoke.refused = Some(TYPE);
    let payload = format!(
        "{{\"errorMessage\":\"Response payload size exceeded maximum allowed payload size ({limit} bytes).\",\"errorType\":\"{TYPE}\"}}"
    );
    Answer { stream_error: Some(TYPE.into()), ..platform_answer(payload.into()) }
}

/// The answer to a response that was cut off, for the end of the phase: a runtime that dies in
/// the middle of its response is cut off, too, and then its exit is the better answer, and comes
/// in a moment.
fn truncated(invoke: &mut Invoke) -> Answer {
    const TYPE: &str = "Runtime.TruncatedResponse";
    invoke.refused = Some(TYPE);
    let text = Refusal::Truncated.message();
    let answer = platform_answer(error_payload(TYPE, invoke.request_id, &text));
    Answer { stream_error: Some(TYPE.into()), ..answer }
}
