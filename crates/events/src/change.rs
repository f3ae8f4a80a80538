//! `Records[0].body=text`: one change of a JSON document, as people write it on a command line.

use serde_json::{Map, Value};
use std::fmt;

/// Longest path, steps; deeper documents are nobody's event.
const STEPS: usize = 64;

/// One change: where, and what goes there.
///
/// `path=value` puts a text where the document has a text, and elsewhere JSON if the value is
/// JSON, else a text. `path:=value` takes JSON only. A path is names with dots between them and
/// `[n]` for the n-th element, from 0; `["a.b"]` is a name of any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    path: Vec<Step>,
    value: New,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Name(String),
    Element(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum New {
    /// As written.
    Text(String),
    Json(Value),
}

/// Why a change cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There is no equals sign.
    #[error("{text:?} is not of the form PATH=VALUE")]
    NoValue {
        /// As written.
        text: String,
    },
    /// The left side is no path.
    #[error("{path:?} is not a path: {why}")]
    Path {
        /// As written.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// What follows `:=` is not JSON.
    #[error("the value of {path} is not JSON: {why}")]
    Json {
        /// As written.
        path: String,
        /// The parser's words.
        why: String,
    },
    /// The document has something else there than the path expects.
    #[error("{path} is {is} and has no {wanted}")]
    Shape {
        /// What was reached; empty is the whole document.
        path: String,
        /// What it is.
        is: &'static str,
        /// The name or element that it would need.
        wanted: String,
    },
    /// The list is shorter.
    #[error("{path} has {length} elements; the next one that can be set is {path}[{length}]")]
    Element {
        /// The list.
        path: String,
        /// Its length.
        length: usize,
    },
}

impl Change {
    /// Reads `path=value` or `path:=json`.
    ///
    /// # Errors
    /// When there is no `=`, the path is none, or what follows `:=` is not JSON.
    pub fn parse(text: &str) -> Result<Self, ChangeError> {
        let at = end_of_path(text)
            .ok_or_else(|| ChangeError::NoValue { text: text.chars().take(200).collect() })?;
        let (left, value) = (&text[..at], &text[at + 1..]);
        let (path, value) = match left.strip_suffix(':') {
            Some(path) => {
                let json = serde_json::from_str(value).map_err(|error| ChangeError::Json {
                    path: path.to_owned(),
                    why: error.to_string(),
                })?;
                (path, New::Json(json))
            }
            None => (left, New::Text(value.to_owned())),
        };
        let steps = steps(path)
            .map_err(|why| ChangeError::Path { path: path.chars().take(200).collect(), why })?;
        Ok(Self { path: steps, value })
    }

    /// Makes the change. Names that are missing are made, and one element behind the last.
    ///
    /// # Errors
    /// When the path leads into something that has no such name or element.
    pub fn apply(&self, document: &mut Value) -> Result<(), ChangeError> {
        let mut here = document;
        for (depth, step) in self.path.iter().enumerate() {
            let path = || show(&self.path[..depth]);
            // What a path goes through and is not there becomes what the path needs.
            if here.is_null() && depth > 0 {
                *here = match step {
                    Step::Name(_) => Value::Object(Map::new()),
                    Step::Element(_) => Value::Array(Vec::new()),
                };
            }
            let is = kind(here);
            let shape = || ChangeError::Shape { path: whole(path()), is, wanted: step.wanted() };
            here = match step {
                Step::Name(name) => {
                    let map = here.as_object_mut().ok_or_else(shape)?;
                    map.entry(name.as_str()).or_insert(Value::Null)
                }
                Step::Element(number) => {
                    let list = here.as_array_mut().ok_or_else(shape)?;
                    let length = list.len();
                    if *number > length {
                        return Err(ChangeError::Element { path: whole(path()), length });
                    }
                    if *number == length {
                        list.push(Value::Null);
                    }
                    &mut list[*number]
                }
            };
        }
        let is_text = here.is_string();
        *here = match &self.value {
            New::Json(value) => value.clone(),
            New::Text(text) if is_text => text.as_str().into(),
            New::Text(text) => serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()),
        };
        Ok(())
    }
}

/// The equals sign that ends the path: those inside `["…"]` are of a name.
fn end_of_path(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if quoted => quoted = false,
            b'"' if text[..at].ends_with('[') => quoted = true,
            b'=' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

fn steps(path: &str) -> Result<Vec<Step>, &'static str> {
    let (mut steps, mut rest, mut first) = (Vec::new(), path, true);
    while first || !rest.is_empty() {
        if steps.len() == STEPS {
            return Err("it has more than 64 steps");
        }
        if let Some(inner) = rest.strip_prefix('[') {
            if inner.starts_with('"') {
                let mut names = serde_json::Deserializer::from_str(inner).into_iter::<String>();
                let name = names.next().and_then(Result::ok).ok_or("a quoted name has no end")?;
                let after = &inner[names.byte_offset()..];
                rest = after.strip_prefix(']').ok_or("a [ has no ]")?;
                steps.push(Step::Name(name));
            } else {
                let (number, after) = inner.split_once(']').ok_or("a [ has no ]")?;
                let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
                let number = number.parse().ok().filter(|_| digits);
                steps.push(Step::Element(number.ok_or("between [ and ] is no number")?));
                rest = after;
            }
        } else {
            let name = match (first, rest.strip_prefix('.')) {
                (true, _) => rest,
                (false, Some(name)) => name,
                (false, None) => return Err("after ] comes a dot or a ["),
            };
            let end = name.find(['.', '[']).unwrap_or(name.len());
            if end == 0 {
                return Err("a name is empty");
            }
            steps.push(Step::Name(name[..end].to_owned()));
            rest = &name[end..];
        }
        first = false;
    }
    Ok(steps)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn whole(path: String) -> String {
    if path.is_empty() { "the event".to_owned() } else { path }
}

fn show(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        match step {
            Step::Element(number) => text.push_str(&format!("[{number}]")),
            Step::Name(name)
                if name.is_empty() || name.contains(['.', '[', ']', '"', '=', ':']) =>
            {
                text.push_str(&format!("[{}]", Value::from(name.as_str())));
            }
            Step::Name(name) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(name);
            }
        }
    }
    text
}

impl Step {
    fn wanted(&self) -> String {
        match self {
            Self::Name(name) => format!("name {name:?}"),
            Self::Element(number) => format!("element {number}"),
        }
    }
}

/// The path, without the value.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn set(document: Value, change: &str) -> Result<Value, ChangeError> {
        let mut document = document;
        Change::parse(change)?.apply(&mut document)?;
        Ok(document)
    }

    fn refused(document: Value, change: &str) -> String {
        set(document, change).expect_err(change).to_string()
    }

    #[test]
    fn values_take_the_kind_that_is_there() {
        let document = json!({"text": "a", "number": 1, "none": null});
        for (change, expected) in [
            ("text=42", json!({"text": "42", "number": 1, "none": null})),
            ("text:=42", json!({"text": 42, "number": 1, "none": null})),
            ("number=42", json!({"text": "a", "number": 42, "none": null})),
            ("number=x=y", json!({"text": "a", "number": "x=y", "none": null})),
            ("none={\"a\":[1]}", json!({"text": "a", "number": 1, "none": {"a": [1]}})),
            ("text=", json!({"text": "", "number": 1, "none": null})),
        ] {
            assert_eq!(set(document.clone(), change), Ok(expected), "{change}");
        }
    }

    #[test]
    fn paths_lead_through_names_and_elements() {
        let document = json!({"Records": [{"body": "a"}], "headers": {"a.b": "c"}});
        for (change, expected) in [
            ("Records[0].body=x", json!({"Records": [{"body": "x"}], "headers": {"a.b": "c"}})),
            ("headers[\"a.b\"]=x", json!({"Records": [{"body": "a"}], "headers": {"a.b": "x"}})),
            (
                "headers[\"=]\"]=x",
                json!({"Records": [{"body": "a"}], "headers": {"a.b": "c", "=]": "x"}}),
            ),
            (
                "Records[1].n=2",
                json!({"Records": [{"body": "a"}, {"n": 2}], "headers": {"a.b": "c"}}),
            ),
            (
                "new.deep[0]=true",
                json!({"Records": [{"body": "a"}], "headers": {"a.b": "c"}, "new": {"deep": [true]}}),
            ),
        ] {
            assert_eq!(set(document.clone(), change), Ok(expected), "{change}");
        }
        assert_eq!(set(json!([1]), "[0]=2"), Ok(json!([2])));
    }

    #[test]
    fn refusals_name_the_place() {
        let document = || json!({"Records": [{"body": "a"}]});
        assert_eq!(
            refused(document(), "Records.body=x"),
            "Records is a list and has no name \"body\""
        );
        assert_eq!(
            refused(document(), "Records[0].body[1]=x"),
            "Records[0].body is a text and has no element 1"
        );
        assert_eq!(
            refused(document(), "Records[2]=x"),
            "Records has 1 elements; the next one that can be set is Records[1]"
        );
        assert_eq!(refused(json!(1), "a=x"), "the event is a number and has no name \"a\"");
        assert_eq!(refused(document(), "Records"), "\"Records\" is not of the form PATH=VALUE");
        assert!(refused(document(), "a:=x").starts_with("the value of a is not JSON"));
        for path in ["", ".a", "a.", "a..b", "a[", "a[x]", "a[-1]", "a[0]b", "[\"a]", "a[+1]"] {
            let error = Change::parse(&format!("{path}=x"));
            let is_path =
                matches!(error, Err(ChangeError::Path { .. } | ChangeError::NoValue { .. }));
            assert!(is_path, "{path}: {error:?}");
        }
    }

    #[test]
    fn a_path_has_64_steps_and_not_more() {
        let path = |steps: usize| vec!["a"; steps].join(".");
        assert!(Change::parse(&format!("{}=1", path(64))).is_ok());
        assert!(Change::parse(&format!("{}=1", path(65))).is_err());
    }

    fn any_path() -> impl Strategy<Value = Vec<Step>> {
        let step =
            prop_oneof![".{0,8}".prop_map(Step::Name), (0_usize..2).prop_map(Step::Element),];
        proptest::collection::vec(step, 1..8)
    }

    proptest! {
        #[test]
        fn any_text_is_a_change_or_an_error(text in ".{0,80}") {
            if let Ok(change) = Change::parse(&text) {
                let _ = change.apply(&mut json!({"a": [1, {"b": null}]}));
            }
        }

        #[test]
        fn a_path_that_is_shown_is_read_again(path in any_path()) {
            // A dot stands between names only, so what begins with an element is written so too.
            let text = format!("{}=1", show(&path));
            prop_assert_eq!(Change::parse(&text).map(|change| change.path), Ok(path), "{}", text);
        }

        #[test]
        fn what_is_set_is_there(names in proptest::collection::vec("[a-z]{1,4}", 1..6), value in ".{0,20}") {
            let change = Change::parse(&format!("{}={value}", names.join("."))).expect("change");
            let mut document = json!({});
            change.apply(&mut document).expect("apply");
            let found = document.pointer(&format!("/{}", names.join("/"))).expect("found");
            let expected = serde_json::from_str(&value).unwrap_or_else(|_| Value::from(value.as_str()));
            prop_assert_eq!(found, &expected);
        }
    }
}
