use crate::{lambfold, run, write};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn starters_are_written_and_say_what_comes_next() {
    let work = tempfile::tempdir().unwrap();
    for (kind, files) in [
        ("bash", &["function.sh"][..]),
        ("php", &["index.php"]),
        ("rust", &["Cargo.toml", "src/main.rs", "build.sh", ".gitignore"]),
    ] {
        let ran = run(lambfold(&["init", kind, kind]).current_dir(work.path()));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        for file in files {
            let path = work.path().join(kind).join(file);
            let executable = path.metadata().unwrap().permissions().mode() & 0o111 != 0;
            assert_eq!(executable, file.ends_with("build.sh"), "{file}");
            assert!(ran.stderr.contains(&format!("wrote {kind}/{file}\n")), "{}", ran.stderr);
        }
        let dev = format!("lambfold dev {kind}{}\n", if kind == "rust" { "/dist" } else { "" });
        assert!(ran.stdout.contains(&dev), "{}", ran.stdout);
        // Not twice.
        let ran = run(lambfold(&["init", kind, kind]).current_dir(work.path()));
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    }
    // An empty folder will do, and so does one that is not there yet, however deep.
    std::fs::create_dir(work.path().join("empty")).unwrap();
    for dir in ["empty", "a b/c"] {
        let ran =
            run(lambfold(&["init", "rust", dir, "--output", "json"]).current_dir(work.path()));
        let said: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(said["Files"].as_array().unwrap().len(), 4);
        assert_eq!(ran.stderr, "");
    }
    let manifest = std::fs::read_to_string(work.path().join("a b/c/Cargo.toml")).unwrap();
    assert!(manifest.contains("name = \"c\"\n"), "{manifest}");
}

#[test]
fn what_is_in_the_way_is_named_and_left_alone() {
    let work = tempfile::tempdir().unwrap();
    let dir = work.path().join("mine");
    std::fs::create_dir(&dir).unwrap();
    let init = || run(lambfold(&["init", "bash", "mine"]).current_dir(work.path()));
    for count in 1..=5 {
        write(&dir.join(format!("file-{count}")), "mine", 0o644);
    }
    let ran = init();
    let listed = "it has file-1, file-2, file-3, file-4, file-5\n";
    assert!(ran.code == 1 && ran.stderr.contains(listed), "{}", ran.stderr);
    write(&dir.join("file-6"), "mine", 0o644);
    let ran = init();
    assert!(ran.code == 1 && ran.stderr.contains("file-5 and 1 more\n"), "{}", ran.stderr);
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 6);

    write(&work.path().join("file"), "mine", 0o644);
    let ran = run(lambfold(&["init", "php", "file"]).current_dir(work.path()));
    assert!(
        ran.code == 1 && ran.stderr.contains("file is there and is no folder"),
        "{}",
        ran.stderr
    );
    assert_eq!(run(&mut lambfold(&["init", "cobol", "x"])).code, 2);
}
