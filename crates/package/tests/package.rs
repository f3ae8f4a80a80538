//! Real tools and a real full disk.

#![allow(clippy::unwrap_used)]

use lambfold_package::{Options, PackageError, Trees};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

fn trees(home: &Path) -> Trees {
    Trees::open(home, Options::default()).unwrap()
}

/// Info-ZIP, from the Debian package `zip`; a missing one fails the test.
fn zip(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("zip");
    command.current_dir(folder).args(arguments);
    command
}

#[test]
fn streams_of_info_zip_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    // From a pipe to a pipe: sizes unknown beforehand, hence ZIP64 and a descriptor.
    let target = File::create(folder.path().join("stream.zip")).unwrap();
    let mut command = zip(folder.path(), &["-q", "-", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&b"some data\n".repeat(10_000)).unwrap();
    std::io::copy(&mut child.stdout.take().unwrap(), &mut &target).unwrap();
    assert!(child.wait().unwrap().success());
    let whole = std::fs::read(folder.path().join("stream.zip")).unwrap();
    assert!(whole.windows(4).any(|window| window == b"PK\x07\x08"), "no descriptor was written");

    let trees = trees(home.path());
    let zip = File::open(folder.path().join("stream.zip")).unwrap();
    let info = trees.add(&zip).unwrap();
    assert_eq!(info.unpacked_bytes, 100_000);
    assert_eq!(std::fs::metadata(trees.path(&info.digest).join("-")).unwrap().len(), 100_000);
}

#[test]
fn folders_zipped_by_info_zip_keep_programs_and_links() {
    let folder = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    let script = "printf '#!/bin/sh\\n' > bootstrap; chmod 755 bootstrap; mkdir -p lib/größe; \
                  echo x > lib/größe/ä; ln -s ../bootstrap lib/link";
    assert!(
        Command::new("sh").args(["-c", script]).current_dir(&folder).status().unwrap().success()
    );
    let trees = trees(home.path());
    // To a file, with ZIP64 forced, and through a pipe, where Info-ZIP cannot store links.
    for script in ["zip -qry \"$0\" .", "zip -qry -fz \"$0\" .", "zip -qr - . | cat > \"$0\""] {
        let target = home.path().join("f.zip");
        let _ = std::fs::remove_file(&target);
        let mut shell = Command::new("sh");
        let status = shell.args(["-c", script]).arg(&target).current_dir(&folder).status();
        assert!(status.unwrap().success(), "{script}");
        let info = trees.add(&File::open(target).unwrap()).unwrap();
        let tree = trees.path(&info.digest);
        assert_eq!(lambfold_package::diagnose(&tree, lambfold_types::Architecture::X86_64), []);
        if script.contains("-qry") {
            let target = std::fs::read_link(tree.join("lib/link")).unwrap();
            assert_eq!(target, Path::new("../bootstrap"));
        }
        assert_eq!(std::fs::read_to_string(tree.join("lib/größe/ä")).unwrap(), "x\n");
    }
}

/// Runs itself again in a mount namespace whose data folder is a file system of 1 MiB.
#[test]
fn a_full_disk_leaves_nothing_behind() {
    const INNER: &str = "LAMBFOLD_TEST_SMALL_DISK";
    if let Some(home) = std::env::var_os(INNER) {
        return on_a_small_disk(Path::new(&home));
    }
    let home = tempfile::tempdir().unwrap();
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-ec"])
        .arg("mount -t tmpfs -o size=1m tmpfs \"$0\"; exec \"$@\"")
        .arg(home.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "a_full_disk_leaves_nothing_behind"])
        .env(INNER, home.path())
        .status()
        .unwrap();
    assert!(status.success());
}

fn on_a_small_disk(home: &Path) {
    let source = tempfile::tempdir().unwrap();
    let packed = |name: &str, bytes: usize| {
        let folder = source.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("small"), "x").unwrap();
        std::fs::write(folder.join("zeros"), vec![0; bytes]).unwrap();
        let mut out = tempfile::tempfile().unwrap();
        lambfold_package::pack(&folder, &mut out, lambfold_types::Architecture::X86_64).unwrap();
        out
    };
    let trees = trees(home);
    let error = trees.add(&packed("large", 2 << 20)).unwrap_err();
    assert!(
        matches!(error, PackageError::DiskFull { unpacked_bytes } if unpacked_bytes == (2 << 20) + 1),
        "{error}"
    );
    for folder in ["trees", "run/package"] {
        assert_eq!(std::fs::read_dir(home.join(folder)).unwrap().count(), 0, "{folder}");
    }
    let info = trees.add(&packed("fits", 1 << 19)).unwrap();
    assert!(trees.contains(&info.digest));
}
