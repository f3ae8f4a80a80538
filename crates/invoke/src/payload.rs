//! The event must be JSON: AWS parses it before it invokes.

use crate::InvokeError;

const PREFIX: &str = "Could not parse request body into json: Could not parse payload into json: ";
const EXPECTED: &str = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')";
const SOURCE: &str = "[Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled)";

/// Accepts JSON texts and nothing at all.
///
/// # Errors
/// [`InvokeError::NotJson`] in AWS's words; where the text goes wrong later than at its
/// beginning, the words in the middle are our parser's.
pub(crate) fn check(payload: &[u8]) -> Result<(), InvokeError> {
    if payload.is_empty() {
        return Ok(());
    }
    let parsed = serde_json::from_slice::<serde::de::IgnoredAny>(payload);
    let Err(error) = parsed else {
        return match std::str::from_utf8(payload) {
            Ok(_) => Ok(()),
            Err(error) => {
                let (line, column) = place(payload, error.valid_up_to());
                let byte = payload[error.valid_up_to()];
                Err(not_json(&format!("Invalid UTF-8 start byte 0x{byte:x}"), line, column))
            }
        };
    };
    let blank = payload.iter().take_while(|b| b" \t\r\n".contains(b)).count();
    let (line, column) = place(payload, blank);
    Err(match payload.get(blank) {
        Some(byte) if byte.is_ascii_control() || !byte.is_ascii() => {
            let what = format!("Unexpected character ((CTRL-CHAR, code {byte}))");
            not_json(&format!("{what}: expected a valid value {EXPECTED}"), line, column)
        }
        Some(byte) if byte.is_ascii_alphabetic() && !b"tfn".contains(byte) => {
            let word = payload[blank..].iter().take_while(|b| b.is_ascii_alphanumeric());
            let word: String = word.map(|b| char::from(*b)).take(200).collect();
            let column = column + word.len();
            not_json(
                &format!("Unrecognized token '{word}': was expecting {EXPECTED}"),
                line,
                column,
            )
        }
        Some(byte) if !byte.is_ascii_digit() && !b"{[\"-tfn".contains(byte) => {
            let what = format!("Unexpected character ('{}' (code {byte}))", char::from(*byte));
            not_json(&format!("{what}: expected a valid value {EXPECTED}"), line, column)
        }
        _ => {
            let text = error.to_string();
            let what = text.split(" at line ").next().unwrap_or(&text);
            not_json(what, error.line(), error.column())
        }
    })
}

fn not_json(what: &str, line: usize, column: usize) -> InvokeError {
    let message = format!("{PREFIX}{what}\n at {SOURCE}; line: {line}, column: {column}]");
    InvokeError::NotJson { message }
}

fn place(payload: &[u8], at: usize) -> (usize, usize) {
    let before = &payload[..at];
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1);
    (line, at - start + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: &[u8]) -> String {
        check(payload).expect_err("no JSON").to_string()
    }

    #[test]
    fn json_texts_and_nothing_pass() {
        for text in ["", "{}", " [1, 2]\n", "null", "\"é\"", "-1.5e3", "true"] {
            assert!(check(text.as_bytes()).is_ok(), "{text}");
        }
        let deep = [vec![b'['; 5000], vec![b']'; 5000]].concat();
        assert!(check(&deep).is_ok(), "depth is the runtime's affair");
    }

    #[test]
    fn the_first_wrong_byte_is_told_in_awss_words() {
        assert_eq!(
            message(&[0x99]),
            "Could not parse request body into json: Could not parse payload into json: Unexpected character ((CTRL-CHAR, code 153)): expected a valid value (JSON String, Number, Array, Object or token 'null', 'true' or 'false')\n at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: 1, column: 1]"
        );
        assert!(message(b"\nhello").contains("Unrecognized token 'hello': was expecting (JSON"));
        assert!(message(b"@").contains("Unexpected character ('@' (code 64))"));
    }

    #[test]
    fn later_faults_name_their_place() {
        assert!(message(b"{\"a\":}").ends_with("line: 1, column: 6]"));
        assert!(message(b"{} x").ends_with("line: 1, column: 4]"));
        assert!(message(b"\"\xff\"").contains("Invalid UTF-8 start byte 0xff"));
        assert!(message(b"   ").contains("EOF"));
    }
}
