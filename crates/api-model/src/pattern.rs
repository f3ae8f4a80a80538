use regex::Regex;
use std::borrow::Cow;
use std::sync::OnceLock;

/// A pattern of the model: Java's regular expressions, matched against the whole text.
///
/// Compiled at its first use: most requests need two or three of the model's hundred.
#[derive(Debug)]
pub struct Pattern {
    source: Cow<'static, str>,
    compiled: OnceLock<Option<Compiled>>,
}

#[derive(Debug)]
struct Compiled {
    fits: Regex,
    /// Look-around of the original: a text that fits this does not fit.
    excluded: Option<Regex>,
}

/// Patterns with look-around, which the regex crate has not: what must fit, what must not.
const LOOK_AROUND: &[(&str, &str, &str)] = &[
    ("(?!^[0-9]+$)([a-zA-Z0-9-_]+)", "[a-zA-Z0-9_-]+", "[0-9]+"),
    (r"((?!^\d+$)^[0-9a-zA-Z-_]+$)", "[a-zA-Z0-9_-]+", "[0-9]+"),
    (r"(^(?!(system\x2e)))(^[_a-zA-Z0-9])([^$]*)", "[_a-zA-Z0-9][^$]*", r"system\.(?s:.)*"),
    (r"[0-9A-Za-z\.\-_]*(?<!\.)", r"[0-9A-Za-z.\-_]*", r"(?s:.)*\."),
    (
        r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]{1,64})(:((?!\d+$)[0-9a-zA-Z-_]+))?",
        r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-[0-9]:)?([0-9]{12}:)?(function:)?([a-zA-Z0-9_-]{1,64})(:[0-9a-zA-Z_-]+)?",
        r"([^:]+:)*[^:]+:[0-9]+",
    ),
];

impl Pattern {
    pub(crate) fn new(source: Cow<'static, str>) -> Self {
        Self { source, compiled: OnceLock::new() }
    }

    /// As the model writes it, and as messages show it.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the whole text fits.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match self.compiled.get_or_init(|| compile(&self.source)) {
            Some(Compiled { fits, excluded }) => {
                fits.is_match(text) && !excluded.as_ref().is_some_and(|regex| regex.is_match(text))
            }
            // A test compiles every pattern of the table; a text is not refused for our mistake.
            None => true,
        }
    }

    #[cfg(test)]
    pub(crate) fn compiles(&self) -> bool {
        compile(&self.source).is_some()
    }
}

fn compile(source: &str) -> Option<Compiled> {
    if let Some((_, fits, excluded)) = LOOK_AROUND.iter().find(|(java, ..)| *java == source) {
        return Some(Compiled { fits: whole(fits)?, excluded: Some(whole(excluded)?) });
    }
    // Java's \d and \s are ASCII.
    let translated = source
        .replace(r"[\s\S]", "(?s:.)")
        .replace(r"[^\s]", r"[^ \t\n\x0B\f\r]")
        .replace(r"\d", "[0-9]")
        .replace(r"\/", "/");
    Some(Compiled { fits: whole(&translated)?, excluded: None })
}

fn whole(pattern: &str) -> Option<Regex> {
    Regex::new(&format!(r"\A(?:{pattern})\z")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Model;

    #[test]
    fn every_pattern_of_the_table_compiles() {
        for shape in Model::get().shapes() {
            if let Some(pattern) = &shape.pattern {
                assert!(pattern.compiles(), "{}: {}", shape.name, pattern.source());
            }
        }
    }

    fn shape_pattern(name: &str) -> &'static Pattern {
        let shape = Model::get().shapes().iter().find(|shape| shape.name == name);
        shape.and_then(|shape| shape.pattern.as_ref()).expect(name)
    }

    #[test]
    fn the_whole_text_must_fit() {
        let cases = [
            ("FunctionName", "f", true),
            ("FunctionName", "f\n", false),
            ("FunctionName", "my-function!", false),
            ("FunctionName", "arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST", true),
            ("FunctionName", "arn:aws:lambda:us-east-1:000000000000:function:f:$LATES", false),
            ("NumericLatestPublishedOrAliasQualifier", "$LATEST", true),
            ("NumericLatestPublishedOrAliasQualifier", "invalid!", false),
            ("Handler", "a b", false),
            ("Handler", "function.handler", true),
            ("Alias", "12", false),
            ("Alias", "v12", true),
            ("S3Bucket", "bucket.", false),
            ("S3Bucket", "bucket.a", true),
            ("FunctionUrlFunctionName", "f:1", false),
            ("FunctionUrlFunctionName", "f:live", true),
            ("TagKey", "größe 1", true),
            ("TagKey", "a\u{0}", false),
            ("Pattern", "{\n}", true),
            ("EnvironmentVariableName", "_X", false),
            ("EnvironmentVariableName", "X1", true),
        ];
        for (shape, text, fits) in cases {
            assert_eq!(shape_pattern(shape).matches(text), fits, "{shape}: {text:?}");
        }
    }
}
