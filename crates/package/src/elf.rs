use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const PROGRAM_HEADERS: u16 = 128;
const LOADER_BYTES: u64 = 4_096;
const PT_INTERP: u32 = 3;

/// What the kernel looks at before it starts an ELF program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Elf {
    /// For example `x86_64`, `arm64`, `32-bit x86`.
    pub(crate) machine: String,
    /// Path of the dynamic loader; `None` for a static program.
    pub(crate) loader: Option<Vec<u8>>,
}

/// Reads the headers of an ELF file that begins with `head`; a damaged one has no loader.
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
    let loader = if wide && little { loader(file, head).ok().flatten() } else { None };
    Some(Elf { machine, loader })
}

fn loader(file: &File, head: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let (Some(table), Some(size), Some(count)) =
        (u64_at(head, 32), u16_at(head, 54), u16_at(head, 56))
    else {
        return Ok(None);
    };
    if size < 56 {
        return Ok(None);
    }
    for number in 0..count.min(PROGRAM_HEADERS) {
        let mut header = [0; 56];
        let offset = table.saturating_add(u64::from(number) * u64::from(size));
        file.read_exact_at(&mut header, offset)?;
        if u32_at(&header, 0) != Some(PT_INTERP) {
            continue;
        }
        let (Some(offset), Some(bytes)) = (u64_at(&header, 8), u64_at(&header, 32)) else {
            return Ok(None);
        };
        let mut text = vec![0; usize::try_from(bytes.min(LOADER_BYTES)).unwrap_or_default()];
        file.read_exact_at(&mut text, offset)?;
        while text.last() == Some(&0) {
            text.pop();
        }
        return Ok(Some(text));
    }
    Ok(None)
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
