#![allow(clippy::unwrap_used)]

use super::*;
use lambfold_types::Architecture::{Arm64, X86_64};
use std::os::unix::fs::{PermissionsExt, symlink};

struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["task", "opt", "root/usr/bin"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let world = Self { folder };
        symlink("usr/bin", world.path("root/bin")).unwrap();
        world.put("root/usr/bin/bash", b"", 0o755);
        world.put("root/usr/bin/env", b"", 0o755);
        symlink("/usr/bin/bash", world.path("root/usr/bin/sh")).unwrap();
        world
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.folder.path().join(path)
    }

    fn put(&self, path: &str, content: &[u8], mode: u32) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn found(&self, architecture: Architecture) -> Vec<Finding> {
        let (task, opt, root) = (self.path("task"), self.path("opt"), self.path("root"));
        View { opt: Some(&opt), root: Some(&root), ..View::new(&task) }.diagnose(architecture)
    }

    fn with(bootstrap: &[u8]) -> Vec<Finding> {
        let world = Self::new();
        world.put("task/bootstrap", bootstrap, 0o755);
        world.found(X86_64)
    }
}

/// The smallest file that looks like a 64-bit little-endian program with a loader.
fn program(machine: u16, loader: Option<&str>) -> Vec<u8> {
    let mut bytes = vec![0; 64 + 56];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[18..20].copy_from_slice(&machine.to_le_bytes());
    bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
    bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
    bytes[56..58].copy_from_slice(&1_u16.to_le_bytes());
    if let Some(loader) = loader {
        bytes[64..68].copy_from_slice(&3_u32.to_le_bytes());
        bytes[72..80].copy_from_slice(&120_u64.to_le_bytes());
        bytes[96..104].copy_from_slice(&(loader.len() as u64 + 1).to_le_bytes());
        bytes.extend(loader.as_bytes());
        bytes.push(0);
    }
    bytes
}

#[test]
fn nothing_is_found_in_what_runs() {
    for script in
        ["#!/bin/sh\n", "#! /usr/bin/bash -e\nx\n", "#!/usr/bin/env bash\n", "#!/bin/bash"]
    {
        assert_eq!(World::with(script.as_bytes()), [], "{script:?}");
    }
    assert_eq!(World::with(&program(62, None)), []);
}

#[test]
fn a_missing_bootstrap_is_found_and_the_layer_may_have_it() {
    let world = World::new();
    assert_eq!(world.found(X86_64), [Finding::BootstrapMissing]);
    world.put("opt/bootstrap", b"#!/bin/sh\n", 0o755);
    assert_eq!(world.found(X86_64), []);
}

#[test]
fn the_functions_own_bootstrap_comes_first() {
    let world = World::new();
    world.put("opt/bootstrap", b"#!/bin/sh\n", 0o755);
    world.put("task/bootstrap", b"#!/bin/sh\n", 0o644);
    let path = "/var/task/bootstrap".to_owned();
    assert_eq!(world.found(X86_64), [Finding::NotExecutable { path }]);
}

#[test]
fn folders_are_no_bootstrap() {
    let world = World::new();
    std::fs::create_dir(world.path("task/bootstrap")).unwrap();
    assert!(matches!(world.found(X86_64)[..], [Finding::NotAFile { .. }]));
}

#[test]
fn windows_line_ends_are_found() {
    let found = World::with(b"#!/bin/sh\r\necho\r\n");
    let [Finding::CarriageReturn { interpreter, .. }] = &found[..] else { panic!("{found:?}") };
    assert_eq!(interpreter, "/bin/sh");
    assert_eq!(World::with(b"#!/bin/sh\necho\r\n"), []);
}

#[test]
fn what_is_no_program_is_found() {
    for content in [&b""[..], b"echo", b"#!", b"#!  \n", b"PK\x03\x04"] {
        assert!(matches!(World::with(content)[..], [Finding::NotAProgram { .. }]), "{content:?}");
    }
    assert!(matches!(World::with(b"\xef\xbb\xbf#!/bin/sh\n")[..], [Finding::ByteOrderMark { .. }]));
}

#[test]
fn missing_interpreters_are_found_wherever_they_should_be() {
    let missing = |script: &str| match &World::with(script.as_bytes())[..] {
        [Finding::InterpreterMissing { interpreter, .. }] => interpreter.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(missing("#!/usr/bin/php\n"), "/usr/bin/php");
    assert_eq!(missing("#!/usr/bin/env php\n"), "php");
    assert_eq!(missing("#!/opt/bin/php\n"), "/opt/bin/php");
    assert_eq!(missing("#!/usr/bin\n"), "/usr/bin");

    let world = World::new();
    world.put("task/bootstrap", b"#!/opt/bin/php\n", 0o755);
    world.put("opt/bin/php", b"", 0o755);
    assert_eq!(world.found(X86_64), []);
    world.put("opt/bin/php", b"", 0o644);
    assert!(matches!(world.found(X86_64)[..], [Finding::InterpreterMissing { .. }]));
}

#[test]
fn links_are_followed_as_the_guest_would() {
    let world = World::new();
    world.put("opt/real", b"#!/bin/sh\n", 0o755);
    symlink("/opt/real", world.path("task/bootstrap")).unwrap();
    assert_eq!(world.found(X86_64), []);
    // On the host this path exists; in the environment it does not.
    let world = World::new();
    symlink("/proc/self/exe", world.path("task/bootstrap")).unwrap();
    assert_eq!(world.found(X86_64), [Finding::BootstrapMissing]);
    let world = World::new();
    symlink("bootstrap", world.path("task/bootstrap")).unwrap();
    assert_eq!(world.found(X86_64), [Finding::BootstrapMissing]);
}

#[test]
fn programs_for_another_machine_are_found() {
    let world = World::new();
    world.put("task/bootstrap", &program(183, None), 0o755);
    let [Finding::WrongArchitecture { machine, expected, .. }] = &world.found(X86_64)[..] else {
        panic!()
    };
    assert_eq!((machine.as_str(), *expected), ("arm64", "x86_64"));
    assert_eq!(world.found(Arm64), []);
    assert!(matches!(
        World::with(b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0")[..],
        [Finding::WrongArchitecture { .. }]
    ));
}

#[test]
fn missing_loaders_are_found() {
    let world = World::new();
    world.put("task/bootstrap", &program(62, Some("/lib64/ld.so")), 0o755);
    let [Finding::LoaderMissing { loader, .. }] = &world.found(X86_64)[..] else { panic!() };
    assert_eq!(loader, "/lib64/ld.so");
    world.put("root/lib64/ld.so", b"", 0o755);
    assert_eq!(world.found(X86_64), []);
}

#[test]
fn this_very_program_runs_on_this_host() {
    let world = World::new();
    std::fs::copy(std::env::current_exe().unwrap(), world.path("task/bootstrap")).unwrap();
    let task = world.path("task");
    let view = View { root: Some(Path::new("/")), ..View::new(&task) };
    let own = if cfg!(target_arch = "aarch64") { Arm64 } else { X86_64 };
    assert_eq!(view.diagnose(own), []);
}

#[test]
fn damaged_programs_do_not_panic() {
    let whole = program(62, Some("/lib64/ld.so"));
    for length in 0..whole.len() {
        World::with(&whole[..length]);
    }
    for at in 0..64 {
        let mut damaged = whole.clone();
        damaged[at] = 0xff;
        World::with(&damaged);
    }
}

#[test]
fn without_a_root_nothing_is_said_about_it() {
    let world = World::new();
    world.put("task/bootstrap", b"#!/usr/bin/php\n", 0o755);
    assert_eq!(diagnose(&world.path("task"), X86_64), []);
    world.put("task/bootstrap", b"#!/opt/bin/php\n", 0o755);
    assert_eq!(diagnose(&world.path("task"), X86_64), []);
    std::fs::remove_file(world.path("task/bootstrap")).unwrap();
    assert_eq!(diagnose(&world.path("task"), X86_64), [Finding::BootstrapMissing]);
}

/// A program or library with what its linker wrote about libraries; `loader` makes it a program.
fn linked(
    machine: u16,
    loader: Option<&str>,
    needed: &[&str],
    rpath: Option<&str>,
    runpath: Option<&str>,
) -> Vec<u8> {
    const HEADERS: usize = 64 + 3 * 56;
    let mut strings = vec![0];
    let mut entries: Vec<(u64, u64)> = Vec::new();
    let names = needed.iter().map(|name| (1, *name));
    let paths = rpath.map(|path| (15, path)).into_iter().chain(runpath.map(|path| (29, path)));
    for (tag, text) in names.chain(paths) {
        entries.push((tag, strings.len() as u64));
        strings.extend_from_slice(text.as_bytes());
        strings.push(0);
    }
    let interpreter = strings.len();
    strings.extend_from_slice(loader.unwrap_or_default().as_bytes());
    strings.push(0);
    // Addresses are not offsets: the segment is loaded somewhere else.
    const ADDRESS: u64 = 0x40_0000;
    let dynamic_at = HEADERS + strings.len();
    entries.push((5, ADDRESS + HEADERS as u64));
    entries.push((0, 0));
    let mut bytes = vec![0; HEADERS];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[18..20].copy_from_slice(&machine.to_le_bytes());
    bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
    bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
    bytes[56..58].copy_from_slice(&3_u16.to_le_bytes());
    bytes.extend(&strings);
    for (tag, value) in &entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    let length = bytes.len() as u64;
    let mut segment = |number: usize, kind: u32, offset: u64, count: u64| {
        let at = 64 + number * 56;
        bytes[at..at + 4].copy_from_slice(&kind.to_le_bytes());
        bytes[at + 8..at + 16].copy_from_slice(&offset.to_le_bytes());
        bytes[at + 16..at + 24].copy_from_slice(&(ADDRESS + offset).to_le_bytes());
        bytes[at + 32..at + 40].copy_from_slice(&count.to_le_bytes());
    };
    segment(0, 1, 0, length);
    segment(1, 2, dynamic_at as u64, entries.len() as u64 * 16);
    if let Some(loader) = loader {
        segment(2, 3, (HEADERS + interpreter) as u64, loader.len() as u64 + 1);
    }
    bytes
}

const LOADER: &str = "/lib64/ld.so";

/// A world with a loader, and a program that needs these libraries.
fn needing(needed: &[&str], rpath: Option<&str>, runpath: Option<&str>) -> World {
    let world = World::new();
    world.put("root/lib64/ld.so", b"", 0o755);
    world.put("task/bootstrap", &linked(62, Some(LOADER), needed, rpath, runpath), 0o755);
    world
}

fn missing(world: &World) -> Vec<(String, String)> {
    let found = world.found(X86_64).into_iter();
    found
        .map(|finding| match finding {
            Finding::LibraryMissing { path, library, .. } => (path, library),
            other => panic!("{other}"),
        })
        .collect()
}

#[test]
fn libraries_are_found_wherever_the_loader_looks() {
    let library = linked(62, None, &[], None, None);
    let bootstrap = "/var/task/bootstrap".to_owned();
    for place in [
        "task/liba.so.1",
        "task/lib/liba.so.1",
        "opt/lib/liba.so.1",
        "root/lib64/liba.so.1",
        "root/usr/lib/x86_64-linux-gnu/liba.so.1",
    ] {
        let world = needing(&["liba.so.1"], None, None);
        assert_eq!(missing(&world), [(bootstrap.clone(), "liba.so.1".to_owned())]);
        world.put(place, &library, 0o644);
        assert_eq!(missing(&world), [], "{place}");
        // One for another machine is passed over.
        world.put(place, &linked(183, None, &[], None, None), 0o644);
        assert_eq!(missing(&world).len(), 1, "{place}");
    }
    // By the cache of the root file system's loader.
    let world = needing(&["liba.so.1"], None, None);
    world.put("root/srv/x/liba.so.1", &library, 0o644);
    world.put("root/etc/ld.so.cache", b"cache1.1\0liba.so.1\0/srv/x/liba.so.1\0", 0o644);
    assert_eq!(missing(&world), []);
    // By a path, and by folders of its own.
    for (name, rpath, runpath) in [
        ("/opt/x/liba.so.1", None, None),
        ("liba.so.1", Some("/opt/x"), None),
        ("liba.so.1", None, Some("/nowhere:/opt/x")),
    ] {
        let world = needing(&[name], rpath, runpath);
        assert_eq!(missing(&world).len(), 1);
        world.put("opt/x/liba.so.1", &library, 0o644);
        assert_eq!(missing(&world), [], "{name} {rpath:?} {runpath:?}");
    }
    let world = needing(&["liba.so.1"], None, Some("$ORIGIN/x"));
    world.put("task/x/liba.so.1", &library, 0o644);
    assert_eq!(missing(&world), []);
}

#[test]
fn libraries_of_libraries_are_looked_for_from_where_those_are() {
    let world = needing(&["liba.so.1"], None, None);
    world.put(
        "opt/lib/liba.so.1",
        &linked(62, None, &["libb.so.1"], None, Some("$ORIGIN/b")),
        0o644,
    );
    let expected = [("/opt/lib/liba.so.1".to_owned(), "libb.so.1".to_owned())];
    assert_eq!(missing(&world), expected);
    world.put("opt/lib/b/libb.so.1", &linked(62, None, &["liba.so.1"], None, None), 0o644);
    assert_eq!(missing(&world), []);
    // What an RPATH names is for libraries, too; what a RUNPATH names is not.
    for (rpath, runpath, expected) in [(Some("/opt/x"), None, 0), (None, Some("/opt/x"), 1)] {
        let world = needing(&["liba.so.1"], rpath, runpath);
        world.put("opt/x/liba.so.1", &linked(62, None, &["libb.so.1"], None, None), 0o644);
        world.put("opt/x/libb.so.1", &linked(62, None, &[], None, None), 0o644);
        assert_eq!(missing(&world).len(), expected, "{rpath:?} {runpath:?}");
    }
}

#[test]
fn the_libraries_of_an_interpreter_are_looked_for() {
    let world = needing(&[], None, None);
    let interpreter = linked(62, Some(LOADER), &["libphp.so"], None, None);
    world.put("opt/bin/php", &interpreter, 0o755);
    for script in ["#!/opt/bin/php\n", "#!/usr/bin/env php\n"] {
        world.put("task/bootstrap", script.as_bytes(), 0o755);
        let expected = [("/opt/bin/php".to_owned(), "libphp.so".to_owned())];
        assert_eq!(missing(&world), expected, "{script}");
    }
    world.put("task/lib/libphp.so", &linked(62, None, &[], None, None), 0o644);
    assert_eq!(missing(&world), []);
}

#[test]
fn musl_is_the_c_library_and_the_loader() {
    let world = World::new();
    world.put("root/lib/ld-musl-x86_64.so.1", b"", 0o755);
    let needed = ["libc.musl-x86_64.so.1", "libz.so.1"];
    let program = linked(62, Some("/lib/ld-musl-x86_64.so.1"), &needed, None, None);
    world.put("task/bootstrap", &program, 0o755);
    assert_eq!(missing(&world), [("/var/task/bootstrap".to_owned(), "libz.so.1".to_owned())]);
    world.put("root/usr/lib/libz.so.1", &linked(62, None, &[], None, None), 0o644);
    assert_eq!(missing(&world), []);
}

#[test]
fn a_program_that_lacks_everything_is_told_of_five() {
    let names: Vec<String> = (0..9).map(|number| format!("lib{number}.so")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(missing(&needing(&names[..5], None, None)).len(), 5);
    assert_eq!(missing(&needing(&names, None, None)).len(), 5);
}

#[test]
fn the_sentence_names_library_folders_and_fix() {
    let world = needing(&["liba.so.1"], None, Some("/mine"));
    let text = world.found(X86_64)[0].to_string();
    let start = "/var/task/bootstrap needs the library liba.so.1, which does not exist";
    assert!(text.starts_with(start), "{text}");
    assert!(text.contains("/var/task/lib:/opt/lib:/mine"), "{text}");
    assert!(text.contains("put it into the folder lib"), "{text}");
}

#[test]
fn damaged_libraries_do_not_panic() {
    let whole = linked(62, Some(LOADER), &["liba.so.1"], Some("/x"), Some("/y"));
    for length in 0..whole.len() {
        let world = needing(&[], None, None);
        world.put("task/bootstrap", &whole[..length], 0o755);
        world.found(X86_64);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn any_change_of_a_program_is_survived(
        changes in proptest::collection::vec((0_usize..400, proptest::num::u8::ANY), 1..12)
    ) {
        let mut bytes = linked(62, Some(LOADER), &["liba.so.1", "libb.so"], Some("/x"), None);
        let length = bytes.len();
        for (at, value) in changes {
            bytes[6 + at % (length - 6)] = value;
        }
        World::with(&bytes);
    }
}
