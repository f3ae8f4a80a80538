//! Programs that Amazon Linux has, and the Debian package that brings each.

use std::path::Path;

/// Program and package, of what scripts for Amazon Linux 2 and 2023 commonly call.
const PROGRAMS: &[(&str, &str)] = &[
    ("awk", "gawk"),
    ("base64", "coreutils"),
    ("bash", "bash"),
    ("cat", "coreutils"),
    ("curl", "curl"),
    ("cut", "coreutils"),
    ("date", "coreutils"),
    ("env", "coreutils"),
    ("find", "findutils"),
    ("grep", "grep"),
    ("gzip", "gzip"),
    ("head", "coreutils"),
    ("mktemp", "coreutils"),
    ("sed", "sed"),
    ("sha256sum", "coreutils"),
    ("sort", "coreutils"),
    ("tail", "coreutils"),
    ("tr", "coreutils"),
    ("xargs", "findutils"),
];

/// Those that the file system at `root` lacks in its usual folders.
pub(crate) fn missing(root: &Path) -> Vec<(String, String)> {
    let folders = ["usr/bin", "bin", "usr/sbin", "sbin", "usr/local/bin"];
    PROGRAMS
        .iter()
        .filter(|(program, _)| {
            // A link may lead through /etc/alternatives of another root: that it exists is enough.
            !folders.iter().any(|f| root.join(f).join(program).symlink_metadata().is_ok())
        })
        .map(|(program, package)| ((*program).to_owned(), (*package).to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_what_is_missing_and_its_package() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("usr/bin")).unwrap();
        std::os::unix::fs::symlink("/etc/alternatives/awk", root.path().join("usr/bin/awk"))
            .unwrap();
        let missing = missing(root.path());
        assert!(missing.contains(&("curl".to_owned(), "curl".to_owned())));
        assert!(!missing.iter().any(|(program, _)| program == "awk"));
        assert_eq!(missing.len(), PROGRAMS.len() - 1);
    }
}
