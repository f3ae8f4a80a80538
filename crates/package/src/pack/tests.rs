#![allow(clippy::unwrap_used)]

use super::*;
use crate::{Options, Trees};
use lambfold_types::Architecture::X86_64;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

fn put(path: PathBuf, content: &str, mode: u32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn source() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path().join("bootstrap"), "#!/bin/sh\n", 0o700);
    put(folder.path().join("lib/a"), "aaaa", 0o600);
    put(folder.path().join("lib-b"), "", 0o644);
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    symlink("lib/a", folder.path().join("link")).unwrap();
    folder
}

fn packed(folder: &Path) -> Result<(File, TreeInfo), PackError> {
    let mut out = tempfile::tempfile().unwrap();
    let info = pack(folder, &mut out, X86_64)?;
    Ok((out, info))
}

#[test]
fn what_is_packed_unpacks_to_the_same() {
    let source = source();
    let (zip, info) = packed(source.path()).unwrap();
    let home = tempfile::tempdir().unwrap();
    let trees = Trees::open(home.path(), Options::default()).unwrap();
    assert_eq!(trees.add(&zip).unwrap(), info);
    let tree = trees.path(&info.digest);
    let mode = |name| std::fs::metadata(tree.join(name)).unwrap().mode() & 0o777;
    assert_eq!((mode("bootstrap"), mode("lib/a"), mode("empty")), (0o755, 0o644, 0o755));
    assert_eq!(std::fs::read_to_string(tree.join("lib/a")).unwrap(), "aaaa");
    assert_eq!(std::fs::read_to_string(tree.join("lib-b")).unwrap(), "");
    assert_eq!(std::fs::read_link(tree.join("link")).unwrap(), Path::new("lib/a"));
    assert_eq!(info.entries, 6);
}

#[test]
fn the_same_content_gives_the_same_bytes() {
    let (one, other) = (source(), source());
    let time = std::time::SystemTime::UNIX_EPOCH;
    File::open(other.path().join("lib/a")).unwrap().set_modified(time).unwrap();
    let (first, second) = (packed(one.path()).unwrap().1, packed(other.path()).unwrap().1);
    assert_eq!(first, second);
    put(other.path().join("lib-b"), "", 0o755);
    assert_ne!(packed(other.path()).unwrap().1.digest, first.digest);
}

#[test]
fn the_output_does_not_pack_itself() {
    let source = source();
    let alone = packed(source.path()).unwrap().1;
    let mut options = File::options();
    let path = source.path().join("function.zip");
    let mut out = options.read(true).write(true).create(true).truncate(false).open(path).unwrap();
    out.write_all(b"an older and longer zip, perhaps").unwrap();
    assert_eq!(pack(source.path(), &mut out, X86_64).unwrap(), alone);
    assert_eq!(out.metadata().unwrap().len(), alone.zip_bytes);
}

#[test]
fn a_bootstrap_that_cannot_run_is_not_packed() {
    let source = source();
    let path = source.path().join("bootstrap");
    let refused = |content: &str, mode| {
        put(path.clone(), content, mode);
        match packed(source.path()) {
            Err(PackError::Findings(findings)) => findings.len(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused("#!/bin/sh\r\n", 0o755), 1);
    assert_eq!(refused("#!/bin/sh\n", 0o644), 1);
    assert_eq!(refused("#!/bin/sh\r\n", 0o644), 2);
    let mut foreign = b"\x7fELF\x02\x01".to_vec();
    foreign.resize(64, 0);
    foreign[18] = 183;
    assert_eq!(refused(std::str::from_utf8(&foreign[..18]).unwrap(), 0o755), 1);
    std::fs::remove_file(&path).unwrap();
    // Its runtime is in a layer.
    assert!(packed(source.path()).is_ok());
}

#[test]
fn what_a_zip_cannot_hold_is_refused() {
    let source = source();
    let _socket = std::os::unix::net::UnixListener::bind(source.path().join("socket")).unwrap();
    assert!(matches!(packed(source.path()), Err(PackError::Kind { path }) if path == "socket"));
    std::fs::remove_file(source.path().join("socket")).unwrap();
    put(source.path().join("a\\b"), "", 0o644);
    assert!(matches!(packed(source.path()), Err(PackError::Refused(_))));
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(packed(empty.path()), Err(PackError::Empty)));
    assert!(matches!(packed(Path::new("/nowhere")), Err(PackError::Io { .. })));
}
