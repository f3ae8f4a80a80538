use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A body, or the beginning of one. On the wire: its whole length as `bytes`, and what is kept of
/// it as `text` where that is UTF-8, else as `base64`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Shape", into = "Shape")]
pub struct Body {
    bytes: u64,
    kept: Bytes,
}

#[derive(Serialize, Deserialize)]
struct Shape {
    bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

/// What a [`Shape`] may not say.
#[derive(Debug, thiserror::Error)]
enum ShapeError {
    #[error("a body has either text or base64")]
    Both,
    #[error("a body's base64 cannot be decoded")]
    Base64,
    #[error("a body of {bytes} bytes cannot have a beginning of {kept} bytes")]
    Longer { bytes: u64, kept: usize },
}

impl Body {
    /// The whole of `bytes` if that is at most `limit`, else its beginning. Nothing but what is
    /// kept stays in memory for it.
    #[must_use]
    pub fn new(bytes: &Bytes, limit: usize) -> Self {
        let whole = bytes.len() as u64;
        if bytes.len() <= limit {
            return Self { bytes: whole, kept: bytes.clone() };
        }
        Self::beginning(Bytes::copy_from_slice(&bytes[..limit]), whole)
    }

    /// The beginning of a body of `bytes` bytes. A character that was cut in two is left out, so
    /// that the beginning of a text is a text.
    #[must_use]
    pub fn beginning(mut kept: Bytes, bytes: u64) -> Self {
        if (kept.len() as u64) < bytes
            && let Err(error) = std::str::from_utf8(&kept)
            && error.error_len().is_none()
        {
            kept.truncate(error.valid_up_to());
        }
        let bytes = bytes.max(kept.len() as u64);
        Self { bytes, kept }
    }

    /// The length of the whole body, bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is here of it.
    #[must_use]
    pub fn kept(&self) -> &Bytes {
        &self.kept
    }

    /// All of it is here.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.kept.len() as u64 == self.bytes
    }
}

impl From<Body> for Shape {
    fn from(body: Body) -> Self {
        let Body { bytes, kept } = body;
        match std::str::from_utf8(&kept) {
            Ok(text) => Self { bytes, text: Some(text.to_owned()), base64: None },
            Err(_) => Self { bytes, text: None, base64: Some(STANDARD.encode(&kept)) },
        }
    }
}

impl TryFrom<Shape> for Body {
    type Error = ShapeError;

    fn try_from(shape: Shape) -> Result<Self, ShapeError> {
        let kept = match (shape.text, shape.base64) {
            (Some(_), Some(_)) => return Err(ShapeError::Both),
            (Some(text), None) => text.into(),
            (None, Some(base64)) => STANDARD.decode(base64).map_err(|_| ShapeError::Base64)?.into(),
            (None, None) => Bytes::new(),
        };
        let bytes = shape.bytes;
        if kept.len() as u64 > bytes {
            return Err(ShapeError::Longer { bytes, kept: kept.len() });
        }
        Ok(Self { bytes, kept })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_body_at_its_limit_is_whole_and_one_byte_more_is_not() {
        let at = Body::new(&Bytes::from_static(b"abcd"), 4);
        assert!(at.is_whole());
        let over = Body::new(&Bytes::from_static(b"abcde"), 4);
        assert_eq!((over.bytes(), over.kept().as_ref()), (5, &b"abcd"[..]));
        assert!(!over.is_whole());
    }

    #[test]
    fn the_beginning_of_a_text_is_a_text() {
        let body = Body::new(&Bytes::from("aé中"), 5);
        assert_eq!(body.kept().as_ref(), "aé".as_bytes());
        let json = serde_json::to_string(&body).expect("JSON");
        assert_eq!(json, r#"{"bytes":6,"text":"aé"}"#);
        // Bytes that are no text anyway are cut where the limit is.
        let body = Body::new(&Bytes::from_static(b"\xff\xfe\xfd"), 2);
        assert_eq!(serde_json::to_string(&body).expect("JSON"), r#"{"bytes":3,"base64":"//4="}"#);
    }

    #[test]
    fn what_no_body_is_is_refused() {
        for text in [
            r#"{"bytes":1,"text":"a","base64":"YQ=="}"#,
            r#"{"bytes":1,"base64":"?"}"#,
            r#"{"bytes":1,"text":"ab"}"#,
            r#"{"text":"ab"}"#,
        ] {
            assert!(serde_json::from_str::<Body>(text).is_err(), "{text}");
        }
        let none: Body = serde_json::from_str(r#"{"bytes":7}"#).expect("a body");
        assert_eq!((none.bytes(), none.kept().len()), (7, 0));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(bytes in prop::collection::vec(any::<u8>(), 0..80), limit in 0usize..100) {
            let body = Body::new(&bytes.into(), limit);
            let text = serde_json::to_string(&body).expect("JSON");
            prop_assert_eq!(serde_json::from_str::<Body>(&text).expect("a body"), body);
        }
    }
}
