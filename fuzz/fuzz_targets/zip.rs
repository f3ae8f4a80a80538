//! Any bytes as a deployment package: no panic, and nothing appears outside of the trees.
#![no_main]

use lambfold_package::{Limits, Options, Trees, diagnose};
use lambfold_types::Architecture;
use libfuzzer_sys::fuzz_target;
use std::io::Write;

fuzz_target!(|bytes: &[u8]| {
    let home = tempfile::tempdir().expect("temporary folder");
    let data = home.path().join("data");
    std::fs::create_dir(&data).expect("data folder");
    let limits = Limits { unpacked_bytes: 1 << 20, entries: 1_000, ..Limits::default() };
    let trees = Trees::open(&data, Options { durable: false, limits }).expect("trees");
    let mut zip = tempfile::tempfile().expect("temporary file");
    zip.write_all(bytes).expect("write the zip");
    if let Ok(info) = trees.add(&zip) {
        assert!(info.unpacked_bytes < 1 << 20 && info.entries <= 1_000);
        let _ = diagnose(&trees.path(&info.digest), Architecture::X86_64);
    }
    let names = |folder: &std::path::Path| {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .expect("list")
            .map(|entry| entry.expect("entry").file_name())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(home.path()), ["data"]);
    assert_eq!(names(&data), ["opt", "run", "trees"]);
    assert!(names(&data.join("run/package")).is_empty());
});
