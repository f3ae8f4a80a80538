//! `application/vnd.amazon.eventstream`: messages of headers and a payload, with check sums
//! (behaviour specification §6.3).
//!
//! ```text
//!   u32 length of all │ u32 length of the headers │ u32 CRC32 of these two
//!   headers: u8 length, name, u8 7 (a string), u16 length, value
//!   payload
//!   u32 CRC32 of all before
//! ```

use bytes::{BufMut as _, Bytes, BytesMut};
use lambfold_invoke::Failure;
use serde::Serialize;

/// The media type.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.amazon.eventstream";

/// Lengths, their check sum, and the one at the end, bytes.
const FRAME: usize = 4 + 4 + 4 + 4;
const STRING: u8 = 7;

/// An event with this payload.
fn event(name: &str, content_type: &str, payload: &[u8]) -> Bytes {
    let headers =
        [(":event-type", name), (":content-type", content_type), (":message-type", "event")];
    let length = |(name, value): &(&str, &str)| 1 + name.len() + 1 + 2 + value.len();
    let headers_length: usize = headers.iter().map(length).sum();
    let total = FRAME + headers_length + payload.len();
    let mut frame = BytesMut::with_capacity(total);
    // Payloads have at most 6 MiB, names and types a few bytes.
    frame.put_u32(u32::try_from(total).unwrap_or(u32::MAX));
    frame.put_u32(u32::try_from(headers_length).unwrap_or(u32::MAX));
    frame.put_u32(crc32fast::hash(&frame));
    for (name, value) in headers {
        frame.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
        frame.put_slice(name.as_bytes());
        frame.put_u8(STRING);
        frame.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
        frame.put_slice(value.as_bytes());
    }
    frame.put_slice(payload);
    frame.put_u32(crc32fast::hash(&frame));
    frame.freeze()
}

/// The event that carries a part of the response.
pub(crate) fn payload_chunk(payload: &[u8]) -> Bytes {
    event("PayloadChunk", "application/octet-stream", payload)
}

/// The last event.
pub(crate) fn invoke_complete(failure: Option<&Failure>, log_result: Option<&str>) -> Bytes {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Complete<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        error_code: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error_details: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        log_result: Option<&'a str>,
    }
    let details = failure.map(|failure| String::from_utf8_lossy(&failure.details));
    let complete = Complete {
        error_code: failure.map(|failure| &*failure.code),
        error_details: details.as_deref(),
        log_result,
    };
    // A structure of texts can always be written.
    let payload = serde_json::to_vec(&complete).unwrap_or_default();
    event("InvokeComplete", "application/json", &payload)
}

#[cfg(test)]
#[path = "../tests/wire/frames.rs"]
mod frames;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::frames::{Frame, decode, decode_all};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_to_the_byte() {
        let bytes = payload_chunk(b"hi");
        let mut expected = vec![0, 0, 0, 0x6c, 0, 0, 0, 0x5a];
        expected.extend(crc32fast::hash(&expected).to_be_bytes());
        expected.extend(b"\x0b:event-type\x07\0\x0cPayloadChunk");
        expected.extend(b"\x0d:content-type\x07\0\x18application/octet-stream");
        expected.extend(b"\x0d:message-type\x07\0\x05event");
        expected.extend(b"hi");
        expected.extend(crc32fast::hash(&expected).to_be_bytes());
        assert_eq!(bytes.len(), usize::from(expected[3]));
        assert_eq!(bytes, expected);
    }

    #[test]
    fn the_last_event_says_what_there_is_to_say() {
        let text = |failure: Option<&Failure>, log: Option<&str>| {
            let frame = decode(&invoke_complete(failure, log)).unwrap().0;
            assert_eq!(frame.header(":event-type"), "InvokeComplete");
            assert_eq!(frame.header(":content-type"), "application/json");
            String::from_utf8(frame.payload).unwrap()
        };
        assert_eq!(text(None, None), "{}");
        assert_eq!(text(None, Some("bG9n")), r#"{"LogResult":"bG9n"}"#);
        let failure = Failure { code: "Unhandled".to_owned(), details: "{\"a\":1}".into() };
        assert_eq!(
            text(Some(&failure), Some("bG9n")),
            r#"{"ErrorCode":"Unhandled","ErrorDetails":"{\"a\":1}","LogResult":"bG9n"}"#
        );
        let failure = Failure { code: "c".to_owned(), details: Bytes::from_static(b"\xff") };
        assert_eq!(
            text(Some(&failure), None),
            "{\"ErrorCode\":\"c\",\"ErrorDetails\":\"\u{fffd}\"}"
        );
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            name in "[ -~]{0,60}",
            content_type in "[ -~]{0,300}",
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2_000), 0..5),
        ) {
            let bytes: Vec<u8> =
                payloads.iter().flat_map(|payload| event(&name, &content_type, payload)).collect();
            let frames = decode_all(&bytes).unwrap();
            prop_assert_eq!(frames.len(), payloads.len());
            for (Frame { headers, payload }, sent) in frames.iter().zip(&payloads) {
                prop_assert_eq!(payload, sent);
                let expected = [
                    (":event-type", &*name), (":content-type", &content_type),
                    (":message-type", "event"),
                ];
                let expected = expected.map(|(n, v)| (n.to_owned(), v.to_owned()));
                prop_assert_eq!(&headers[..], &expected[..]);
            }
        }

        /// A reader who checks the sums finds every byte that changed.
        #[test]
        fn a_changed_byte_is_found(
            payload in prop::collection::vec(any::<u8>(), 0..300),
            at in any::<prop::sample::Index>(),
            by in 1u8..,
        ) {
            let mut bytes = payload_chunk(&payload).to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= by;
            prop_assert!(decode_all(&bytes).is_err());
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode_all(&bytes);
        }
    }
}
