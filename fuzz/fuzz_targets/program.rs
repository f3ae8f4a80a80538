//! Any bytes as a bootstrap, and as a library that a program needs: no panic, and an end.
#![no_main]

use lambfold_package::View;
use lambfold_types::Architecture;
use libfuzzer_sys::fuzz_target;
use std::os::unix::fs::PermissionsExt;

fuzz_target!(|bytes: &[u8]| {
    let home = tempfile::tempdir().expect("temporary folder");
    let [task, root] = ["task", "root"].map(|name| home.path().join(name));
    std::fs::create_dir_all(&task).expect("task");
    std::fs::create_dir_all(root.join("lib")).expect("root");
    // Loaders and libraries that a program is likely to name.
    for name in ["lib/ld.so", "lib/liba.so"] {
        std::fs::write(root.join(name), bytes).expect("library");
    }
    let bootstrap = task.join("bootstrap");
    std::fs::write(&bootstrap, bytes).expect("bootstrap");
    for path in [&bootstrap, &root.join("lib/ld.so")] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("mode");
    }
    let view = View { root: Some(&root), ..View::new(&task) };
    for finding in view.diagnose(Architecture::X86_64) {
        assert!(!finding.to_string().is_empty());
    }
});
