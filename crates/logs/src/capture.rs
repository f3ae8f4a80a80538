//! From a guest's output bytes to log events, and the tail of one invocation's log.

use lambfold_types::limits;

/// Longest log event, bytes (256 KiB); longer lines are cut into several events.
pub const EVENT_BYTES: usize = 262_144;

/// Cuts a byte stream into log events: one per `\n`, the `\n` included; `\r` does not split.
///
/// Lines over [`EVENT_BYTES`] come in pieces of that size, so that memory stays bounded.
#[derive(Debug, Default)]
pub struct LineSplitter {
    partial: Vec<u8>,
}

impl LineSplitter {
    /// A splitter that stands at the beginning of a line.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes as they were read and calls `line` for each event that they complete.
    pub fn feed(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let room = EVENT_BYTES - self.partial.len();
            let window = &bytes[..bytes.len().min(room)];
            let (taken, complete) = match window.iter().position(|b| *b == b'\n') {
                Some(end) => (end + 1, true),
                None => (window.len(), window.len() == room),
            };
            if complete && self.partial.is_empty() {
                line(&bytes[..taken]);
            } else {
                self.partial.extend_from_slice(&bytes[..taken]);
                if complete {
                    line(&self.partial);
                    self.partial.clear();
                }
            }
            bytes = &bytes[taken..];
        }
        if self.partial.is_empty() && self.partial.capacity() > 4096 {
            self.partial = Vec::new();
        }
    }

    /// Hands out what there is of an unfinished line, at the end of a phase or of the stream.
    pub fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            line(&self.partial);
            self.partial = Vec::new();
        }
    }
}

/// The last [`limits::LOG_TAIL_BYTES`] of what was pushed; for `X-Amz-Log-Result`.
#[derive(Debug, Default)]
pub struct LogTail {
    bytes: Vec<u8>,
}

impl LogTail {
    /// An empty tail.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an event.
    pub fn push(&mut self, event: &[u8]) {
        const MAX: usize = limits::LOG_TAIL_BYTES;
        let event = &event[event.len().saturating_sub(MAX)..];
        // Twice the size is kept between cuts, so that each byte moves at most twice.
        if self.bytes.len() + event.len() > 2 * MAX {
            let keep = MAX - event.len();
            let cut = self.bytes.len().saturating_sub(keep);
            self.bytes.drain(..cut);
        }
        self.bytes.extend_from_slice(event);
    }

    /// The tail.
    #[must_use]
    pub fn into_bytes(mut self) -> Vec<u8> {
        let cut = self.bytes.len().saturating_sub(limits::LOG_TAIL_BYTES);
        self.bytes.drain(..cut);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut splitter = LineSplitter::new();
        let mut lines = Vec::new();
        for chunk in chunks {
            splitter.feed(chunk, |line| lines.push(line.to_vec()));
        }
        splitter.finish(|line| lines.push(line.to_vec()));
        lines
    }

    #[test]
    fn carriage_returns_do_not_split() {
        assert_eq!(split(&[b"a\rb", b"\rc\nd"]), [b"a\rb\rc\n".to_vec(), b"d".to_vec()]);
    }

    #[test]
    fn long_lines_are_cut_at_the_limit() {
        let sizes = |bytes: usize| {
            let mut text = vec![b'x'; bytes];
            text.push(b'\n');
            split(&[&text]).iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(EVENT_BYTES - 1), [EVENT_BYTES]);
        assert_eq!(sizes(EVENT_BYTES), [EVENT_BYTES, 1]);
        assert_eq!(sizes(2 * EVENT_BYTES + 1), [EVENT_BYTES, EVENT_BYTES, 2]);
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_and_chunking_does_not_matter(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'x')], 0..200),
            step in 1usize..20,
        ) {
            let chunks: Vec<&[u8]> = text.chunks(step).collect();
            let lines = split(&chunks);
            prop_assert_eq!(lines.concat(), text.clone());
            prop_assert_eq!(&lines, &split(&[&text]));
            for line in lines.iter().rev().skip(1) {
                prop_assert_eq!(line.iter().position(|b| *b == b'\n'), Some(line.len() - 1));
            }
        }

        #[test]
        fn the_tail_is_the_end_of_everything(sizes in proptest::collection::vec(0usize..9000, 0..20)) {
            let mut tail = LogTail::new();
            let mut all = Vec::new();
            for (n, size) in sizes.into_iter().enumerate() {
                let event = vec![u8::try_from(n).unwrap_or(0); size];
                tail.push(&event);
                all.extend(event);
            }
            let expected = all[all.len().saturating_sub(limits::LOG_TAIL_BYTES)..].to_vec();
            prop_assert_eq!(tail.into_bytes(), expected);
        }
    }
}
