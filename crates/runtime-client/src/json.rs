//! Writing JSON strings; reading JSON is left to the runtime that needs it.

/// Appends `text` as a JSON string, quotes included. Only ASCII comes out, so that the result may
/// stand in an HTTP header as well.
pub(crate) fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    loop {
        // Most of a text needs nothing, and is copied as a whole.
        let plain = rest.bytes().position(|byte| !is_plain(byte)).unwrap_or(rest.len());
        out.push_str(&rest[..plain]);
        let mut characters = rest[plain..].chars();
        let Some(character) = characters.next() else { break };
        rest = characters.as_str();
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ => {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    out.push_str("\\u");
                    for shift in [12, 8, 4, 0] {
                        let digit = usize::from(*unit >> shift) & 0xf;
                        out.push(char::from(b"0123456789abcdef"[digit]));
                    }
                }
            }
        }
    }
    out.push('"');
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// `text` as a JSON string, quotes included, ASCII only.
///
/// ```
/// assert_eq!(lambfold_runtime_client::quote("a \"b\"\né"), r#""a \"b\"\n\u00e9""#);
/// ```
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    push_quoted(&mut out, text);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn quoted_text_reads_back_and_is_ascii(text in any::<String>()) {
            let quoted = quote(&text);
            prop_assert!(quoted.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            let back: String = serde_json::from_str(&quoted).expect("valid JSON");
            prop_assert_eq!(back, text);
        }
    }
}
