use super::*;
use proptest::prelude::*;

/// A program as a linker makes it: two segments to load, a note, and room for `spare` more dynamic
/// entries.
fn program(spare: usize) -> Vec<u8> {
    let strings = b"\0libc.so.6\0/own/lib:$ORIGIN\0";
    let loader = b"/lib64/ld-linux-x86-64.so.2\0";
    let headers = 5;
    let interp_at = HEADER_BYTES + headers * SEGMENT_BYTES;
    let strings_at = interp_at + loader.len();
    let dynamic_at = strings_at + strings.len();
    let entries =
        [(DT_NEEDED, 1), (DT_STRTAB, strings_at as u64), (DT_STRSZ, strings.len() as u64)];
    let dynamic_bytes = (entries.len() + 1 + spare) * ENTRY_BYTES;
    let end = dynamic_at + dynamic_bytes;
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[18] = 62;
    bytes[32] = 64;
    bytes[54] = 56;
    bytes[56] = headers as u8;
    let segment = |kind, offset: usize, size: usize| Segment {
        kind,
        flags: READABLE,
        offset: offset as u64,
        address: offset as u64,
        file_bytes: size as u64,
        memory_bytes: size as u64,
        align: 0x1000,
    };
    for segment in [
        segment(PT_INTERP, interp_at, loader.len()),
        segment(PT_LOAD, 0, end),
        segment(PT_NOTE, 0, 0),
        segment(PT_DYNAMIC, dynamic_at, dynamic_bytes),
        Segment { address: 0x10_0000, ..segment(PT_LOAD, 0, 0) },
    ] {
        segment.write(&mut bytes);
    }
    bytes.extend_from_slice(loader);
    bytes.extend_from_slice(strings);
    for (tag, value) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    bytes.resize(end, 0);
    bytes
}

#[test]
fn a_program_says_what_it_needs() {
    let bytes = program(1);
    let elf = Elf::parse(&bytes).unwrap();
    assert_eq!(elf.machine, Machine::X86_64);
    assert_eq!(elf.interpreter.as_deref(), Some("/lib64/ld-linux-x86-64.so.2"));
    assert_eq!(elf.needed, ["libc.so.6"]);
    assert!(elf.rpath.is_empty() && elf.runpath.is_empty());
}

#[test]
fn a_program_gets_a_loader_and_a_folder_of_its_own() {
    let bytes = program(1);
    let moved = Elf::parse(&bytes).unwrap().relocated("/opt/x/lib/ld.so", "/opt/x/lib").unwrap();
    let elf = Elf::parse(&moved).unwrap();
    assert_eq!(elf.interpreter.as_deref(), Some("/opt/x/lib/ld.so"));
    assert_eq!((elf.needed, elf.rpath), (vec!["libc.so.6".to_owned()], folders("/opt/x/lib")));
    let loads: Vec<_> = elf.segments.iter().filter(|s| s.kind == PT_LOAD).collect();
    assert_eq!(loads.len(), 3);
    assert!(loads.is_sorted_by_key(|segment| segment.address));
    assert_eq!(loads[2].offset % 0x1000, loads[2].address % 0x1000);
    // Once more, over what is there now.
    let again = Elf::parse(&moved).unwrap();
    assert_eq!(again.relocated("/opt/y/ld.so", "/opt/y").unwrap_err(), ElfError::NoRoom);
    assert_eq!(Elf::parse(&program(0)).unwrap().relocated("/l", "/f"), Err(ElfError::NoRoom));
}

#[test]
fn a_library_loses_its_own_folders() {
    let mut bytes = program(1);
    let at = bytes.len() - 2 * ENTRY_BYTES;
    bytes[at..at + 8].copy_from_slice(&DT_RUNPATH.to_le_bytes());
    bytes[at + 8..at + 16].copy_from_slice(&11u64.to_le_bytes());
    let elf = Elf::parse(&bytes).unwrap();
    assert_eq!(elf.runpath, ["/own/lib", "$ORIGIN"]);
    let bytes = elf.without_search_path().unwrap();
    assert!(Elf::parse(&bytes).unwrap().runpath.is_empty());
}

#[test]
fn what_is_no_program_is_named() {
    let parse = |bytes: &[u8]| Elf::parse(bytes).unwrap_err();
    assert_eq!(parse(b"#!/usr/bin/perl -w\nx"), ElfError::Script("/usr/bin/perl -w".to_owned()));
    assert_eq!(parse(b"MZ"), ElfError::NotElf);
    assert_eq!(parse(b"\x7fELF\x01\x01"), ElfError::Kind);
    assert!(matches!(parse(b"\x7fELF\x02\x01"), ElfError::Broken(_)));
}

#[test]
fn paths_are_redirected_in_their_place() {
    let mut bytes = b"\0/usr/share/zoneinfo/%s\0/usr/share/zoneinfo\0/usr/share\0".to_vec();
    assert_eq!(redirect(&mut bytes, "/usr/share/zoneinfo", "/opt/lambfold-php/z"), 2);
    assert_eq!(bytes, b"\0/opt/lambfold-php/z/%s\0/opt/lambfold-php/z\0/usr/share\0");
    let mut bytes = b"/usr/lib/a/gconv/x".to_vec();
    assert_eq!(redirect(&mut bytes, "/usr/lib/a/gconv", "/opt/gconv"), 1);
    assert_eq!(bytes, b"/opt///////gconv/x");
}

proptest! {
    #[test]
    fn any_bytes_are_understood_or_refused(
        changes in proptest::collection::vec((0usize..500, any::<u8>()), 0..20),
        length in 0usize..600,
    ) {
        let mut bytes = program(2);
        for (at, value) in changes {
            let at = at % bytes.len();
            // Past the mark, which would end it all at once.
            if at > 5 {
                bytes[at] = value;
            }
        }
        bytes.truncate(length.max(6));
        if let Ok(elf) = Elf::parse(&bytes) {
            let _ = elf.without_search_path();
            // A segment may be said to be at the end of the address space.
            let sane = |s: &Segment| s.address < 1 << 40 && s.memory_bytes < 1 << 40;
            if elf.segments.iter().all(sane) {
                let _ = elf.relocated("/opt/l", "/opt/f");
            }
        }
    }
}
