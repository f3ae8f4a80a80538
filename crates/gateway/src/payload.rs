//! Whether a payload is JSON, and if not, why, in the words of the parser that AWS uses.

use serde::de::IgnoredAny;

const EXPECTED: &str = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')";

/// Checks a payload.
///
/// # Errors
/// With AWS's whole message when it is not JSON.
pub(crate) fn check(payload: &[u8]) -> Result<(), String> {
    // IgnoredAny skips strings without looking at their encoding.
    let failed = match std::str::from_utf8(payload) {
        Ok(text) => match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => return Ok(()),
            Err(error) => Fault::of(payload, Some(&error)),
        },
        Err(_) => Fault::of(payload, None),
    };
    Err(failed.message(payload))
}

struct Fault {
    /// Where the reader stopped.
    offset: usize,
    end_of_input: bool,
}

impl Fault {
    fn of(payload: &[u8], error: Option<&serde_json::Error>) -> Self {
        match error {
            Some(error) => {
                let before: usize = payload
                    .split_inclusive(|b| *b == b'\n')
                    .take(error.line() - 1)
                    .map(<[u8]>::len)
                    .sum();
                Self {
                    offset: (before + error.column().saturating_sub(1)).min(payload.len()),
                    end_of_input: error.is_eof(),
                }
            }
            None => {
                // Where the text before the bad bytes is wrong already, that comes first.
                let valid = std::str::from_utf8(payload).map_or_else(|e| e.valid_up_to(), str::len);
                let text = std::str::from_utf8(&payload[..valid]).unwrap_or_default();
                match serde_json::from_str::<IgnoredAny>(text) {
                    Err(error) if !error.is_eof() => Self::of(text.as_bytes(), Some(&error)),
                    _ => Self { offset: valid, end_of_input: false },
                }
            }
        }
    }

    fn message(&self, payload: &[u8]) -> String {
        let what = match payload.get(self.offset) {
            _ if self.end_of_input => "Unexpected end-of-input".to_owned(),
            None => "Unexpected end-of-input".to_owned(),
            Some(_) => match word(payload, self.offset) {
                Some(word) => format!("Unrecognized token '{word}': was expecting {EXPECTED}"),
                None => {
                    let byte = payload[self.offset];
                    let shown = if byte.is_ascii_graphic() || byte == b' ' {
                        format!("'{}' (code {byte})", char::from(byte))
                    } else {
                        format!("(CTRL-CHAR, code {byte})")
                    };
                    format!("Unexpected character ({shown}): expected a valid value {EXPECTED}")
                }
            },
        };
        let before = &payload[..self.offset.min(payload.len())];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
        format!(
            "Could not parse request body into json: Could not parse payload into json: {what}\n at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: {line}, column: {column}]"
        )
    }
}

/// The bare word around a position, when a value begins with it.
fn word(payload: &[u8], offset: usize) -> Option<String> {
    let part = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_' || *b == b'$';
    let front = payload[..offset].iter().rev().take_while(|b| part(b)).count();
    let start = offset - front;
    if !payload.get(start).is_some_and(u8::is_ascii_alphabetic) {
        return None;
    }
    let end = start + payload[start..].iter().take(256).take_while(|b| part(b)).count();
    Some(String::from_utf8_lossy(&payload[start..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn json_passes() {
        for payload in ["{}", " null ", "1", "\"ü\"", "[1,{\"a\":[]}]", "\"\\ud800\""] {
            assert_eq!(check(payload.as_bytes()), Ok(()), "{payload}");
        }
    }

    #[test]
    fn the_reason_is_told_as_aws_tells_it() {
        let cases: [(&[u8], &str, &str); 7] = [
            (
                b"\x99a",
                "Unexpected character ((CTRL-CHAR, code 153)): expected a valid value (JSON String, Number, Array, Object or token 'null', 'true' or 'false')",
                "line: 1, column: 1]",
            ),
            (b"hello", "Unrecognized token 'hello': was expecting (JSON", "line: 1, column: 1]"),
            (b"truth", "Unrecognized token 'truth'", "line: 1, column: 4]"),
            (b"{\n\"a\": ?}", "Unexpected character ('?' (code 63))", "line: 2, column: 6]"),
            (b"{\"a\": 1", "Unexpected end-of-input", "]"),
            (b"", "Unexpected end-of-input", "line: 1, column: 1]"),
            (
                b"{\"a\": \"\xff\"}",
                "Unexpected character ((CTRL-CHAR, code 255))",
                "line: 1, column: 8]",
            ),
        ];
        for (payload, reason, place) in cases {
            let message = check(payload).expect_err(reason);
            let prefix =
                "Could not parse request body into json: Could not parse payload into json: ";
            assert!(message.starts_with(&format!("{prefix}{reason}")), "{message}");
            assert!(message.ends_with(place), "{message}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(payload in proptest::collection::vec(any::<u8>(), 0..100)) {
            let valid = serde_json::from_slice::<serde_json::Value>(&payload).is_ok();
            let passes = check(&payload).is_ok();
            // A Value refuses lone surrogates and deep nesting, which pass here.
            prop_assert!(passes || !valid);
        }

        #[test]
        fn any_text(payload in "[\\[\\]{}\":,a-z0-9 \\n\u{e9}]{0,60}") {
            let _ = check(payload.as_bytes());
        }
    }
}
