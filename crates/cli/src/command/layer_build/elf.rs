//! As much of ELF as it takes to move a program into a layer: what it needs, and where it looks.
//!
//! A program in a layer cannot rely on the loader and the libraries of the system around it. It is
//! given a loader path (`PT_INTERP`) and a search path (`DT_RPATH`, which the libraries it loads go
//! by as well, and which comes before LD_LIBRARY_PATH) of its own. Both texts are longer than what
//! was there, so they go into a segment at the end of the file, whose header takes the place of a
//! note's.

use std::fmt;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
const READABLE: u32 = 4;

const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;
/// In the range that is left to systems, and of no meaning in any.
const DT_IGNORED: u64 = 0x6000_0fff;

const HEADER_BYTES: usize = 64;
const SEGMENT_BYTES: usize = 56;
const ENTRY_BYTES: usize = 16;

/// The instruction set a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Machine(u16);

impl Machine {
    pub(super) const X86_64: Machine = Machine(62);
    pub(super) const ARM64: Machine = Machine(183);

    pub(super) fn is(self, number: u16) -> bool {
        self.0 == number
    }

    /// The largest page that a kernel for it may have.
    fn page_bytes(self) -> u64 {
        if self == Machine::X86_64 { 0x1000 } else { 0x10000 }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Machine::X86_64 => f.write_str("x86_64"),
            Machine::ARM64 => f.write_str("arm64"),
            Machine(other) => write!(f, "ELF machine {other}"),
        }
    }
}

/// Why a file is not a program or library that can be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum ElfError {
    #[error("it is a script for {0}, and only programs that need no other can go into a layer")]
    Script(String),
    #[error("it is no ELF file")]
    NotElf,
    #[error("it is not a 64-bit little-endian ELF file")]
    Kind,
    #[error("its ELF structure is broken: {0}")]
    Broken(&'static str),
    #[error("there is no room in it for a search path of its own")]
    NoRoom,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    file_bytes: u64,
    memory_bytes: u64,
    align: u64,
}

/// A file that was understood.
#[derive(Debug)]
pub(super) struct Elf<'a> {
    bytes: &'a [u8],
    pub(super) machine: Machine,
    segments_at: usize,
    segments: Vec<Segment>,
    /// Where the entries are, and how many bytes there are for them; none in a static program.
    dynamic: Option<(usize, usize)>,
    /// Its loader.
    pub(super) interpreter: Option<String>,
    /// The libraries that it names.
    pub(super) needed: Vec<String>,
    /// Folders to look for them, before all others.
    pub(super) rpath: Vec<String>,
    /// Folders to look for them, and not for those that they name.
    pub(super) runpath: Vec<String>,
}

fn broken(what: &'static str) -> ElfError {
    ElfError::Broken(what)
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<u64, ElfError> {
    let end = at.checked_add(N).ok_or(broken("an offset is too large"))?;
    let part = bytes.get(at..end).ok_or(broken("it ends too early"))?;
    Ok(part.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, ElfError> {
    number::<2>(bytes, at).map(|value| value as u16)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, ElfError> {
    number::<4>(bytes, at).map(|value| value as u32)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, ElfError> {
    number::<8>(bytes, at)
}

fn size(value: u64) -> Result<usize, ElfError> {
    usize::try_from(value).map_err(|_| broken("a number is too large"))
}

impl Segment {
    fn parse(bytes: &[u8], at: usize) -> Result<Segment, ElfError> {
        Ok(Segment {
            kind: u32_at(bytes, at)?,
            flags: u32_at(bytes, at + 4)?,
            offset: u64_at(bytes, at + 8)?,
            address: u64_at(bytes, at + 16)?,
            file_bytes: u64_at(bytes, at + 32)?,
            memory_bytes: u64_at(bytes, at + 40)?,
            align: u64_at(bytes, at + 48)?,
        })
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.kind.to_le_bytes());
        bytes.extend_from_slice(&self.flags.to_le_bytes());
        for value in [
            self.offset,
            self.address,
            self.address,
            self.file_bytes,
            self.memory_bytes,
            self.align,
        ] {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
    }

    fn content<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], ElfError> {
        let start = size(self.offset)?;
        let end = start.checked_add(size(self.file_bytes)?);
        let range = end.and_then(|end| bytes.get(start..end));
        range.ok_or(broken("a segment is outside of the file"))
    }
}

fn text(bytes: &[u8]) -> Result<String, ElfError> {
    let end = bytes.iter().position(|byte| *byte == 0).ok_or(broken("a text has no end"))?;
    let text = str::from_utf8(&bytes[..end]).map_err(|_| broken("a text is not UTF-8"))?;
    Ok(text.to_owned())
}

fn folders(list: &str) -> Vec<String> {
    list.split(':').filter(|folder| !folder.is_empty()).map(str::to_owned).collect()
}

impl<'a> Elf<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Elf<'a>, ElfError> {
        if let Some(rest) = bytes.strip_prefix(b"#!") {
            let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let line = &line[..line.len().min(100)];
            return Err(ElfError::Script(String::from_utf8_lossy(line).trim().to_owned()));
        }
        if !bytes.starts_with(b"\x7fELF") {
            return Err(ElfError::NotElf);
        }
        if bytes.get(4..6) != Some(&[2, 1]) {
            return Err(ElfError::Kind);
        }
        let segments_at = size(u64_at(bytes, 32)?)?;
        if segments_at < HEADER_BYTES || usize::from(u16_at(bytes, 54)?) != SEGMENT_BYTES {
            return Err(broken("its program headers are not where they should be"));
        }
        let mut elf = Elf {
            bytes,
            machine: Machine(u16_at(bytes, 18)?),
            segments_at,
            segments: Vec::new(),
            dynamic: None,
            interpreter: None,
            needed: Vec::new(),
            rpath: Vec::new(),
            runpath: Vec::new(),
        };
        for index in 0..usize::from(u16_at(bytes, 56)?) {
            let at = segments_at.checked_add(index * SEGMENT_BYTES);
            let at = at.ok_or(broken("an offset is too large"))?;
            elf.segments.push(Segment::parse(bytes, at)?);
        }
        elf.interpreter = match elf.segment(PT_INTERP) {
            Some(segment) => Some(text(segment.content(bytes)?)?),
            None => None,
        };
        if let Some(segment) = elf.segment(PT_DYNAMIC) {
            elf.dynamic = Some((size(segment.offset)?, segment.content(bytes)?.len()));
            elf.read_dynamic()?;
        }
        Ok(elf)
    }

    fn segment(&self, kind: u32) -> Option<Segment> {
        self.segments.iter().find(|segment| segment.kind == kind).copied()
    }

    /// Where in the file an address is.
    fn offset(&self, address: u64) -> Result<usize, ElfError> {
        let within = |segment: &&Segment| {
            segment.kind == PT_LOAD
                && address >= segment.address
                && address - segment.address < segment.file_bytes
        };
        let segment = self.segments.iter().find(within);
        let segment = segment.ok_or(broken("an address is outside of the file"))?;
        let offset = segment.offset.checked_add(address - segment.address);
        size(offset.ok_or(broken("an offset is too large"))?)
    }

    /// The dynamic entries, as offset, tag and value; without the end.
    fn entries(&self) -> Result<Vec<(usize, u64, u64)>, ElfError> {
        let mut entries = Vec::new();
        let Some((at, length)) = self.dynamic else { return Ok(entries) };
        for index in 0..length / ENTRY_BYTES {
            let at = at + index * ENTRY_BYTES;
            let tag = u64_at(self.bytes, at)?;
            if tag == DT_NULL {
                break;
            }
            entries.push((at, tag, u64_at(self.bytes, at + 8)?));
        }
        Ok(entries)
    }

    fn strings(&self) -> Result<&'a [u8], ElfError> {
        let entries = self.entries()?;
        let value = |tag| entries.iter().find(|entry| entry.1 == tag).map(|entry| entry.2);
        let (Some(address), Some(length)) = (value(DT_STRTAB), value(DT_STRSZ)) else {
            return Err(broken("it has no table of strings"));
        };
        let start = self.offset(address)?;
        let end = start.checked_add(size(length)?);
        let strings = end.and_then(|end| self.bytes.get(start..end));
        strings.ok_or(broken("its table of strings is outside of the file"))
    }

    fn read_dynamic(&mut self) -> Result<(), ElfError> {
        let entries = self.entries()?;
        // A static program that can be anywhere has entries too, and no names.
        if !entries.iter().any(|entry| matches!(entry.1, DT_NEEDED | DT_RPATH | DT_RUNPATH)) {
            return Ok(());
        }
        let strings = self.strings()?;
        for (_, tag, value) in entries {
            let string = || {
                let rest = strings.get(size(value)?..);
                text(rest.ok_or(broken("a name is outside of the table of strings"))?)
            };
            match tag {
                DT_NEEDED => self.needed.push(string()?),
                DT_RPATH => self.rpath = folders(&string()?),
                DT_RUNPATH => self.runpath = folders(&string()?),
                _ => {}
            }
        }
        Ok(())
    }

    /// The same library without folders of its own to look in: it is found, and so are those that it
    /// names, where the program says.
    pub(super) fn without_search_path(&self) -> Result<Vec<u8>, ElfError> {
        let mut out = self.bytes.to_vec();
        for (at, tag, _) in self.entries()? {
            if matches!(tag, DT_RPATH | DT_RUNPATH) {
                out[at..at + 8].copy_from_slice(&DT_IGNORED.to_le_bytes());
            }
        }
        Ok(out)
    }

    /// The same program with another loader and libraries from one folder.
    pub(super) fn relocated(&self, loader: &str, folder: &str) -> Result<Vec<u8>, ElfError> {
        let Some((dynamic_at, dynamic_bytes)) = self.dynamic else {
            return Ok(self.bytes.to_vec());
        };
        if self.interpreter.is_none() {
            return Ok(self.bytes.to_vec());
        }
        let mut out = self.bytes.to_vec();
        let page = self.machine.page_bytes();
        let round_up = |value: u64| value.checked_next_multiple_of(page).ok_or(ElfError::NoRoom);
        let loads = || self.segments.iter().filter(|segment| segment.kind == PT_LOAD);
        let end = loads().filter_map(|s| s.address.checked_add(s.memory_bytes)).max();
        let address = round_up(end.ok_or(broken("it has nothing to load"))?)?;
        let offset = round_up(out.len() as u64)?;
        out.resize(size(offset)?, 0);

        // The loader's path, then the strings with one more of them.
        out.extend_from_slice(loader.as_bytes());
        out.push(0);
        let strings = self.strings()?;
        let strings_address = address + loader.len() as u64 + 1;
        out.extend_from_slice(strings);
        out.extend_from_slice(folder.as_bytes());
        out.push(0);
        let length = out.len() as u64 - offset;

        let mut segments = self.segments.clone();
        let note = segments.iter().position(|segment| segment.kind == PT_NOTE);
        segments.remove(note.ok_or(ElfError::NoRoom)?);
        // The system wants them by address.
        let last = segments.iter().rposition(|segment| segment.kind == PT_LOAD);
        let added = Segment {
            kind: PT_LOAD,
            flags: READABLE,
            offset,
            address,
            file_bytes: length,
            memory_bytes: length,
            align: page,
        };
        segments.insert(last.ok_or(broken("it has nothing to load"))? + 1, added);
        for segment in segments.iter_mut().filter(|segment| segment.kind == PT_INTERP) {
            let length = loader.len() as u64 + 1;
            (segment.offset, segment.address) = (offset, address);
            (segment.file_bytes, segment.memory_bytes) = (length, length);
        }
        let mut headers = Vec::with_capacity(segments.len() * SEGMENT_BYTES);
        segments.iter().for_each(|segment| segment.write(&mut headers));
        out[self.segments_at..self.segments_at + headers.len()].copy_from_slice(&headers);

        let entries = self.entries()?;
        let mut set = |at: usize, tag: u64, value: u64| {
            out[at..at + 8].copy_from_slice(&tag.to_le_bytes());
            out[at + 8..at + 16].copy_from_slice(&value.to_le_bytes());
        };
        let path = strings.len() as u64;
        for (at, tag, value) in &entries {
            match *tag {
                DT_STRTAB => set(*at, DT_STRTAB, strings_address),
                DT_STRSZ => set(*at, DT_STRSZ, path + folder.len() as u64 + 1),
                DT_RPATH | DT_RUNPATH => set(*at, DT_IGNORED, *value),
                _ => {}
            }
        }
        let free = dynamic_at + entries.len() * ENTRY_BYTES;
        match entries.iter().find(|entry| matches!(entry.1, DT_RPATH | DT_RUNPATH)) {
            Some((at, ..)) => set(*at, DT_RPATH, path),
            // One is the end; linkers leave a few more.
            None if free + 2 * ENTRY_BYTES <= dynamic_at + dynamic_bytes => {
                set(free, DT_RPATH, path);
                set(free + ENTRY_BYTES, DT_NULL, 0);
            }
            None => return Err(ElfError::NoRoom),
        }
        Ok(out)
    }
}

/// Replaces the beginning of paths in a program by one that is as long: shorter ones are filled up
/// with slashes, of which several are as good as one. The number of places that were changed.
pub(super) fn redirect(bytes: &mut [u8], from: &str, to: &str) -> usize {
    assert!(to.len() <= from.len(), "{to} does not fit into the place of {from}");
    let (folder, name) = to.rsplit_once('/').unwrap_or(("", to));
    let fill = "/".repeat(from.len() - to.len() + 1);
    let replacement = format!("{folder}{fill}{name}");
    let mut changed = 0;
    let mut at = 0;
    while let Some(found) = find(&bytes[at..], from.as_bytes()) {
        at += found;
        bytes[at..at + from.len()].copy_from_slice(replacement.as_bytes());
        at += from.len();
        changed += 1;
    }
    changed
}

/// Where a text stands in a file for the first time.
pub(super) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, what)
}

#[cfg(test)]
mod tests;
