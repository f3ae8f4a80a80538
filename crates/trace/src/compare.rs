//! What is different between two answers: of JSON, each value by its place; of anything else, the
//! first line that differs.

use bytes::Bytes;
use serde_json::{Value, json};

/// Most differences that are told of one answer.
const DIFFERENCES: usize = 50;
/// Most characters of a value that are shown.
const SHOWN: usize = 400;

/// An answer to an event.
#[derive(Debug, Clone)]
pub struct Answered {
    /// It is an error, not a response.
    pub is_error: bool,
    /// The answer's bytes.
    pub body: Bytes,
}

impl Answered {
    fn kind(&self) -> &'static str {
        if self.is_error { "an error" } else { "a response" }
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let body: Value = serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| String::from_utf8_lossy(&self.body).into());
        json!({ "FunctionError": self.is_error, "Payload": body })
    }
}

/// One thing that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where: a JSON pointer, or words.
    place: String,
    /// What was there and what is there now; `None`: nothing.
    was: Option<String>,
    is: Option<String>,
}

impl Difference {
    /// In lines: the place, what was there after `-`, what is there now after `+`.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("  {}\n", visible(&self.place));
        for (sign, value) in [('-', &self.was), ('+', &self.is)] {
            if let Some(value) = value {
                text.push_str(&format!("    {sign} {}\n", visible(value)));
            }
        }
        text
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({ "Path": self.place, "Was": self.was, "Is": self.is })
    }
}

/// In one sentence.
impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = |value: &Option<String>| match value {
            Some(value) => visible(value),
            None => "nothing".to_owned(),
        };
        let (was, is) = (value(&self.was), value(&self.is));
        write!(f, "at {} there was {was} and is {is}", visible(&self.place))
    }
}

/// Text for a terminal: control characters are written out, and long text is cut.
fn visible(text: &str) -> String {
    let mut shown = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == SHOWN {
            shown.push('…');
            break;
        }
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// What is different, but for the places that may differ, each a JSON pointer (RFC 6901); an empty
/// one leaves only the question whether it is a response or an error.
#[must_use]
pub fn compare(was: &Answered, is: &Answered, ignored: &[String]) -> Vec<Difference> {
    let mut found = Vec::new();
    if was.is_error != is.is_error {
        found.push(Difference {
            place: "the outcome".to_owned(),
            was: Some(was.kind().to_owned()),
            is: Some(is.kind().to_owned()),
        });
    }
    if was.body == is.body || ignored.iter().any(String::is_empty) {
        return found;
    }
    let parse = |answer: &Answered| serde_json::from_slice::<Value>(&answer.body).ok();
    match (parse(was), parse(is)) {
        (Some(was), Some(is)) => {
            values(&mut Walk { ignored, found: &mut found }, &mut String::new(), &was, &is);
        }
        _ => found.push(lines(&was.body, &is.body)),
    }
    found
}

struct Walk<'a> {
    ignored: &'a [String],
    found: &'a mut Vec<Difference>,
}

impl Walk<'_> {
    fn add(&mut self, place: &str, was: Option<&Value>, is: Option<&Value>) {
        if self.ignored.iter().any(|pointer| pointer == place) {
            return;
        }
        match self.found.len() {
            0..DIFFERENCES => self.found.push(Difference {
                place: if place.is_empty() {
                    "the whole answer".to_owned()
                } else {
                    place.to_owned()
                },
                was: was.map(Value::to_string),
                is: is.map(Value::to_string),
            }),
            DIFFERENCES => {
                self.found.push(Difference { place: "and more".to_owned(), was: None, is: None })
            }
            _ => {}
        }
    }
}

fn values(walk: &mut Walk<'_>, place: &mut String, was: &Value, is: &Value) {
    if was == is || walk.ignored.iter().any(|pointer| pointer == place) {
        return;
    }
    let length = place.len();
    let mut at = |walk: &mut Walk<'_>, name: &str, was: Option<&Value>, is: Option<&Value>| {
        place.push('/');
        place.push_str(&name.replace('~', "~0").replace('/', "~1"));
        match (was, is) {
            (Some(was), Some(is)) => values(walk, place, was, is),
            (was, is) => walk.add(place, was, is),
        }
        place.truncate(length);
    };
    match (was, is) {
        (Value::Object(was), Value::Object(is)) => {
            for (name, value) in was {
                at(walk, name, Some(value), is.get(name));
            }
            for (name, value) in is.iter().filter(|(name, _)| !was.contains_key(*name)) {
                at(walk, name, None, Some(value));
            }
        }
        (Value::Array(was), Value::Array(is)) => {
            for index in 0..was.len().max(is.len()) {
                at(walk, &index.to_string(), was.get(index), is.get(index));
            }
        }
        _ => walk.add(place, Some(was), Some(is)),
    }
}

/// The first lines of two bodies that differ.
fn lines(was: &[u8], is: &[u8]) -> Difference {
    let text = |line: Option<&[u8]>| line.map(|line| String::from_utf8_lossy(line).into_owned());
    let (mut old, mut new) = (was.split(|b| *b == b'\n'), is.split(|b| *b == b'\n'));
    for number in 1.. {
        let (was, is) = (old.next(), new.next());
        if was != is {
            return Difference { place: format!("line {number}"), was: text(was), is: text(is) };
        }
        if was.is_none() {
            break;
        }
    }
    Difference { place: "the whole answer".to_owned(), was: None, is: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answered(body: &str) -> Answered {
        Answered { is_error: false, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    fn text(was: &str, is: &str, ignored: &[&str]) -> String {
        let ignored: Vec<String> = ignored.iter().map(ToString::to_string).collect();
        let found = compare(&answered(was), &answered(is), &ignored);
        found.iter().map(Difference::text).collect()
    }

    #[test]
    fn the_same_json_is_the_same_however_it_is_written() {
        assert_eq!(text("{\"a\":1,\"b\":[1,2]}", "{ \"b\": [1, 2],\n \"a\": 1 }", &[]), "");
        assert_eq!(text("plain", "plain", &[]), "");
    }

    #[test]
    fn each_value_is_told_by_its_place() {
        let was = r#"{"a":1,"gone":true,"list":[1,2,3],"x/y":{"~":"old"}}"#;
        let is = r#"{"a":2,"list":[1,5],"new":null,"x/y":{"~":"new"}}"#;
        let expected = r#"  /a
    - 1
    + 2
  /gone
    - true
  /list/1
    - 2
    + 5
  /list/2
    - 3
  /x~1y/~0
    - "old"
    + "new"
  /new
    + null
"#;
        assert_eq!(text(was, is, &[]), expected);
    }

    #[test]
    fn what_may_differ_is_left_out() {
        let (was, is) = (r#"{"t":1,"in":{"t":1},"n":1}"#, r#"{"t":2,"in":{"u":3},"n":1}"#);
        assert_eq!(text(was, is, &["/t", "/in"]), "");
        assert_eq!(text(was, is, &["/t", "/in/t"]), "  /in/u\n    + 3\n");
        assert_eq!(text(was, is, &[""]), "");
        assert_eq!(text("1", "2", &[]), "  the whole answer\n    - 1\n    + 2\n");
    }

    #[test]
    fn other_text_is_told_by_its_line() {
        assert_eq!(text("a\nb\nc", "a\nx\nc", &[]), "  line 2\n    - b\n    + x\n");
        assert_eq!(text("a", "a\nb\u{1b}[2J", &[]), "  line 2\n    + b\\u{1b}[2J\n");
    }

    #[test]
    fn an_error_is_not_a_response_though_it_reads_the_same() {
        let error = Answered { is_error: true, ..answered("{}") };
        let found = compare(&answered("{}"), &error, &[String::new()]);
        assert_eq!(found[0].text(), "  the outcome\n    - a response\n    + an error\n");
    }

    #[test]
    fn there_are_so_many_differences_and_no_more() {
        let list = |value: u8, count: usize| json!(vec![value; count]).to_string();
        let lines = |count| text(&list(1, count), &list(2, count), &[]).lines().count();
        assert_eq!(lines(DIFFERENCES), 3 * DIFFERENCES);
        assert_eq!(lines(DIFFERENCES + 1), 3 * DIFFERENCES + 1);
        assert_eq!(lines(DIFFERENCES + 2), 3 * DIFFERENCES + 1);
        let long = "x".repeat(SHOWN * 2);
        assert!(text("", &long, &[]).chars().count() < SHOWN + 50);
    }

    proptest! {
        #[test]
        fn different_bytes_are_different_unless_they_are_the_same_json(was in "\\PC{0,12}|[0-9\\[\\],]{0,8}", is in "\\PC{0,12}|[0-9\\[\\],]{0,8}") {
            let found = compare(&answered(&was), &answered(&is), &[]);
            let value = |text: &str| serde_json::from_str::<Value>(text).ok();
            let same = was == is || (value(&was).is_some() && value(&was) == value(&is));
            prop_assert_eq!(found.is_empty(), same);
        }
    }
}
