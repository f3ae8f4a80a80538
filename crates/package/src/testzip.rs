//! Writes zips byte by byte, wrong ones too.

use flate2::Compression;
use flate2::write::DeflateEncoder;
use std::fs::File;
use std::io::Write;

/// How the data descriptor of a streamed entry is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Descriptor {
    pub(crate) signature: bool,
    pub(crate) wide: bool,
}

/// One entry; every field that a tool could get wrong can be overridden.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) data: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) unix: bool,
    pub(crate) method: u16,
    pub(crate) flags: u16,
    pub(crate) descriptor: Option<Descriptor>,
    pub(crate) zip64: bool,
    pub(crate) local_name: Option<Vec<u8>>,
    pub(crate) local_method: Option<u16>,
    pub(crate) local_crc: Option<u32>,
    pub(crate) crc: Option<u32>,
    pub(crate) bytes: Option<u64>,
    pub(crate) compressed_bytes: Option<u64>,
    /// Share the local header of the entry with this number instead of writing one.
    pub(crate) shares: Option<usize>,
}

impl Entry {
    pub(crate) fn file(name: impl Into<Vec<u8>>, data: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.into(),
            data: data.into(),
            mode: 0o100_644,
            unix: true,
            method: 8,
            flags: 0,
            descriptor: None,
            zip64: false,
            local_name: None,
            local_method: None,
            local_crc: None,
            crc: None,
            bytes: None,
            compressed_bytes: None,
            shares: None,
        }
    }

    pub(crate) fn program(name: impl Into<Vec<u8>>, data: impl Into<Vec<u8>>) -> Self {
        Self::file(name, data).mode(0o100_755)
    }

    pub(crate) fn folder(name: impl Into<Vec<u8>>) -> Self {
        Self { method: 0, ..Self::file(name, "").mode(0o040_755) }
    }

    pub(crate) fn link(name: impl Into<Vec<u8>>, target: impl Into<Vec<u8>>) -> Self {
        Self { method: 0, ..Self::file(name, target).mode(0o120_777) }
    }

    pub(crate) fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    pub(crate) fn stored(mut self) -> Self {
        self.method = 0;
        self
    }
}

/// The zip as an unnamed file.
pub(crate) fn zip(entries: &[Entry]) -> File {
    file(&bytes(entries))
}

pub(crate) fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("temporary file");
    file.write_all(bytes).expect("write the zip");
    file
}

pub(crate) fn bytes(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    let mut offsets = Vec::new();
    for entry in entries {
        let packed = if entry.method == 8 { deflated(&entry.data) } else { entry.data.clone() };
        let real_crc = crc(&entry.data);
        let crc = entry.crc.unwrap_or(real_crc);
        let size = entry.bytes.unwrap_or(entry.data.len() as u64);
        let packed_size = entry.compressed_bytes.unwrap_or(packed.len() as u64);
        let streamed = entry.descriptor.is_some();
        let flags = entry.flags | if streamed { 8 } else { 0 };
        offsets.push(match entry.shares {
            Some(other) => offsets[other],
            None => out.len() as u64,
        });
        if entry.shares.is_none() {
            let name = entry.local_name.as_ref().unwrap_or(&entry.name);
            let local_crc = if streamed { 0 } else { entry.local_crc.unwrap_or(crc) };
            let (sizes, extra) = match (streamed, entry.zip64) {
                (true, false) => ([0, 0], Vec::new()),
                (true, true) => ([u32::MAX; 2], zip64(&[0, 0])),
                (false, true) => ([u32::MAX; 2], zip64(&[size, packed_size])),
                (false, false) => ([packed_size as u32, size as u32], Vec::new()),
            };
            out.extend(b"PK\x03\x04");
            shorts(&mut out, &[45, flags, entry.local_method.unwrap_or(entry.method), 0, 0x5821]);
            words(&mut out, &[local_crc, sizes[0], sizes[1]]);
            shorts(&mut out, &[name.len() as u16, extra.len() as u16]);
            out.extend(name);
            out.extend(extra);
            out.extend(&packed);
        }
        if let Some(descriptor) = entry.descriptor {
            if descriptor.signature {
                out.extend(b"PK\x07\x08");
            }
            words(&mut out, &[crc]);
            if descriptor.wide {
                out.extend(packed_size.to_le_bytes());
                out.extend(size.to_le_bytes());
            } else {
                words(&mut out, &[packed_size as u32, size as u32]);
            }
        }
        let offset = offsets[offsets.len() - 1];
        let extra = if entry.zip64 { zip64(&[size, packed_size, offset]) } else { Vec::new() };
        let wide = |value: u64| if entry.zip64 { u32::MAX } else { value as u32 };
        directory.extend(b"PK\x01\x02");
        let made_by = if entry.unix { 3 << 8 | 45 } else { 45 };
        shorts(&mut directory, &[made_by, 45, flags, entry.method, 0, 0x5821]);
        words(&mut directory, &[crc, wide(packed_size), wide(size)]);
        shorts(&mut directory, &[entry.name.len() as u16, extra.len() as u16, 0, 0, 0]);
        words(&mut directory, &[entry.mode << 16, wide(offset)]);
        directory.extend(&entry.name);
        directory.extend(extra);
    }
    let start = out.len() as u64;
    out.extend(&directory);
    let end = out.len() as u64;
    let large = entries.len() > 65_534 || entries.iter().any(|entry| entry.zip64);
    if large {
        out.extend(b"PK\x06\x06");
        out.extend(44_u64.to_le_bytes());
        shorts(&mut out, &[3 << 8 | 45, 45]);
        words(&mut out, &[0, 0]);
        for value in [entries.len() as u64, entries.len() as u64, end - start, start] {
            out.extend(value.to_le_bytes());
        }
        out.extend(b"PK\x06\x07");
        words(&mut out, &[0]);
        out.extend(end.to_le_bytes());
        words(&mut out, &[1]);
    }
    out.extend(b"PK\x05\x06");
    let count = if large { u16::MAX } else { entries.len() as u16 };
    shorts(&mut out, &[0, 0, count, count]);
    let narrow = |value: u64| if large { u32::MAX } else { value as u32 };
    words(&mut out, &[narrow(end - start), narrow(start)]);
    shorts(&mut out, &[0]);
    out
}

fn zip64(values: &[u64]) -> Vec<u8> {
    let mut extra = Vec::new();
    shorts(&mut extra, &[1, (values.len() * 8) as u16]);
    for value in values {
        extra.extend(value.to_le_bytes());
    }
    extra
}

fn deflated(data: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).expect("deflate");
    encoder.finish().expect("deflate")
}

fn crc(data: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(data);
    crc.sum()
}

fn shorts(out: &mut Vec<u8>, values: &[u16]) {
    for value in values {
        out.extend(value.to_le_bytes());
    }
}

fn words(out: &mut Vec<u8>, values: &[u32]) {
    for value in values {
        out.extend(value.to_le_bytes());
    }
}
