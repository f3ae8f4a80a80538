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
        View { task: &task, opt: Some(&opt), root: Some(&root) }.diagnose(architecture)
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
    let view = View { task: &task, opt: None, root: Some(Path::new("/")) };
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
