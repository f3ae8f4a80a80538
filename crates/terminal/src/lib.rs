//! A terminal over a connection: frames between a client's terminal and a shell elsewhere.
//!
//! In: bytes as they come, in any pieces; out: [`Frame`]s, and the other way round. A frame is a
//! byte for its kind, four for the length of what follows (big-endian), and that. docs/shell.md has
//! the kinds.
//!
//! Forbidden here: I/O, and every other crate of ours. Both sides of the connection use it, and one
//! of them has no asynchronous runtime.

/// The protocol's name, as an HTTP upgrade says it.
pub const PROTOCOL: &str = "lambfold-shell/1";
/// Longest content of a frame, bytes.
pub const FRAME_BYTES: usize = 64 << 10;

const HEAD: usize = 5;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// From the client: what was typed, or read from its standard input.
    Input(Vec<u8>),
    /// From the client: there is no more input.
    InputEnd,
    /// From the client: the size of its terminal.
    Size {
        /// Lines.
        rows: u16,
        /// Characters of a line.
        columns: u16,
    },
    /// From the shell: standard output, or what its terminal shows.
    Output(Vec<u8>),
    /// From the shell, where it has no terminal: standard error.
    Errors(Vec<u8>),
    /// From the server: something to know, for the person at the terminal.
    Notice(String),
    /// From the server: the last frame. The shell exited with this status; 128 and more: ended by
    /// the signal of that number less 128.
    Exit(u8),
    /// From the server: the last frame, where no shell could run or the session was ended; why.
    Failed(String),
    /// From the server, now and then: it is still there. Says nothing.
    Alive,
}

/// Bytes that are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// There is no such kind.
    #[error("there is no frame of kind {0}")]
    Kind(u8),
    /// It is longer than any.
    #[error("a frame of {0} bytes is longer than {FRAME_BYTES}")]
    Length(u32),
    /// Its content is not of its kind.
    #[error("a frame of kind {0} has a content that it cannot have")]
    Content(u8),
}

impl Frame {
    /// Appends the frame to `out`. Content over [`FRAME_BYTES`] is divided (bytes) or cut (text).
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Input(bytes) => pieces(out, 1, bytes),
            Self::InputEnd => piece(out, 2, &[]),
            Self::Size { rows, columns } => {
                let (rows, columns) = (rows.to_be_bytes(), columns.to_be_bytes());
                piece(out, 3, &[rows[0], rows[1], columns[0], columns[1]]);
            }
            Self::Output(bytes) => pieces(out, 16, bytes),
            Self::Errors(bytes) => pieces(out, 17, bytes),
            Self::Notice(text) => piece(out, 18, cut(text)),
            Self::Exit(status) => piece(out, 19, &[*status]),
            Self::Failed(text) => piece(out, 20, cut(text)),
            Self::Alive => piece(out, 21, &[]),
        }
    }

    fn of(kind: u8, content: &[u8]) -> Result<Self, FrameError> {
        let text = || String::from_utf8(content.to_vec()).map_err(|_| FrameError::Content(kind));
        Ok(match (kind, content) {
            (1, _) => Self::Input(content.to_vec()),
            (2, []) => Self::InputEnd,
            (3, &[a, b, c, d]) => {
                Self::Size { rows: u16::from_be_bytes([a, b]), columns: u16::from_be_bytes([c, d]) }
            }
            (16, _) => Self::Output(content.to_vec()),
            (17, _) => Self::Errors(content.to_vec()),
            (18, _) => Self::Notice(text()?),
            (19, &[status]) => Self::Exit(status),
            (20, _) => Self::Failed(text()?),
            (21, []) => Self::Alive,
            (2 | 3 | 19 | 21, _) => return Err(FrameError::Content(kind)),
            _ => return Err(FrameError::Kind(kind)),
        })
    }
}

fn piece(out: &mut Vec<u8>, kind: u8, content: &[u8]) {
    out.push(kind);
    // No caller gives more than FRAME_BYTES.
    out.extend_from_slice(&u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(content);
}

fn pieces(out: &mut Vec<u8>, kind: u8, content: &[u8]) {
    if content.is_empty() {
        return piece(out, kind, content);
    }
    content.chunks(FRAME_BYTES).for_each(|chunk| piece(out, kind, chunk));
}

/// The beginning of a text that fits.
fn cut(text: &str) -> &[u8] {
    let mut end = text.len().min(FRAME_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text.as_bytes()[..end]
}

/// Puts frames together from what comes.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// Of these, taken.
    taken: usize,
}

impl Decoder {
    /// Adds what came. Between two calls [`Decoder::take`] is to be called until it has no more, so
    /// that less than a frame is kept.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.drain(..std::mem::take(&mut self.taken));
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// What came is no frame: nothing that follows can be understood.
    pub fn take(&mut self) -> Result<Option<Frame>, FrameError> {
        let bytes = &self.bytes[self.taken..];
        let Some(&[kind, a, b, c, d]) = bytes.first_chunk::<HEAD>() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]);
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        if size > FRAME_BYTES {
            return Err(FrameError::Length(length));
        }
        let Some(content) = bytes.get(HEAD..HEAD + size) else { return Ok(None) };
        let frame = Frame::of(kind, content)?;
        self.taken += HEAD + size;
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn bytes(frames: &[Frame]) -> Vec<u8> {
        let mut out = Vec::new();
        frames.iter().for_each(|frame| frame.write(&mut out));
        out
    }

    fn read(pieces: &[&[u8]]) -> Result<Vec<Frame>, FrameError> {
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        for piece in pieces {
            decoder.feed(piece);
            while let Some(frame) = decoder.take()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn frames_to_the_byte() {
        assert_eq!(bytes(&[Frame::Input(b"ls\n".to_vec())]), b"\x01\0\0\0\x03ls\n");
        assert_eq!(
            bytes(&[Frame::Size { rows: 24, columns: 300 }]),
            b"\x03\0\0\0\x04\0\x18\x01\x2c"
        );
        assert_eq!(bytes(&[Frame::Exit(130)]), b"\x13\0\0\0\x01\x82");
    }

    #[test]
    fn a_frame_at_the_limit_is_read_and_one_byte_more_is_not() {
        let mut at = vec![16, 0, 1, 0, 0];
        at.resize(HEAD + FRAME_BYTES, b'x');
        assert_eq!(read(&[&at]), Ok(vec![Frame::Output(vec![b'x'; FRAME_BYTES])]));
        assert_eq!(read(&[&[16, 0, 1, 0, 1]]), Err(FrameError::Length(FRAME_BYTES as u32 + 1)));
        // What is longer is divided, or cut.
        let long = Frame::Output(vec![b'x'; FRAME_BYTES + 1]);
        assert_eq!(read(&[&bytes(&[long])]).unwrap().len(), 2);
        let Frame::Notice(text) =
            &read(&[&bytes(&[Frame::Notice("é".repeat(FRAME_BYTES))])]).unwrap()[0]
        else {
            panic!("no notice")
        };
        assert_eq!(text.len(), FRAME_BYTES);
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert_eq!(read(&[&[9, 0, 0, 0, 0]]), Err(FrameError::Kind(9)));
        assert_eq!(read(&[&[19, 0, 0, 0, 0]]), Err(FrameError::Content(19)));
        assert_eq!(read(&[&[18, 0, 0, 0, 1, 0xff]]), Err(FrameError::Content(18)));
    }

    fn frame() -> impl Strategy<Value = Frame> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..40);
        prop_oneof![
            bytes().prop_map(Frame::Input),
            Just(Frame::InputEnd),
            any::<(u16, u16)>().prop_map(|(rows, columns)| Frame::Size { rows, columns }),
            bytes().prop_map(Frame::Output),
            bytes().prop_map(Frame::Errors),
            "\\PC{0,20}".prop_map(Frame::Notice),
            any::<u8>().prop_map(Frame::Exit),
            "\\PC{0,20}".prop_map(Frame::Failed),
            Just(Frame::Alive),
        ]
    }

    proptest! {
        #[test]
        fn frames_are_read_as_they_were_written_however_they_are_cut(
            frames in prop::collection::vec(frame(), 0..12),
            cut in any::<prop::sample::Index>(),
        ) {
            let bytes = bytes(&frames);
            let (one, other) = bytes.split_at(cut.index(bytes.len() + 1));
            prop_assert_eq!(read(&[one, other]), Ok(frames));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&[&bytes]);
        }
    }
}
