#![allow(clippy::unwrap_used)]

use super::*;
use crate::testzip::{Descriptor, Entry, bytes, file, zip};
use rawzip::time::ZipDateTime;

fn open(entries: &[Entry]) -> Result<Archive, Rejection> {
    open_within(entries, &Limits::default())
}

fn open_within(entries: &[Entry], limits: &Limits) -> Result<Archive, Rejection> {
    rejection(Archive::open(&zip(entries), limits))
}

fn rejection<T>(result: Result<T, PackageError>) -> Result<T, Rejection> {
    result.map_err(|error| match error {
        PackageError::Rejected(rejection) => rejection,
        other => panic!("not a rejection: {other:?}"),
    })
}

/// Opens and unpacks into nowhere.
fn read(entries: &[Entry]) -> Result<(), Rejection> {
    let archive = open(entries)?;
    for (path, node) in &archive.nodes {
        if let Node::File { data, .. } | Node::Link { data } = node {
            rejection(archive.copy(path, data, &mut io::sink()))?;
        }
    }
    Ok(())
}

fn refused(entries: &[Entry]) -> Rejection {
    read(entries).expect_err("should be refused")
}

fn contradicts(entry: Entry) -> &'static str {
    match refused(&[entry]) {
        Rejection::Contradiction { what, .. } => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn civil_times_become_unix_times() {
    for seconds in [0, 951_782_400, 951_868_800, 1_700_000_000, 4_102_444_799, 315_532_800] {
        let time = ZipDateTimeKind::Utc(ZipDateTime::from_unix(seconds));
        assert_eq!(unix_seconds(&time), seconds);
    }
}

#[test]
fn what_is_no_zip_is_refused_in_the_words_of_aws() {
    let unzip = "Could not unzip uploaded file. Please check your file, then try to upload again.";
    let open = |bytes: &[u8]| {
        rejection(Archive::open(&file(bytes), &Limits::default())).err().unwrap().to_string()
    };
    assert_eq!(open(b""), "Uploaded file must be a non-empty zip");
    assert_eq!(open(&bytes(&[])), "Uploaded file must be a non-empty zip");
    assert_eq!(open(&bytes(&[Entry::folder("./")])), "Uploaded file must be a non-empty zip");
    assert_eq!(open(b"not a zip"), unzip);
    assert_eq!(open(&[0; 4096]), unzip);
    let whole = bytes(&[Entry::file("bootstrap", "#!/bin/sh\n")]);
    for length in 1..whole.len() {
        assert_eq!(open(&whole[..length]), unzip, "cut at {length}");
    }
    // A missing start shows in the offsets.
    assert_ne!(read_bytes(&whole[1..]), Ok(()));
}

fn read_bytes(bytes: &[u8]) -> Result<(), Rejection> {
    let archive = rejection(Archive::open(&file(bytes), &Limits::default()))?;
    for (path, node) in &archive.nodes {
        if let Node::File { data, .. } = node {
            rejection(archive.copy(path, data, &mut io::sink()))?;
        }
    }
    Ok(())
}

#[test]
fn an_end_record_that_counts_other_entries_is_refused() {
    let mut whole = bytes(&[Entry::file("a", ""), Entry::file("b", "")]);
    let end = whole.len() - 22;
    whole[end + 10] = 1;
    let refused = read_bytes(&whole).expect_err("refused");
    assert!(refused.detail().contains("counts 1 entries and its directory has 2"), "{refused:?}");
}

#[test]
fn zip_size_on_both_sides_of_its_limit() {
    let entries = [Entry::file("a", "abc")];
    let size = bytes(&entries).len() as u64;
    let limits = |zip_bytes| Limits { zip_bytes, ..Limits::default() };
    assert!(open_within(&entries, &limits(size + 1)).is_ok());
    let refused = open_within(&entries, &limits(size)).err().unwrap();
    assert_eq!(refused, Rejection::ZippedTooLarge { bytes: size, limit: size });
    let aws = Rejection::ZippedTooLarge { bytes: 1, limit: Limits::default().zip_bytes };
    assert_eq!(aws.to_string(), "Zipped size must be smaller than 52428800 bytes");
}

#[test]
fn unpacked_size_on_both_sides_of_its_limit() {
    let of = |bytes| Entry { bytes: Some(bytes), ..Entry::file("a", "") };
    assert!(open(&[of(262_143_999)]).is_ok());
    assert_eq!(
        refused(&[of(262_144_000)]).to_string(),
        "Unzipped size must be smaller than 262144000 bytes"
    );
    let second = |bytes| Entry { bytes: Some(bytes), ..Entry::file("b", "") };
    assert!(open(&[of(262_143_000), second(999)]).is_ok());
    assert!(matches!(
        refused(&[of(262_143_000), second(1_000)]),
        Rejection::UnpackedTooLarge { .. }
    ));
    let huge = Entry { zip64: true, ..of(u64::MAX) };
    let twice = Entry { zip64: true, ..second(u64::MAX) };
    assert!(matches!(refused(&[huge, twice]), Rejection::UnpackedTooLarge { .. }));
}

#[test]
fn a_bomb_is_stopped_at_its_declared_size() {
    let bomb = Entry { bytes: Some(10), ..Entry::file("bomb", vec![0; 50_000_000]) };
    let archive = open(std::slice::from_ref(&bomb)).unwrap();
    let Some(Node::File { data, .. }) = archive.nodes.get(&b"bomb"[..]) else { panic!() };
    let mut out = Vec::new();
    let refused = rejection(archive.copy(b"bomb", data, &mut out)).expect_err("refused");
    assert!(matches!(refused, Rejection::Contradiction { what: "the size of its data", .. }));
    assert!(out.len() <= 10, "{} bytes came out", out.len());
}

#[test]
fn number_of_entries_on_both_sides_of_its_limit() {
    let many = |count: usize| -> Vec<Entry> {
        (0..count).map(|number| Entry::file(format!("{number}"), "").stored()).collect()
    };
    assert_eq!(open(&many(100_000)).unwrap().entries, 100_000);
    assert_eq!(refused(&many(100_001)), Rejection::TooManyEntries { limit: 100_000 });
}

#[test]
fn implied_folders_count_as_entries() {
    let limits = Limits { entries: 5, ..Limits::default() };
    assert!(open_within(&[Entry::file("a/b/c/d/e", "")], &limits).is_ok());
    let refused = open_within(&[Entry::file("a/b/c/d/e/f", "")], &limits).err().unwrap();
    assert_eq!(refused, Rejection::TooManyEntries { limit: 5 });
}

#[test]
fn names_that_leave_the_tree_are_refused() {
    for name in
        ["../x", "a/../../x", "/etc/passwd", "a//b", "", "..", "a\\b", "..\\x", "C:/x", "a\0b"]
    {
        assert!(matches!(refused(&[Entry::file(name, "x")]), Rejection::Name { .. }), "{name:?}");
    }
    assert!(matches!(refused(&[Entry::folder("../")]), Rejection::Name { .. }));
    assert!(matches!(refused(&[Entry::file(".", "x")]), Rejection::Kind { .. }));
    assert!(matches!(refused(&[Entry::link(".", "x")]), Rejection::Kind { .. }));
    assert_eq!(read(&[Entry::folder("a/"), Entry::file("a/..b", "x")]), Ok(()));
}

#[test]
fn duplicates_are_refused_however_they_are_spelled() {
    for (one, other) in [("a", "a"), ("a", "./a"), ("a/b", "a/./b")] {
        let entries = [Entry::file(one, "1"), Entry::file(other, "2")];
        assert!(matches!(refused(&entries), Rejection::Duplicate { .. }), "{one} {other}");
    }
    for entries in [
        [Entry::file("a", "1"), Entry::folder("a/")],
        [Entry::folder("a/"), Entry::link("a", "/")],
        [Entry::folder("a/"), Entry::folder("a/")],
    ] {
        assert!(matches!(refused(&entries), Rejection::Duplicate { .. }));
    }
    assert_eq!(read(&[Entry::file("a", "1"), Entry::file("A", "2")]), Ok(()));
}

#[test]
fn paths_through_a_link_or_a_file_are_refused_in_any_order() {
    let link = Entry::link("x", "/etc");
    let through = Entry::file("x/y/passwd", "root");
    for entries in [[link.clone(), through.clone()], [through, link]] {
        let Rejection::ThroughNonDirectory { kind, .. } = refused(&entries) else { panic!() };
        assert_eq!(kind, "symbolic link");
    }
    let entries = [Entry::file("x", "1"), Entry::file("x/y", "2")];
    let Rejection::ThroughNonDirectory { kind, .. } = refused(&entries) else { panic!() };
    assert_eq!(kind, "file");
    assert_eq!(
        read(&[Entry::folder("x/"), Entry::file("x/y", "2"), Entry::file("x-y", "")]),
        Ok(())
    );
}

#[test]
fn devices_fifos_and_sockets_are_refused() {
    for (mode, name) in [
        (0o020_666, "character device"),
        (0o060_666, "block device"),
        (0o010_666, "fifo"),
        (0o140_666, "socket"),
        (0o150_666, "file of an unknown type"),
    ] {
        let Rejection::Kind { kind, .. } = refused(&[Entry::file("x", "").mode(mode)]) else {
            panic!("{name}")
        };
        assert_eq!(kind, name);
    }
    let slash = Entry { name: b"x/".to_vec(), ..Entry::link("x", "/") };
    assert!(matches!(refused(&[slash]), Rejection::Kind { .. }));
    let full = Entry::file("x/", "data");
    assert!(matches!(refused(&[full]), Rejection::Kind { kind: "folder with data", .. }));
    assert_eq!(read(&[Entry::file("x", "").mode(0)]), Ok(()));
    assert_eq!(read(&[Entry::file("-", "through a pipe").mode(0o010_600)]), Ok(()));
}

#[test]
fn link_targets_have_a_size() {
    let link = |target: &str| Entry::link("x", target);
    assert_eq!(read(&[link(&"t".repeat(4_095))]), Ok(()));
    for target in [String::new(), "t".repeat(4_096)] {
        assert!(matches!(refused(&[link(&target)]), Rejection::LinkTarget { .. }));
    }
    let archive = open(&[link("a\0b")]).unwrap();
    let Some(Node::Link { data }) = archive.nodes.get(&b"x"[..]) else { panic!() };
    assert!(matches!(
        rejection(archive.link_target(b"x", data)),
        Err(Rejection::LinkTarget { .. })
    ));
}

#[test]
fn encryption_is_refused() {
    for flags in [1, 0x40, 0x2000] {
        let entry = Entry { flags, ..Entry::file("x", "secret") };
        assert!(matches!(refused(&[entry]), Rejection::Encrypted { .. }), "{flags}");
    }
    assert_eq!(read(&[Entry { flags: 0x800, ..Entry::file("ü", "") }]), Ok(()));
}

#[test]
fn other_methods_are_refused_by_name() {
    let refused = refused(&[Entry { method: 93, ..Entry::file("x", "data") }]);
    assert!(refused.to_string().contains("compressed with 93 (ZSTD)"), "{refused}");
    assert_eq!(read(&[Entry::file("x", "data").stored(), Entry::file("y", "data")]), Ok(()));
}

#[test]
fn local_headers_must_agree_with_the_directory() {
    let base = || Entry::file("bootstrap", "#!/bin/sh\n");
    let other = Some(b"Bootstrap".to_vec());
    assert_eq!(contradicts(Entry { local_name: other, ..base() }), "the name in its local header");
    assert_eq!(
        contradicts(Entry { local_method: Some(0), ..base() }),
        "the compression method in its local header"
    );
    assert_eq!(
        contradicts(Entry { local_crc: Some(7), ..base() }),
        "the size or checksum in its local header"
    );
}

#[test]
fn data_must_agree_with_the_directory() {
    let base = || Entry::file("x", "some data, some data, some data");
    assert_eq!(contradicts(Entry { crc: Some(7), ..base() }), "the checksum of its data");
    assert_eq!(contradicts(Entry { bytes: Some(30), ..base() }), "the size of its data");
    assert_eq!(contradicts(Entry { bytes: Some(32), ..base() }), "the size of its data");
    let stored = Entry { bytes: Some(30), ..base().stored() };
    assert_eq!(contradicts(stored), "the size of its stored data");
    // The next entry leaves room for more compressed bytes than the stream uses.
    let wide = Entry { method: 8, ..base() };
    let real = bytes(std::slice::from_ref(&wide));
    let packed = u64::from(u32::from_le_bytes(real[18..22].try_into().unwrap()));
    let beyond = Entry { compressed_bytes: Some(packed + 1), ..wide };
    assert_eq!(contradicts(beyond), "the place of its data");
    let garbage = {
        let mut whole = bytes(&[base()]);
        whole[31] = 0xff;
        whole
    };
    assert!(matches!(read_bytes(&garbage), Err(Rejection::Damaged { .. })));
}

#[test]
fn descriptors_of_streams_are_accepted_in_every_width_and_must_agree() {
    for signature in [true, false] {
        for wide in [true, false] {
            for zip64 in [true, false] {
                let descriptor = Some(Descriptor { signature, wide });
                let of = |name| Entry { descriptor, zip64, ..Entry::file(name, "data, data") };
                assert_eq!(read(&[of("a"), of("b")]), Ok(()), "{signature} {wide} {zip64}");
            }
        }
    }
    let descriptor = Some(Descriptor { signature: true, wide: false });
    let mut whole = bytes(&[Entry { descriptor, ..Entry::file("a", "data, data") }]);
    let at = whole.windows(4).position(|window| window == b"PK\x07\x08").unwrap();
    whole[at + 4] ^= 1;
    assert!(matches!(
        read_bytes(&whole),
        Err(Rejection::Contradiction { what: "the size or checksum in its data descriptor", .. })
    ));
}

#[test]
fn entries_that_share_bytes_are_refused() {
    let first = Entry::file("a", "data");
    let second = Entry { shares: Some(0), ..Entry::file("a", "data") };
    // The same local header under another name contradicts the name first.
    let renamed = Entry { name: b"b".to_vec(), ..second.clone() };
    assert!(matches!(refused(&[first, renamed]), Rejection::Contradiction { .. }));
    // A local header inside the data of another entry.
    let inner = bytes(&[Entry::file("b", "data").stored()]);
    let outer = Entry::file("a", &inner[..35]).stored();
    let mut whole = bytes(&[outer, Entry::file("b", "data").stored()]);
    let directory = whole.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    whole[directory + 42..directory + 46].copy_from_slice(&31_u32.to_le_bytes());
    assert!(matches!(read_bytes(&whole), Err(Rejection::Overlap { .. })));
}

#[test]
fn zip64_is_accepted_within_the_limits() {
    let entries = [
        Entry { zip64: true, ..Entry::program("bootstrap", "#!/bin/sh\n") },
        Entry { zip64: true, ..Entry::file("data", "x").stored() },
    ];
    assert_eq!(read(&entries), Ok(()));
}
