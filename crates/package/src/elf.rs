use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const PROGRAM_HEADERS: u16 = 128;
/// Longest path or name that is read.
const TEXT_BYTES: usize = 4_096;
/// Most entries of a dynamic section that are read.
const ENTRIES: usize = 4_096;
/// Most libraries that a file is believed to name.
const NEEDED: usize = 512;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;

const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;

/// What the kernel and the dynamic loader look at before an ELF program runs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Elf {
    /// For example `x86_64`, `arm64`, `32-bit x86`.
    pub(crate) machine: String,
    /// Path of the dynamic loader; `None` for a static program, and for a library.
    pub(crate) loader: Option<Vec<u8>>,
    /// Names, or paths, of the libraries that it is linked with.
    pub(crate) needed: Vec<Vec<u8>>,
    /// Folders to look for them, and for those that they name, before all others.
    pub(crate) rpath: Vec<u8>,
    /// Folders to look for them, after `LD_LIBRARY_PATH`; with it `rpath` is not looked at.
    pub(crate) runpath: Vec<u8>,
}

/// Reads the headers of an ELF file that begins with `head`. Only what is asked for is read, however
/// large the file is; a damaged one has no loader, or names no library.
pub(crate) fn read(file: &File, head: &[u8]) -> Option<Elf> {
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let wide = head.get(4) == Some(&2);
    let little = head.get(5) == Some(&1);
    let number = u16_at(head, 18).unwrap_or_default();
    let machine = match (number, wide && little) {
        (62, true) => "x86_64".to_owned(),
        (183, true) => "arm64".to_owned(),
        (3, _) => "32-bit x86".to_owned(),
        (40, _) => "32-bit arm".to_owned(),
        (other, _) => format!("machine number {other}"),
    };
    let mut elf = Elf { machine, ..Elf::default() };
    if wide && little {
        let segments = segments(file, head).unwrap_or_default();
        elf.loader = loader(file, &segments).ok().flatten();
        // What was read before the damage stays.
        let _ = dynamic(file, &segments, &mut elf);
    }
    Some(elf)
}

/// A part of the file, and where it is in memory.
#[derive(Debug)]
struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    bytes: u64,
}

fn segments(file: &File, head: &[u8]) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    let (Some(table), Some(size), Some(count)) =
        (u64_at(head, 32), u16_at(head, 54), u16_at(head, 56))
    else {
        return Ok(segments);
    };
    if size < 56 {
        return Ok(segments);
    }
    for number in 0..count.min(PROGRAM_HEADERS) {
        let mut header = [0; 56];
        let offset = table.saturating_add(u64::from(number) * u64::from(size));
        if file.read_exact_at(&mut header, offset).is_err() {
            break;
        }
        let long = |at| u64_at(&header, at).unwrap_or_default();
        segments.push(Segment {
            kind: u32_at(&header, 0).unwrap_or_default(),
            offset: long(8),
            address: long(16),
            bytes: long(32),
        });
    }
    Ok(segments)
}

fn loader(file: &File, segments: &[Segment]) -> io::Result<Option<Vec<u8>>> {
    let Some(segment) = segments.iter().find(|segment| segment.kind == PT_INTERP) else {
        return Ok(None);
    };
    let mut text = vec![0; usize::try_from(segment.bytes).unwrap_or(TEXT_BYTES).min(TEXT_BYTES)];
    file.read_exact_at(&mut text, segment.offset)?;
    while text.last() == Some(&0) {
        text.pop();
    }
    Ok(Some(text))
}

fn dynamic(file: &File, segments: &[Segment], elf: &mut Elf) -> io::Result<()> {
    let Some(segment) = segments.iter().find(|segment| segment.kind == PT_DYNAMIC) else {
        return Ok(());
    };
    let count = usize::try_from(segment.bytes / 16).unwrap_or(ENTRIES).min(ENTRIES);
    let mut entries = Vec::new();
    for number in 0..count {
        let mut entry = [0; 16];
        file.read_exact_at(&mut entry, segment.offset.saturating_add(number as u64 * 16))?;
        let (tag, value) = (u64_at(&entry, 0), u64_at(&entry, 8));
        match (tag, value) {
            (Some(DT_NULL) | None, _) | (_, None) => break,
            (Some(tag), Some(value)) => entries.push((tag, value)),
        }
    }
    let value = |wanted| entries.iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value);
    let strings = value(DT_STRTAB).and_then(|address| {
        let within = |segment: &&Segment| {
            segment.kind == PT_LOAD
                && address >= segment.address
                && address - segment.address < segment.bytes
        };
        let segment = segments.iter().find(within)?;
        segment.offset.checked_add(address - segment.address)
    });
    let Some(strings) = strings else { return Ok(()) };
    for (tag, value) in entries {
        if !matches!(tag, DT_NEEDED | DT_RPATH | DT_RUNPATH) {
            continue;
        }
        let text = text(file, strings.saturating_add(value))?;
        match tag {
            DT_NEEDED if elf.needed.len() < NEEDED => elf.needed.push(text),
            DT_RPATH => elf.rpath = text,
            DT_RUNPATH => elf.runpath = text,
            _ => {}
        }
    }
    Ok(())
}

/// A text that ends in a zero byte.
fn text(file: &File, at: u64) -> io::Result<Vec<u8>> {
    let mut text = vec![0; TEXT_BYTES];
    let count = file.read_at(&mut text, at)?;
    text.truncate(count);
    match text.iter().position(|byte| *byte == 0) {
        Some(end) => text.truncate(end),
        None => return Err(io::ErrorKind::InvalidData.into()),
    }
    Ok(text)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}
