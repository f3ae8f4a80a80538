//! The error of a streamed response: in its trailers, or as text at the end of its body.

use crate::header::classify_error_type;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{HeaderValue, TRAILER};

pub(super) const ERROR_TYPE: &str = "lambda-runtime-function-error-type";
pub(super) const ERROR_BODY: &str = "lambda-runtime-function-error-body";
/// Most that is held back because it may be the text of trailers, bytes.
const HELD_BYTES: usize = 1 << 20;
/// A frame that ends within the name of the first trailer is held back from this length on:
/// shorter ones are likelier to be words of the response.
const NAME_BEGINS: usize = 8;

/// An error that was reported after the head of its response.
#[derive(Debug, PartialEq, Eq)]
pub struct Reported {
    /// The error document; may be empty or no JSON at all.
    pub payload: Bytes,
    /// The classified error type.
    pub error_type: Box<str>,
}

/// The error that the trailers of a streamed response report; its body is base64.
fn reported(error_type: Option<&[u8]>, body: Option<&[u8]>) -> Option<Reported> {
    if error_type.is_none() && body.is_none() {
        return None;
    }
    let payload = body.and_then(|body| STANDARD.decode(body.trim_ascii()).ok()).unwrap_or_default();
    let error_type = classify_error_type(error_type.unwrap_or_default());
    Some(Reported { payload: payload.into(), error_type })
}

pub(super) fn of_trailers(trailers: &HeaderMap) -> Option<Reported> {
    let value = |name| trailers.get(name).map(HeaderValue::as_bytes);
    reported(value(ERROR_TYPE), value(ERROR_BODY))
}

/// Whether the head of a response announces that its trailers may report an error.
pub(super) fn is_declared(headers: &HeaderMap) -> bool {
    headers
        .get_all(TRAILER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|name| name.trim().eq_ignore_ascii_case(ERROR_TYPE)))
}

/// The Rust runtime announces the trailers and then writes their text at the end of the body:
/// exactly two lines, type and body.
pub(super) fn at_the_end(body: &[u8]) -> Option<Reported> {
    let text = body.strip_suffix(b"\r\n")?;
    let (before, last) = split_last_line(text)?;
    let body_value = header_line(last, ERROR_BODY)?;
    let type_line = &before[before.len().checked_sub(type_line_bytes(before)?)?..];
    let type_value = header_line(type_line, ERROR_TYPE)?;
    reported(Some(type_value), Some(body_value))
}

fn split_last_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.windows(2).rposition(|pair| pair == b"\r\n")?;
    Some((&text[..at], &text[at + 2..]))
}

/// Length of the end of `text` that begins with the type's name; what is before it is payload,
/// which need not end with a line break.
fn type_line_bytes(text: &[u8]) -> Option<usize> {
    let at = text
        .windows(ERROR_TYPE.len())
        .rposition(|window| window.eq_ignore_ascii_case(ERROR_TYPE.as_bytes()))?;
    Some(text.len() - at)
}

fn header_line<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let (head, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?.trim_ascii();
    let visible = value.iter().all(|byte| (0x20..0x7f).contains(byte));
    (head.eq_ignore_ascii_case(name.as_bytes()) && visible).then_some(value)
}

/// Holds back what may be the text of trailers until it is known. That text comes as a chunk of
/// its own, so that nothing is held back that begins with other bytes.
#[derive(Debug, Default)]
pub struct TrailerText {
    announced: bool,
    held: BytesMut,
}

impl TrailerText {
    /// `announced`: the head of the response declared the trailers; else nothing is held back.
    #[must_use]
    pub fn new(announced: bool) -> Self {
        Self { announced, held: BytesMut::new() }
    }

    /// Takes a piece of the body; gives what is to be passed on now.
    pub fn feed(&mut self, data: Bytes) -> Bytes {
        if !self.announced || (self.held.is_empty() && !begins(&data)) {
            return data;
        }
        let before = self.held.len();
        self.held.extend_from_slice(&data);
        if self.held.len() <= HELD_BYTES && is_plausible(&self.held) {
            return Bytes::new();
        }
        // What was held is payload; the new piece may be the text.
        if before > 0 && begins(&data) && is_plausible(&data) {
            return self.held.split_to(before).freeze();
        }
        self.held.split().freeze()
    }

    /// The body is over: what is left to be passed on.
    ///
    /// # Errors
    /// It ended with the text of trailers, which is no part of the response.
    pub fn finish(self) -> Result<Bytes, Reported> {
        match at_the_end(&self.held) {
            Some(reported) => Err(reported),
            None => Ok(self.held.freeze()),
        }
    }
}

/// Whether the text of trailers may begin with this.
fn begins(data: &[u8]) -> bool {
    let name = ERROR_TYPE.as_bytes();
    let common = data.len().min(name.len());
    common >= NAME_BEGINS && data[..common].eq_ignore_ascii_case(&name[..common])
}

/// Whether this is the text of trailers or the beginning of it.
fn is_plausible(text: &[u8]) -> bool {
    let mut names = [ERROR_TYPE, ERROR_BODY].into_iter();
    let mut rest = text;
    loop {
        let line_end = rest.windows(2).position(|pair| pair == b"\r\n");
        let (line, next) = match line_end {
            Some(at) => (&rest[..at], Some(&rest[at + 2..])),
            None => (rest.strip_suffix(b"\r").unwrap_or(rest), None),
        };
        let Some(name) = names.next() else { return line.is_empty() && next.is_none() };
        let is_line = header_line(line, name).is_some();
        match next {
            Some(next) if is_line => rest = next,
            Some(_) => return false,
            None => {
                let common = line.len().min(name.len());
                let begins = line[..common].eq_ignore_ascii_case(&name.as_bytes()[..common]);
                return is_line || (begins && line.len() <= name.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "Lambda-Runtime-Function-Error-Type: Runtime.StreamError\r\nLambda-Runtime-Function-Error-Body: Ym9vbQ==\r\n";

    /// What is passed on, piece by piece, and the error.
    fn run(pieces: &[&[u8]]) -> (Vec<Bytes>, Option<Reported>) {
        let mut text = TrailerText::new(true);
        let mut out: Vec<Bytes> =
            pieces.iter().map(|piece| text.feed(Bytes::copy_from_slice(piece))).collect();
        match text.finish() {
            Ok(rest) => {
                out.push(rest);
                (out, None)
            }
            Err(error) => (out, Some(error)),
        }
    }

    #[test]
    fn only_the_text_of_trailers_is_held_back() {
        for word in ["x", "l", "lambda", "Lambda", "lambda-x long", "\r\n"] {
            let mut text = TrailerText::new(true);
            assert_eq!(text.feed(word.into()), word, "{word:?}");
        }
        let mut text = TrailerText::new(false);
        assert_eq!(text.feed(TEXT.into()), TEXT, "nobody announced it");

        let boom =
            Some(Reported { payload: "boom".into(), error_type: "Runtime.StreamError".into() });
        assert_eq!(run(&[b"a", TEXT.as_bytes()]), (vec!["a".into(), Bytes::new()], boom));
        let (out, error) = run(&[TEXT.as_bytes(), b"more"]);
        assert_eq!((out.concat(), error), ([TEXT.as_bytes(), b"more"].concat(), None));
        // The first was not it, the second is.
        let (out, error) = run(&[TEXT.as_bytes(), TEXT.as_bytes()]);
        assert_eq!(out.concat(), TEXT.as_bytes());
        assert!(error.is_some());
    }

    #[test]
    fn no_more_is_held_than_the_limit() {
        let head = "lambda-runtime-function-error-type: ";
        let mut text = TrailerText::new(true);
        let all = format!("{head}{}", "x".repeat(HELD_BYTES - head.len()));
        assert_eq!(text.feed(all.clone().into()), "");
        assert_eq!(text.feed("x".into()), format!("{all}x"));
    }

    proptest! {
        /// However the text is cut, past the first letters of it, it is found.
        #[test]
        fn cuts_do_not_matter(
            kind in "[A-Za-z.]{0,40}",
            body in prop::collection::vec(any::<u8>(), 0..200),
            cuts in prop::collection::vec(NAME_BEGINS..400, 0..6),
        ) {
            let text = format!(
                "Lambda-Runtime-Function-Error-Type: {kind}\r\nLambda-Runtime-Function-Error-Body: {}\r\n",
                STANDARD.encode(&body)
            );
            let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> =
                cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
            let (out, error) = run(&pieces);
            prop_assert_eq!(out.concat(), b"");
            prop_assert_eq!(error.unwrap().payload, body);
        }

        /// Nothing of a response is lost or turned round.
        #[test]
        fn payload_passes(pieces in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..60),
                Just(TEXT.as_bytes().to_vec()),
                Just(TEXT.as_bytes()[..50].to_vec()),
                Just(TEXT.as_bytes()[50..].to_vec()),
            ],
            0..8,
        )) {
            let borrowed: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let (out, error) = run(&borrowed);
            let (out, all) = (out.concat(), pieces.concat());
            match error {
                None => prop_assert_eq!(out, all),
                Some(_) => prop_assert!(all.starts_with(&out)),
            }
        }
    }
}
