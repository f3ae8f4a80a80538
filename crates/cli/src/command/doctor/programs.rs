use std::path::Path;

/// A program that scripts find on Amazon Linux, and the Debian package that has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) package: &'static str,
}

macro_rules! programs {
    ($($package:literal: $($name:literal)+;)+) => {
        &[$($(Program { name: $name, package: $package },)+)+]
    };
}

/// What the images of `provided.al2023` and `provided.al2` have in common, as far as scripts
/// lean on it.
const PROGRAMS: &[Program] = programs! {
    "bash": "bash";
    "ca-certificates": "update-ca-certificates";
    "coreutils": "base64" "basename" "cat" "chmod" "cp" "cut" "date" "dirname" "env" "head" "id"
        "ls" "mkdir" "mktemp" "mv" "printf" "rm" "seq" "sha256sum" "sleep" "sort" "stat" "tail"
        "tee" "timeout" "touch" "tr" "uname" "uniq" "wc";
    "curl": "curl";
    "findutils": "find" "xargs";
    "gawk": "awk";
    "grep": "grep";
    "gzip": "gzip";
    "sed": "sed";
    "tar": "tar";
};

/// Folders in which the PATH of an execution environment finds them.
const FOLDERS: [&str; 5] = ["usr/local/bin", "usr/bin", "bin", "usr/sbin", "sbin"];

/// Programs that the root file system at `root` lacks.
pub(super) fn missing(root: &Path) -> Vec<&'static Program> {
    let here = |name: &str| {
        // The link itself is enough: its target may be absolute and lie inside `root`.
        FOLDERS.iter().any(|folder| root.join(folder).join(name).symlink_metadata().is_ok())
    };
    PROGRAMS.iter().filter(|program| !here(program.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_in_the_given_root() {
        let root = tempfile::tempdir().expect("folder");
        assert_eq!(missing(root.path()).len(), PROGRAMS.len());
        std::fs::create_dir_all(root.path().join("usr/bin")).expect("folder");
        std::os::unix::fs::symlink("/usr/bin/mawk", root.path().join("usr/bin/awk")).expect("link");
        let missing = missing(root.path());
        assert_eq!(missing.len(), PROGRAMS.len() - 1);
        assert!(missing.iter().all(|program| program.name != "awk"));
        assert!(missing.contains(&&Program { name: "curl", package: "curl" }));
    }
}
