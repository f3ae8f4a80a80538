//! A root file system that a layer is made from: this machine's, or a folder. Links are followed as
//! a process in it would, so that a folder's absolute links do not lead out of it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// As many links as Linux follows.
const MAX_LINKS: usize = 40;

#[derive(Debug, Clone)]
pub(super) struct Root {
    folder: PathBuf,
}

/// A file: where it is called to be, without links on the way, and where it can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// As seen in the root.
    pub(super) path: PathBuf,
    /// As seen from here.
    pub(super) real: PathBuf,
}

impl Root {
    pub(super) fn new(folder: &Path) -> io::Result<Root> {
        Ok(Root { folder: folder.canonicalize()? })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What to call a path of the root in messages.
    pub(super) fn shown(&self, path: &Path) -> String {
        self.real(path).display().to_string()
    }

    fn real(&self, path: &Path) -> PathBuf {
        self.folder.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Follows a path of the root; none if there is nothing.
    pub(super) fn find(&self, path: &Path) -> Option<Found> {
        let mut done = PathBuf::from("/");
        let mut rest: Vec<OsString> = parts(path);
        let mut links = 0;
        while let Some(part) = rest.pop() {
            if part == ".." {
                done.pop();
                continue;
            }
            let next = done.join(&part);
            let metadata = fs::symlink_metadata(self.real(&next)).ok()?;
            if metadata.is_symlink() {
                links += 1;
                if links > MAX_LINKS {
                    return None;
                }
                let target = fs::read_link(self.real(&next)).ok()?;
                if target.is_absolute() {
                    done = PathBuf::from("/");
                }
                rest.extend(parts(&target));
            } else {
                done = next;
            }
        }
        Some(Found { real: self.real(&done), path: done })
    }

    /// As [`find`](Self::find), for a regular file.
    pub(super) fn file(&self, path: &Path) -> Option<Found> {
        self.find(path).filter(|found| found.real.is_file())
    }

    /// As [`find`](Self::find), for a folder.
    pub(super) fn directory(&self, path: &Path) -> Option<Found> {
        self.find(path).filter(|found| found.real.is_dir())
    }

    /// The names in a folder of the root, sorted; none if there is no such folder.
    pub(super) fn names(&self, folder: &Path) -> Vec<String> {
        let Some(found) = self.directory(folder) else { return Vec::new() };
        let entries = fs::read_dir(found.real).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// A text file of the root; none if there is none. What is not UTF-8 in it is replaced.
    pub(super) fn text(&self, path: &Path) -> Option<String> {
        let bytes = fs::read(self.file(path)?.real).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The parts of a path, last one first.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter_map(|component| match component {
        Component::Normal(part) => Some(part.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    parts.collect::<Vec<_>>().into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_inside() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("usr/bin")).unwrap();
        fs::create_dir_all(at("etc/alternatives")).unwrap();
        fs::write(at("usr/bin/php8.2"), "x").unwrap();
        symlink("/etc/alternatives/php", at("usr/bin/php")).unwrap();
        symlink("/usr/bin/php8.2", at("etc/alternatives/php")).unwrap();
        symlink("usr/bin", at("bin")).unwrap();
        symlink("../../../../../../usr/bin/php8.2", at("usr/bin/climber")).unwrap();
        symlink("loop", at("usr/bin/loop")).unwrap();
        symlink("/etc/hostname", at("usr/bin/absolute")).unwrap();
        let root = Root::new(folder.path()).unwrap();
        let found = |path: &str| root.file(Path::new(path)).map(|found| found.path);
        for path in ["/usr/bin/php", "/bin/php", "/bin/../bin/php", "/bin/climber"] {
            assert_eq!(found(path), Some(PathBuf::from("/usr/bin/php8.2")), "{path}");
        }
        assert_eq!(found("/bin/loop"), None);
        // There is one on most machines, and it is not this root's.
        assert_eq!(found("/bin/absolute"), None);
        assert_eq!(found("/bin"), None);
        let names = ["absolute", "climber", "loop", "php", "php8.2"];
        assert_eq!(root.names(Path::new("/bin")), names);
    }
}
