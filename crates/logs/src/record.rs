//! The bytes of a segment file.
//!
//! A segment is [`MAGIC`] and then blocks: length and CRC-32 of the payload (u32, little
//! endian), payload. A payload is the stream's name (u16 length, bytes) and then records: time
//! (u64 ms), sequence (u64), length (u32), message. A block that is cut or damaged is passed over.

/// First bytes of a segment; the digit is the version of the format.
pub(crate) const MAGIC: &[u8; 8] = b"LBFLOG1\n";
/// Bytes in front of a block's payload.
pub(crate) const BLOCK_HEADER: usize = 8;
/// Bytes in front of a record's message.
pub(crate) const RECORD_HEADER: usize = 20;
/// Largest payload that is believed, bytes; twice the largest buffer of a stream.
pub(crate) const MAX_PAYLOAD: usize = 2 * MAX_BUFFER;
/// Largest buffer of a stream, bytes.
pub(crate) const MAX_BUFFER: usize = 8 << 20;

/// One event in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) epoch_ms: u64,
    pub(crate) sequence: u64,
    pub(crate) message: &'a [u8],
}

pub(crate) fn push_record(records: &mut Vec<u8>, epoch_ms: u64, sequence: u64, message: &[u8]) {
    records.extend_from_slice(&epoch_ms.to_le_bytes());
    records.extend_from_slice(&sequence.to_le_bytes());
    records.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_le_bytes());
    records.extend_from_slice(message);
}

/// Appends a block of records that belong to one stream.
pub(crate) fn push_block(segment: &mut Vec<u8>, stream: &str, records: &[u8]) {
    let name = &stream.as_bytes()[..stream.len().min(usize::from(u16::MAX))];
    let start = segment.len() + BLOCK_HEADER;
    segment.reserve(BLOCK_HEADER + 2 + name.len() + records.len());
    segment.extend_from_slice(&[0; BLOCK_HEADER]);
    segment.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes());
    segment.extend_from_slice(name);
    segment.extend_from_slice(records);
    let length = u32::try_from(segment.len() - start).unwrap_or(u32::MAX);
    let checksum = crc32fast::hash(&segment[start..]);
    segment[start - 8..start - 4].copy_from_slice(&length.to_le_bytes());
    segment[start - 4..start].copy_from_slice(&checksum.to_le_bytes());
}

/// The records of a buffer or of a block's payload.
pub(crate) struct Records<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let (header, rest) = self.0.split_at_checked(RECORD_HEADER)?;
        let number = |range: std::ops::Range<usize>| header.get(range)?.try_into().ok();
        let epoch_ms = u64::from_le_bytes(number(0..8)?);
        let sequence = u64::from_le_bytes(number(8..16)?);
        let length = u32::from_le_bytes(header.get(16..20)?.try_into().ok()?);
        let (message, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(Record { epoch_ms, sequence, message })
    }
}

/// The intact blocks of a segment, as `(stream, records)`.
pub(crate) struct Blocks<'a> {
    bytes: &'a [u8],
    at: usize,
    intact_end: usize,
}

impl<'a> Blocks<'a> {
    /// Over the content of a file; a file that is no segment has no blocks.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let at = if bytes.starts_with(MAGIC) { MAGIC.len() } else { bytes.len() };
        let intact_end = if bytes.starts_with(MAGIC) { MAGIC.len() } else { 0 };
        Self { bytes, at, intact_end }
    }

    /// Where the last intact block ends that was seen so far; 0 when the file is no segment.
    pub(crate) fn intact_end(&self) -> usize {
        self.intact_end
    }
}

impl<'a> Iterator for Blocks<'a> {
    type Item = (&'a str, Records<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self.bytes.get(self.at..)?;
            let (header, rest) = rest.split_at_checked(BLOCK_HEADER)?;
            let length = u32::from_le_bytes(header.get(..4)?.try_into().ok()?);
            let checksum = u32::from_le_bytes(header.get(4..)?.try_into().ok()?);
            let length = usize::try_from(length).ok().filter(|n| (2..=MAX_PAYLOAD).contains(n))?;
            let payload = rest.get(..length)?;
            self.at += BLOCK_HEADER + length;
            if crc32fast::hash(payload) != checksum {
                continue;
            }
            self.intact_end = self.at;
            let (name, records) = payload.split_at_checked(2)?;
            let name_length = usize::from(u16::from_le_bytes(name.try_into().ok()?));
            let Some((name, records)) = records.split_at_checked(name_length) else { continue };
            if let Ok(name) = std::str::from_utf8(name) {
                return Some((name, Records(records)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment(blocks: &[(String, Vec<Vec<u8>>)]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for (stream, messages) in blocks {
            let mut records = Vec::new();
            for (n, message) in (1..).zip(messages) {
                push_record(&mut records, 1000 + n, n, message);
            }
            push_block(&mut bytes, stream, &records);
        }
        bytes
    }

    fn messages(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
        Blocks::new(bytes)
            .flat_map(|(stream, records)| {
                records
                    .map(|record| (stream.to_owned(), record.message.to_vec()))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    fn blocks() -> impl Strategy<Value = Vec<(String, Vec<Vec<u8>>)>> {
        let message = proptest::collection::vec(any::<u8>(), 0..40);
        let block = ("[a-z$\\[\\]/]{0,12}", proptest::collection::vec(message, 0..5));
        proptest::collection::vec(block, 0..6)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(blocks in blocks()) {
            let bytes = segment(&blocks);
            let expected: Vec<_> = blocks
                .iter()
                .flat_map(|(stream, messages)| messages.iter().map(move |m| (stream.clone(), m.clone())))
                .collect();
            prop_assert_eq!(messages(&bytes), expected);
            let mut reader = Blocks::new(&bytes);
            reader.by_ref().for_each(drop);
            prop_assert_eq!(reader.intact_end(), bytes.len());
        }

        #[test]
        fn random_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), real in any::<bool>()) {
            if real {
                bytes.splice(0..0, MAGIC.iter().copied());
            }
            let _ = messages(&bytes);
            let _ = Records(&bytes).count();
        }

        #[test]
        fn a_cut_keeps_what_was_whole(blocks in blocks(), cut in 0usize..2000) {
            let whole = segment(&blocks);
            let cut = cut.min(whole.len());
            let kept = messages(&whole[..cut]);
            prop_assert_eq!(&messages(&whole)[..kept.len()], &kept[..]);
        }

        #[test]
        fn a_flipped_bit_loses_blocks_and_invents_nothing(blocks in blocks(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = segment(&blocks);
            let before = messages(&bytes);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            for message in messages(&bytes) {
                prop_assert!(before.contains(&message));
            }
        }
    }
}
