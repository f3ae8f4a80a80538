use crate::call::Call;
use serde::{Deserialize, Serialize};

/// Version of the formats of this crate. A reader refuses what is newer than itself.
pub const FORMAT: u32 = 1;

/// One line of a watch: a JSON object that names its kind as `type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum Line {
    /// The first one: from now on everything is seen.
    Begin {
        /// [`FORMAT`]
        format: u32,
        /// The function, with its version if only one is watched.
        function: String,
        /// So much of each body is shown, bytes.
        body_bytes: usize,
    },
    /// A call.
    Call(Box<Call>),
    /// Calls that nobody can show any more.
    Dropped {
        /// How many.
        count: u64,
    },
    /// The last one, when the server ended the watch.
    End {
        /// `time`, `count`, or `shutdown`.
        reason: String,
    },
}

impl Line {
    /// With its line end.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // No map has keys that are not text, so that this cannot fail.
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Reads one line.
    ///
    /// # Errors
    /// When it is not one of these.
    pub fn parse(line: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Body;
    use crate::call::{Answer, Message, State};
    use proptest::prelude::*;

    #[test]
    fn lines_to_the_byte() {
        let answer = Answer {
            status: 202,
            message: Message {
                headers: [("content-type".to_owned(), "application/json".to_owned())].into(),
                body: Body::new(&"{\"status\":\"OK\"}\n".into(), 1024),
            },
        };
        let call = Call {
            at: 1_763_823_845_123,
            environment: "2025/11/22/[$LATEST]0a".into(),
            version: "$LATEST".into(),
            state: State::Answered,
            method: "POST".into(),
            path: "/2018-06-01/runtime/invocation/1/response".into(),
            request: Message {
                headers: [("content-length".to_owned(), "5".to_owned())].into(),
                body: Body::new(&"{\"a\":".into(), 4),
            },
            answer: Some(answer),
            took_us: Some(312),
        };
        let text = |line: &Line| String::from_utf8(line.to_bytes()).expect("UTF-8");
        assert_eq!(
            text(&Line::Call(call.into())),
            concat!(
                r#"{"type":"call","at":1763823845123,"environment":"2025/11/22/[$LATEST]0a","#,
                r#""version":"$LATEST","state":"answered","method":"POST","#,
                r#""path":"/2018-06-01/runtime/invocation/1/response","#,
                r#""request":{"headers":{"content-length":"5"},"body":{"bytes":5,"text":"{\"a\""}},"#,
                r#""answer":{"status":202,"headers":{"content-type":"application/json"},"#,
                r#""body":{"bytes":16,"text":"{\"status\":\"OK\"}\n"}},"tookUs":312}"#,
                "\n"
            )
        );
        let begin = Line::Begin { format: 1, function: "arn:x".into(), body_bytes: 9 };
        assert_eq!(
            text(&begin),
            "{\"type\":\"begin\",\"format\":1,\"function\":\"arn:x\",\"bodyBytes\":9}\n"
        );
        assert_eq!(text(&Line::Dropped { count: 2 }), "{\"type\":\"dropped\",\"count\":2}\n");
        let end = Line::End { reason: "time".into() };
        assert_eq!(text(&end), "{\"type\":\"end\",\"reason\":\"time\"}\n");
    }

    fn message() -> impl Strategy<Value = Message> {
        let headers = prop::collection::btree_map("[a-z-]{1,12}", "\\PC{0,20}", 0..4);
        let body = (prop::collection::vec(any::<u8>(), 0..40), 0usize..50);
        (headers, body).prop_map(|(headers, (bytes, limit))| Message {
            headers,
            body: Body::new(&bytes.into(), limit),
        })
    }

    proptest! {
        #[test]
        fn a_call_is_read_as_it_was_written(
            request in message(),
            answer in prop::option::of((any::<u16>(), message())),
            path in "\\PC{0,40}",
            at in any::<u64>(),
            took_us in prop::option::of(any::<u64>()),
        ) {
            let line = Line::Call(Box::new(Call {
                at,
                environment: "e".into(),
                version: "1".into(),
                state: if answer.is_some() { State::Answered } else { State::Gone },
                method: "GET".into(),
                path,
                request,
                answer: answer.map(|(status, message)| Answer { status, message }),
                took_us,
            }));
            let bytes = line.to_bytes();
            prop_assert!(bytes.iter().filter(|byte| **byte == b'\n').count() == 1);
            prop_assert_eq!(Line::parse(&bytes).expect("a line"), line);
        }

        #[test]
        fn any_line_is_read_or_refused(text in "\\PC{0,60}|\\{\"type\":\"(call|begin|dropped|end)\"[^}]{0,60}\\}") {
            let _ = Line::parse(text.as_bytes());
        }
    }
}
