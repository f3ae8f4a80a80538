//! Rules for the headers that a runtime sends.

use lambfold_http1::Fields;

/// Longest runtime release, bytes.
const RELEASE_BYTES: usize = 128;

/// The error type that telemetry sees, from `Lambda-Runtime-Function-Error-Type`.
///
/// Kept whole when `Runtime.` or `Function.` followed by an upper-case and at least one more
/// letter occurs anywhere in it; else `Function.Unknown` or `Runtime.Unknown`.
#[must_use]
pub fn classify_error_type(value: &[u8]) -> Box<str> {
    if is_known_shape(value) {
        String::from_utf8_lossy(value).into()
    } else if value.starts_with(b"Function.") {
        "Function.Unknown".into()
    } else {
        "Runtime.Unknown".into()
    }
}

fn is_known_shape(value: &[u8]) -> bool {
    (0..value.len()).any(|start| {
        let rest = &value[start..];
        let name = rest.strip_prefix(b"Runtime.").or_else(|| rest.strip_prefix(b"Function."));
        matches!(name, Some([first, second, ..])
            if first.is_ascii_uppercase() && second.is_ascii_alphabetic())
    })
}

/// Name and version of a runtime, for metrics alone: the first word of `User-Agent`, and the
/// words of `Lambda-Runtime-Features` in parentheses; `Unknown` without a user agent; at most
/// 128 bytes.
#[must_use]
pub fn runtime_release(headers: &dyn Fields) -> String {
    let text = |name: &str| {
        let value = headers.field(name).filter(|value| value.is_ascii());
        value.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
    };
    let agent = text("user-agent").split_ascii_whitespace().next().unwrap_or("Unknown");
    let features: Vec<String> = text("lambda-runtime-features")
        .split_ascii_whitespace()
        .map(|word| word.replace(['(', ')'], ""))
        .filter(|word| !word.is_empty())
        .collect();
    let mut release = agent.to_owned();
    release.truncate(RELEASE_BYTES);
    // Whole features only: half a name would be counted as another feature.
    let mut open = false;
    for feature in features {
        if release.len() + feature.len() + 3 > RELEASE_BYTES {
            break;
        }
        release.push_str(if open { " " } else { " (" });
        release.push_str(&feature);
        open = true;
    }
    if open {
        release.push(')');
    }
    release
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    #[test]
    fn error_types() {
        for (value, expected) in [
            ("Runtime.ImportModuleError", "Runtime.ImportModuleError"),
            ("Function.MyError", "Function.MyError"),
            ("see Runtime.Ab!", "see Runtime.Ab!"),
            ("Runtime.Runtime.Xy", "Runtime.Runtime.Xy"),
            ("Runtime.A", "Runtime.Unknown"),
            ("Runtime.ab", "Runtime.Unknown"),
            ("Runtime.A1", "Runtime.Unknown"),
            ("Function.A", "Function.Unknown"),
            ("Function.", "Function.Unknown"),
            ("unhandled", "Runtime.Unknown"),
            ("", "Runtime.Unknown"),
        ] {
            assert_eq!(&*classify_error_type(value.as_bytes()), expected, "{value:?}");
        }
    }

    fn release(agent: Option<&str>, features: Option<&str>) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in [("user-agent", agent), ("lambda-runtime-features", features)] {
            if let Some(value) = value {
                headers.insert(name, HeaderValue::from_str(value).expect("a header value"));
            }
        }
        runtime_release(&headers)
    }

    #[test]
    fn releases() {
        assert_eq!(release(None, None), "Unknown");
        assert_eq!(release(Some("aws-lambda-rust/1.5.0 extra"), None), "aws-lambda-rust/1.5.0");
        assert_eq!(release(Some("a/1"), Some("(x) y")), "a/1 (x y)");
        assert_eq!(release(Some("a/1"), Some("() (")), "a/1");
        assert_eq!(release(Some(&"a".repeat(300)), Some("f")).len(), 128);
    }

    proptest! {
        #[test]
        fn error_types_follow_the_rule(value in "(Runtime|Function|x|\\.|[A-Za-z0-9. ]){0,8}") {
            let rule = regex::Regex::new(r"(Runtime|Function)\.[A-Z][a-zA-Z]+").expect("a pattern");
            let expected = if rule.is_match(&value) {
                value.as_str()
            } else if value.starts_with("Function.") {
                "Function.Unknown"
            } else {
                "Runtime.Unknown"
            };
            prop_assert_eq!(&*classify_error_type(value.as_bytes()), expected);
        }

        #[test]
        fn no_bytes_make_the_rules_fail(
            value in proptest::collection::vec(any::<u8>(), 0..200),
            features in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = classify_error_type(&value);
            let mut headers = HeaderMap::new();
            for (name, bytes) in [("user-agent", value), ("lambda-runtime-features", features)] {
                if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                    headers.insert(name, value);
                }
            }
            prop_assert!(runtime_release(&headers).len() <= RELEASE_BYTES);
        }
    }
}
