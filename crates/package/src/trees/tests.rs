#![allow(clippy::unwrap_used)]

use super::*;
use crate::Rejection;
use crate::testzip::{Entry, bytes, file, zip};
use proptest::prelude::*;
use std::os::unix::fs::MetadataExt;

struct Home {
    // Removed when dropped.
    _folder: tempfile::TempDir,
    root: PathBuf,
    trees: Trees,
}

fn home() -> Home {
    home_with(Options { durable: false, ..Options::default() })
}

fn home_with(options: Options) -> Home {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("data");
    std::fs::create_dir(&root).unwrap();
    let trees = Trees::open(&root, options).unwrap();
    Home { root, trees, _folder: folder }
}

impl Home {
    fn add(&self, entries: &[Entry]) -> Digest {
        self.trees.add(&zip(entries)).unwrap().digest
    }

    /// Everything below the data folder's parent, links not followed.
    fn everything(&self) -> Vec<String> {
        fn below(folder: &Path, into: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                into.push(entry.path().to_string_lossy().into_owned());
                if entry.file_type().unwrap().is_dir() {
                    below(&entry.path(), into);
                }
            }
        }
        let mut paths = Vec::new();
        below(self.root.parent().unwrap(), &mut paths);
        paths.sort();
        paths
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_tree_has_what_the_zip_had_with_plain_modes() {
    for durable in [true, false] {
        let home = home_with(Options { durable, ..Options::default() });
        let info = home
            .trees
            .add(&zip(&[
                Entry::program("bootstrap", "#!/bin/sh\n"),
                Entry::file("lib/private", "data").mode(0o100_600),
                Entry::file("lib/odd", "").mode(0o104_711),
                Entry::folder("empty/").mode(0o040_700),
                Entry::link("lib/absolute", "/etc/passwd"),
                Entry::link("lib/relative", "../bootstrap"),
                Entry::link("lib/outside", "../../../../x"),
            ]))
            .unwrap();
        assert_eq!((info.entries, info.unpacked_bytes), (7, 10 + 4 + 11 + 12 + 13));
        let tree = home.trees.path(&info.digest);
        for (path, expected) in [
            ("", 0o755),
            ("bootstrap", 0o755),
            ("lib", 0o755),
            ("lib/private", 0o644),
            ("lib/odd", 0o755),
            ("empty", 0o755),
        ] {
            assert_eq!(mode(&tree.join(path)), expected, "{path:?}");
        }
        assert_eq!(text(&tree.join("bootstrap")), "#!/bin/sh\n");
        assert_eq!(text(&tree.join("lib/private")), "data");
        for (link, target) in [
            ("lib/absolute", "/etc/passwd"),
            ("lib/relative", "../bootstrap"),
            ("lib/outside", "../../../../x"),
        ] {
            assert_eq!(std::fs::read_link(tree.join(link)).unwrap(), Path::new(target));
        }
        // 2024-01-01 00:00, as the test writer dates everything.
        let modified = std::fs::metadata(tree.join("bootstrap")).unwrap().mtime();
        assert_eq!(modified, 1_704_067_200);
        assert_eq!(std::fs::read_dir(home.root.join("run/package")).unwrap().count(), 0);
    }
}

#[test]
fn zips_without_unix_modes_have_no_programs() {
    let home = home();
    let windows = Entry { unix: false, ..Entry::program("bootstrap", "#!/bin/sh\n") };
    let folder = Entry { unix: false, ..Entry::folder("lib/") };
    let tree = home.trees.path(&home.add(&[windows, folder]));
    assert_eq!(mode(&tree.join("bootstrap")), 0o644);
    assert_eq!(mode(&tree.join("lib")), 0o755);
    let found = crate::diagnose(&tree, lambfold_types::Architecture::X86_64);
    assert!(matches!(found[..], [crate::Finding::NotExecutable { .. }]), "{found:?}");
}

#[test]
fn code_sha256_is_that_of_the_zip() {
    let home = home();
    let whole = bytes(&[Entry::file("a", "abc")]);
    let info = home.trees.add(&file(&whole)).unwrap();
    let hash: [u8; 32] = Sha256::digest(&whole).into();
    assert_eq!(info.code_sha256(), base64::engine::general_purpose::STANDARD.encode(hash));
    assert_eq!(info.zip_bytes, whole.len() as u64);
    assert_eq!(info.digest, Digest::from_bytes(&hash));
}

#[test]
fn adding_again_changes_nothing() {
    let home = home();
    let entries = [Entry::file("a", "abc")];
    let first = home.trees.add(&zip(&entries)).unwrap();
    let inode = || std::fs::metadata(home.trees.path(&first.digest).join("a")).unwrap().ino();
    let before = inode();
    assert_eq!(home.trees.add(&zip(&entries)).unwrap(), first);
    assert_eq!(inode(), before);
}

#[test]
fn many_at_once_make_one_tree() {
    let home = home();
    let whole = bytes(&[Entry::file("a", vec![7; 300_000]), Entry::file("b/c", "x")]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| home.trees.add(&file(&whole)).unwrap());
        }
    });
    assert_eq!(std::fs::read_dir(home.root.join("trees")).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(home.root.join("run/package")).unwrap().count(), 0);
}

#[test]
fn what_a_crash_left_half_done_is_swept_at_the_next_start() {
    let home = home();
    let digest = home.add(&[Entry::file("a", "abc")]);
    let half = home.root.join("run/package/half/deep");
    std::fs::create_dir_all(&half).unwrap();
    std::fs::write(half.join("file"), "x").unwrap();
    let again = Trees::open(&home.root, Options::default()).unwrap();
    assert_eq!(std::fs::read_dir(home.root.join("run/package")).unwrap().count(), 0);
    assert!(again.contains(&digest));
}

#[test]
fn a_refused_zip_leaves_nothing() {
    let home = home();
    let before = home.everything();
    // Refused while it is unpacked, not before.
    let bad = Entry { crc: Some(1), ..Entry::file("z", "data") };
    let refused = home.trees.add(&zip(&[Entry::file("a", "data"), bad])).unwrap_err();
    assert!(matches!(refused.rejection(), Some(Rejection::Contradiction { .. })), "{refused}");
    assert_eq!(home.everything(), before);
}

#[test]
fn one_layer_is_its_own_opt() {
    let home = home();
    let layer = home.add(&[Entry::file("a", "1")]);
    assert_eq!(home.trees.merge(std::slice::from_ref(&layer)).unwrap(), home.trees.path(&layer));
    let none = home.trees.merge(&[]).unwrap();
    assert_eq!(std::fs::read_dir(none).unwrap().count(), 0);
}

#[test]
fn later_layers_win() {
    let home = home();
    let low = home.add(&[
        Entry::file("same", "low"),
        Entry::file("low", "low"),
        Entry::file("lib/low", "low"),
        Entry::file("becomes-file/inner/x", "low"),
        Entry::file("becomes-file-neighbour", "low"),
        Entry::file("becomes-folder", "low"),
        Entry::link("becomes-real", "/etc"),
        Entry::file("becomes-link/x", "low"),
    ]);
    let high = home.add(&[
        Entry::program("same", "high"),
        Entry::file("lib/high", "high"),
        Entry::file("becomes-file", "high"),
        Entry::file("becomes-folder/x", "high"),
        Entry::file("becomes-real/x", "high"),
        Entry::link("becomes-link", "lib"),
    ]);
    let opt = home.trees.merge(&[low.clone(), high.clone()]).unwrap();
    for (path, expected) in [
        ("same", "high"),
        ("low", "low"),
        ("lib/low", "low"),
        ("lib/high", "high"),
        ("becomes-file", "high"),
        ("becomes-file-neighbour", "low"),
        ("becomes-folder/x", "high"),
        ("becomes-real/x", "high"),
    ] {
        assert_eq!(text(&opt.join(path)), expected, "{path}");
    }
    assert_eq!(mode(&opt.join("same")), 0o755);
    assert_eq!(mode(&opt), 0o755);
    assert_eq!(std::fs::read_link(opt.join("becomes-link")).unwrap(), Path::new("lib"));
    let inode = |path: PathBuf| std::fs::metadata(path).unwrap().ino();
    assert_eq!(inode(opt.join("low")), inode(home.trees.path(&low).join("low")));
    // The sources are as they were, and the other order is another tree.
    assert_eq!(text(&home.trees.path(&low).join("same")), "low");
    let other = home.trees.merge(&[high, low]).unwrap();
    assert_ne!(other, opt);
    assert_eq!(text(&other.join("same")), "low");
    assert!(other.join("becomes-file/inner/x").exists());
}

#[test]
fn a_file_in_between_hides_the_folder_below_it() {
    let home = home();
    let low = home.add(&[Entry::file("x/low", "")]);
    let middle = home.add(&[Entry::file("x", "")]);
    let high = home.add(&[Entry::file("x/high", "")]);
    let opt = home.trees.merge(&[low, middle, high]).unwrap();
    assert!(opt.join("x/high").exists());
    assert!(!opt.join("x/low").exists());
}

#[test]
fn a_missing_layer_is_named() {
    let home = home();
    let absent = Digest::from_bytes(&[7; 32]);
    let error = home.trees.merge(std::slice::from_ref(&absent)).unwrap_err();
    assert!(error.to_string().contains(absent.as_str()), "{error}");
}

#[test]
fn only_what_is_live_held_or_fresh_is_kept() {
    let home = home();
    let code = home.add(&[Entry::file("code", "")]);
    let one = home.add(&[Entry::file("one", "")]);
    let two = home.add(&[Entry::file("two", "")]);
    let dead = home.add(&[Entry::file("dead", "")]);
    let held = home.add(&[Entry::file("held", "")]);
    let list = vec![one.clone(), two.clone()];
    let opt = home.trees.merge(&list).unwrap();
    let other = home.trees.merge(&[two.clone(), one.clone()]).unwrap();

    let live = Live { trees: [code.clone()].into(), lists: [list.clone()].into() };
    assert_eq!(home.trees.retain(&live, Duration::from_secs(3600)).unwrap(), 0);
    let hold = home.trees.hold(std::slice::from_ref(&held));
    assert_eq!(home.trees.retain(&live, Duration::ZERO).unwrap(), 2);
    for kept in [&code, &one, &two, &held] {
        assert!(home.trees.contains(kept));
    }
    assert!(!home.trees.contains(&dead));
    assert!(opt.exists() && !other.exists());

    drop(hold);
    let list_hold = home.trees.hold(&list);
    assert_eq!(home.trees.retain(&Live::default(), Duration::ZERO).unwrap(), 2);
    assert!(opt.exists() && home.trees.contains(&one) && !home.trees.contains(&held));
    drop(list_hold);
    assert_eq!(home.trees.retain(&Live::default(), Duration::ZERO).unwrap(), 3);
    assert_eq!(std::fs::read_dir(home.root.join("run/package")).unwrap().count(), 0);
}

#[test]
fn a_protected_tree_cannot_be_written_to_and_can_be_removed() {
    let home = home();
    let entries = [Entry::file("a/b/file", "x"), Entry::link("a/link", "b/file")];
    let (one, other) = (home.add(&entries), home.add(&[Entry::file("file", "")]));
    let tree = home.trees.path(&one);
    home.trees.protect(&one).unwrap();
    home.trees.protect(&one).unwrap();
    for path in ["", "a", "a/b", "a/b/file"] {
        assert_eq!(mode(&tree.join(path)) & 0o222, 0, "{path}");
    }
    assert_ne!(mode(&home.trees.path(&other)) & 0o200, 0);
    home.trees.release().unwrap();
    for path in ["", "a", "a/b"] {
        assert_eq!(mode(&tree.join(path)) & 0o222, 0o200, "{path}");
    }
    // A release that was interrupted leaves the tree itself as it was.
    home.trees.protect(&one).unwrap();
    std::fs::set_permissions(tree.join("a/b"), Permissions::from_mode(0o755)).unwrap();
    home.trees.release().unwrap();
    assert_ne!(mode(&tree.join("a")) & 0o200, 0);
    home.trees.protect(&one).unwrap();
    assert_eq!(home.trees.retain(&Live::default(), Duration::ZERO).unwrap(), 2);
    assert!(!tree.exists());
}

#[test]
fn folders_that_are_no_trees_are_left_alone_by_the_collection() {
    let home = home();
    std::fs::create_dir(home.root.join("trees/lost+found")).unwrap();
    assert_eq!(home.trees.retain(&Live::default(), Duration::ZERO).unwrap(), 0);
    assert!(home.root.join("trees/lost+found").exists());
}

#[test]
fn a_full_disk_is_said_as_such() {
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
        let error = PackageError::io("write")(kind.into());
        assert!(matches!(full(error, 9), PackageError::DiskFull { unpacked_bytes: 9 }));
    }
    let other = PackageError::io("write")(io::ErrorKind::NotFound.into());
    assert!(matches!(full(other, 9), PackageError::Io { .. }));
}

fn any_name() -> impl Strategy<Value = String> {
    proptest::collection::vec("[a-c.]{1,3}", 1..4).prop_map(|parts| parts.join("/"))
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let data = proptest::collection::vec(any::<u8>(), 0..400);
    (any_name(), data, any::<bool>(), 0..4).prop_map(|(name, data, stored, kind)| {
        let entry = match kind {
            0 => Entry::link(name, "/etc/passwd"),
            1 => Entry::folder(format!("{name}/")),
            2 => Entry::program(name, data),
            _ => Entry::file(name, data),
        };
        if stored { entry.stored() } else { entry }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn random_zips_come_out_as_they_went_in(entries in proptest::collection::vec(any_entry(), 1..12)) {
        let home = home();
        let Ok(info) = home.trees.add(&zip(&entries)) else { return Ok(()) };
        let tree = home.trees.path(&info.digest);
        for entry in entries {
            let path = tree.join(std::str::from_utf8(&entry.name).unwrap());
            match entry.mode & 0o170_000 {
                0o120_000 => {
                    let target = std::fs::read_link(path).unwrap();
                    prop_assert_eq!(target.as_os_str().as_encoded_bytes(), entry.data);
                }
                0o040_000 => prop_assert!(path.is_dir()),
                _ => {
                    prop_assert_eq!(mode(&path) & 0o111 != 0, entry.mode & 0o111 != 0);
                    prop_assert_eq!(std::fs::read(path).unwrap(), entry.data);
                }
            }
        }
    }

    #[test]
    fn mutated_zips_never_panic_nor_write_outside_of_their_tree(
        entries in proptest::collection::vec(any_entry(), 1..6),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let home = home();
        let mut whole = bytes(&entries);
        for (at, value) in changes {
            let at = at.index(whole.len());
            whole[at] = value;
        }
        let _ = home.trees.add(&file(&whole));
        let trees = home.root.join("trees");
        let expected = ["", "/opt", "/run", "/run/package", "/trees"];
        let root = home.root.to_str().unwrap();
        for path in home.everything() {
            prop_assert!(
                Path::new(&path).starts_with(&trees)
                    || expected.iter().any(|known| path == format!("{root}{known}")),
                "{}", path
            );
        }
    }
}
