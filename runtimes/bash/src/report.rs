//! Messages from bash. Each is a row of fields that end in a NUL: slot, event, kind, number of
//! further fields, fields. A handler can write to the pipe if it wants to; what does not parse is
//! dropped, and what belongs to another event is ignored by its number.

use lambfold_runtime_client::Frame;

/// What may wait for its end, in bytes.
const MAX_BYTES: usize = 1 << 20;
const MAX_FIELDS: usize = 512;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// The subshell that it comes from, counted by the main shell.
    pub(crate) slot: u64,
    /// The event that it belongs to; 0 before the first.
    pub(crate) event: u64,
    pub(crate) message: Message,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// The handler file has been sourced.
    Ready,
    /// A shell makes the subshells of this lane; its process id.
    Lane(u32),
    /// It has been, and does not define the function.
    Missing,
    /// This bash is too old; its version.
    Old(String),
    /// The function is done.
    End(Failure),
    /// What failed in a shell that is about to end.
    Detail(Failure),
    /// The subshell is gone; its exit status.
    Gone(i32),
    /// A shell waits for an event; with the number of the event in which that was asked.
    Waiting(u64),
    /// `lambda_error`.
    Fail { error_type: String, message: String, stack: Vec<Frame> },
    /// `lambda_stream`; the content type.
    Stream(String),
}

/// An exit status and, if it is not 0 and known, what led to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) status: i32,
    pub(crate) command: Option<String>,
    pub(crate) stack: Vec<Frame>,
}

/// Puts messages together from what a pipe delivers.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    bytes: Vec<u8>,
}

impl Parser {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next complete message that can be understood.
    pub(crate) fn next(&mut self) -> Option<Report> {
        loop {
            match self.take() {
                Taken::Report(report) => return Some(report),
                Taken::Nothing => return None,
                Taken::Nonsense => {}
            }
        }
    }

    fn take(&mut self) -> Taken {
        let mut fields = Fields { bytes: &self.bytes, at: 0 };
        let head = (fields.next(), fields.next(), fields.next(), fields.next());
        let (Some(slot), Some(event), Some(kind), Some(count)) = head else {
            return self.wait_for_more();
        };
        let count = match count.parse::<usize>() {
            Ok(count @ 0..=MAX_FIELDS) => count,
            // Where the next message begins is anybody's guess: it is taken to be the end.
            _ => {
                self.bytes.clear();
                return Taken::Nonsense;
            }
        };
        let mut rest = Vec::with_capacity(count);
        while rest.len() < count {
            match fields.next() {
                Some(field) => rest.push(field),
                None => return self.wait_for_more(),
            }
        }
        let taken = match (slot.parse(), event.parse(), message(&kind, rest)) {
            (Ok(slot), Ok(event), Some(message)) => Taken::Report(Report { slot, event, message }),
            _ => Taken::Nonsense,
        };
        let used = fields.at;
        self.bytes.drain(..used);
        taken
    }

    fn wait_for_more(&mut self) -> Taken {
        if self.bytes.len() > MAX_BYTES {
            self.bytes.clear();
        }
        Taken::Nothing
    }
}

enum Taken {
    Report(Report),
    Nothing,
    Nonsense,
}

struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Iterator for Fields<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| *byte == 0)?;
        self.at += end + 1;
        Some(String::from_utf8_lossy(&rest[..end]).into_owned())
    }
}

fn message(kind: &str, fields: Vec<String>) -> Option<Message> {
    let mut fields = fields.into_iter();
    Some(match kind {
        "ready" => Message::Ready,
        "lane" => Message::Lane(fields.next()?.parse().ok()?),
        "missing" => Message::Missing,
        "old" => Message::Old(fields.next()?),
        "end" => Message::End(failure(fields)?),
        "detail" => Message::Detail(failure(fields)?),
        "gone" => Message::Gone(fields.next()?.parse().ok()?),
        "waiting" => Message::Waiting(fields.next()?.parse().ok()?),
        "stream" => Message::Stream(fields.next()?),
        "fail" => Message::Fail {
            error_type: fields.next()?,
            message: fields.next()?,
            stack: frames(fields),
        },
        _ => return None,
    })
}

fn failure(mut fields: impl Iterator<Item = String>) -> Option<Failure> {
    let status = fields.next()?.parse().ok()?;
    Some(Failure { status, command: fields.next(), stack: frames(fields) })
}

fn frames(mut fields: impl Iterator<Item = String>) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let (Some(label), Some(path), Some(line)) = (fields.next(), fields.next(), fields.next())
    {
        frames.push(Frame { label, path, line: line.parse().unwrap_or(0) });
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(fields: &[&str]) -> Vec<u8> {
        fields.iter().flat_map(|field| field.bytes().chain([0])).collect()
    }

    fn all(parser: &mut Parser) -> Vec<Report> {
        std::iter::from_fn(|| parser.next()).collect()
    }

    #[test]
    fn messages_come_out_whole_whatever_the_pieces() {
        let mut bytes = row(&["3", "00000007", "end", "5", "2", "false", "handler", "/f.sh", "9"]);
        bytes.extend(row(&["3", "00000000", "gone", "1", "2"]));
        let expected = [
            Report {
                slot: 3,
                event: 7,
                message: Message::End(Failure {
                    status: 2,
                    command: Some("false".into()),
                    stack: vec![Frame { label: "handler".into(), path: "/f.sh".into(), line: 9 }],
                }),
            },
            Report { slot: 3, event: 0, message: Message::Gone(2) },
        ];
        for size in 1..bytes.len() {
            let mut parser = Parser::default();
            let mut found = Vec::new();
            for piece in bytes.chunks(size) {
                parser.push(piece);
                found.extend(all(&mut parser));
            }
            assert_eq!(found, expected, "pieces of {size}");
        }
    }

    #[test]
    fn nonsense_is_dropped_and_what_follows_is_read() {
        let mut parser = Parser::default();
        parser.push(&row(&["x", "1", "ready", "0"]));
        parser.push(&row(&["1", "1", "dance", "0"]));
        parser.push(&row(&["1", "1", "gone", "1", "many"]));
        parser.push(&row(&["1", "1", "ready", "0"]));
        let found = all(&mut parser);
        assert_eq!(found, [Report { slot: 1, event: 1, message: Message::Ready }]);
        parser.push(&row(&["1", "1", "ready", "99999"]));
        assert_eq!(all(&mut parser), []);
        parser.push(&row(&["1", "1", "ready", "0"]));
        assert_eq!(all(&mut parser).len(), 1);
    }

    #[test]
    fn what_never_ends_is_not_kept() {
        let mut parser = Parser::default();
        for _ in 0..3 {
            parser.push(&vec![b'x'; MAX_BYTES]);
            assert_eq!(all(&mut parser), []);
        }
        assert!(parser.bytes.len() <= MAX_BYTES);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(pieces in prop::collection::vec(
            prop::collection::vec(prop_oneof![Just(0u8), Just(b'1'), any::<u8>()], 0..60), 0..20,
        )) {
            let mut parser = Parser::default();
            for piece in pieces {
                parser.push(&piece);
                all(&mut parser);
            }
        }
    }
}
