//! CloudWatch's basic filter patterns: words, phrases, alternatives, exclusions.

/// A pattern that is not one of the basic ones, or is cut off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("filter pattern {pattern:?} is not supported: {why}")]
pub struct PatternError {
    /// As given, cut to 200 characters.
    pub pattern: String,
    /// What about it.
    pub why: &'static str,
}

/// Which messages: every plain term must occur, none of the `-excluded` ones; when there are no
/// plain terms, at least one of the `?alternatives`. Case matters. A term stands in quotes when
/// it holds anything but letters, digits and `_`; that is not enforced here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilterPattern {
    all: Vec<String>,
    any: Vec<String>,
    none: Vec<String>,
}

impl FilterPattern {
    /// Parses a pattern; an empty one matches everything.
    ///
    /// # Errors
    /// For JSON (`{ … }`), space-delimited (`[ … ]`) and regular expression (`%…%`) patterns,
    /// which are not built, and for a quote that does not end.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let fail = |why| PatternError { pattern: text.chars().take(200).collect(), why };
        let mut pattern = Self::default();
        let mut rest = text.trim();
        if rest.starts_with('{') {
            return Err(fail("JSON patterns are not built yet; use words or \"phrases\""));
        }
        if rest.starts_with('[') {
            return Err(fail(
                "space-delimited patterns are not built yet; use words or \"phrases\"",
            ));
        }
        while !rest.is_empty() {
            let list = match rest.as_bytes()[0] {
                b'?' => &mut pattern.any,
                b'-' => &mut pattern.none,
                _ => &mut pattern.all,
            };
            rest = rest.strip_prefix(['?', '-']).unwrap_or(rest);
            let mut term = String::new();
            if let Some(quoted) = rest.strip_prefix('"') {
                let mut chars = quoted.char_indices();
                let end = loop {
                    match chars.next() {
                        Some((_, '\\')) => term.extend(chars.next().map(|(_, c)| c)),
                        Some((at, '"')) => break at + 1,
                        Some((_, c)) => term.push(c),
                        None => return Err(fail("a quote is not closed")),
                    }
                };
                rest = &quoted[end..];
            } else {
                if rest.starts_with('%') {
                    return Err(fail(
                        "regular expressions are not built yet; use words or \"phrases\"",
                    ));
                }
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                term.push_str(&rest[..end]);
                rest = &rest[end..];
            }
            if !term.is_empty() {
                list.push(term);
            }
            rest = rest.trim_start();
        }
        Ok(pattern)
    }

    /// True when the message is one of those asked for.
    #[must_use]
    pub fn matches(&self, message: &[u8]) -> bool {
        let has = |term: &String| contains(message, term.as_bytes());
        if self.none.iter().any(has) || !self.all.iter().all(has) {
            return false;
        }
        !self.all.is_empty() || self.any.is_empty() || self.any.iter().any(has)
    }
}

fn contains(message: &[u8], term: &[u8]) -> bool {
    let Some((first, rest)) = term.split_first() else { return true };
    let mut from = 0;
    while let Some(at) = message[from..].iter().position(|b| b == first) {
        from += at + 1;
        if message[from..].starts_with(rest) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, message: &str) -> bool {
        FilterPattern::parse(pattern).expect(pattern).matches(message.as_bytes())
    }

    #[test]
    fn basic_patterns() {
        let cases = [
            ("", "anything", true),
            (" ", "anything", true),
            ("ERROR", "[ERROR 400] BAD REQUEST", true),
            ("error", "[ERROR 400] BAD REQUEST", false),
            ("ERROR REQUEST", "[ERROR 400] BAD REQUEST", true),
            ("ERROR 500", "[ERROR 400] BAD REQUEST", false),
            ("\"BAD REQUEST\"", "[ERROR 400] BAD REQUEST", true),
            ("\"REQUEST BAD\"", "[ERROR 400] BAD REQUEST", false),
            ("?ERROR ?WARN", "WARN low", true),
            ("?ERROR ?WARN", "INFO", false),
            ("ERROR -400", "ERROR 400", false),
            ("ERROR -400", "ERROR 500", true),
            ("-\"BAD REQUEST\"", "BAD", true),
            ("\"a \\\"b\\\"\"", "say a \"b\"", true),
            ("aab", "aaab", true),
        ];
        for (pattern, message, expected) in cases {
            assert_eq!(matches(pattern, message), expected, "{pattern:?} on {message:?}");
        }
    }

    #[test]
    fn what_is_not_built_says_so() {
        for pattern in ["{ $.level = \"ERROR\" }", "[ip, user]", "%ERR.*%", "\"open"] {
            assert!(FilterPattern::parse(pattern).is_err(), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,60}") {
            let _ = FilterPattern::parse(&text);
        }

        #[test]
        fn a_phrase_is_found_as_the_standard_library_finds_it(message in "[ab]{0,12}", term in "[ab]{1,4}") {
            prop_assert_eq!(matches(&format!("\"{term}\""), &message), message.contains(&term));
        }
    }
}
