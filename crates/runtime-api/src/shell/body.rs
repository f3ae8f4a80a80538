use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;
use http_body_util::BodyExt;

/// Most that is read and thrown away of a body that nobody wants, bytes. A client that is still
/// sending would not see its answer otherwise; one that sends for ever is cut off.
const DRAIN_BYTES: usize = 64 << 20;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyFault {
    TooLarge,
    Truncated,
}

#[derive(Debug)]
pub(super) struct Collected {
    pub(super) bytes: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

/// Reads a body of at most `limit` bytes. A body that came in one piece is not copied.
pub(super) async fn collect<B>(body: &mut B, limit: usize) -> Result<Collected, BodyFault>
where
    B: Body<Data = Bytes> + Unpin,
{
    let hint = body.size_hint();
    let limit_u64 = u64::try_from(limit).unwrap_or(u64::MAX);
    if hint.lower() > limit_u64 {
        return Err(BodyFault::TooLarge);
    }
    let announced = hint.exact().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
    let mut first = Bytes::new();
    let mut joined: Option<BytesMut> = None;
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| BodyFault::Truncated)?;
        match frame.into_data() {
            Ok(data) => {
                let so_far = joined.as_ref().map_or(first.len(), BytesMut::len);
                if so_far + data.len() > limit {
                    return Err(BodyFault::TooLarge);
                }
                match &mut joined {
                    Some(joined) => joined.extend_from_slice(&data),
                    None if first.is_empty() => first = data,
                    None => {
                        let mut bytes = BytesMut::with_capacity(announced.max(2 * first.len()));
                        bytes.extend_from_slice(&first);
                        bytes.extend_from_slice(&data);
                        joined = Some(bytes);
                    }
                }
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    let bytes = joined.map_or(first, BytesMut::freeze);
    Ok(Collected { bytes, trailers })
}

/// Reads what is left of a body and forgets it.
pub(super) async fn drain<B>(body: &mut B)
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut left = DRAIN_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
