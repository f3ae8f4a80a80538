//! The libraries of programs, found as the loader finds them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::elf::{Elf, ElfError, Machine};
use super::root::{Found, Root};

/// Where the loader looks at last.
const DEFAULT_FOLDERS: &[&str] = &["/lib64", "/usr/lib64", "/lib", "/usr/lib"];

/// Libraries that the C library loads by name, where it does not hold them itself: without them no
/// user and no host has a name.
const LOADED_BY_NAME: &[&str] = &["libnss_files.so.2", "libnss_dns.so.2"];

#[derive(Debug, thiserror::Error)]
pub(super) enum LibraryError {
    #[error("{file} cannot be used")]
    Elf {
        file: String,
        #[source]
        source: ElfError,
    },
    #[error("{file} cannot be read")]
    Read {
        file: String,
        #[source]
        source: io::Error,
    },
    #[error("{file} needs the library {library}, and {root} does not have it")]
    Missing { file: String, library: String, root: String },
    #[error("{file} is for {machine}, and the layer is for {wanted}")]
    Machine { file: String, machine: Machine, wanted: Machine },
    #[error("two different libraries are called {library}: {one} and {other}")]
    Conflict { library: String, one: String, other: String },
    #[error("{file} needs the loader {loader}, and other programs of the layer another one")]
    Loader { file: String, loader: String },
}

/// What programs need beside themselves.
#[derive(Debug)]
pub(super) struct Libraries<'r> {
    root: &'r Root,
    machine: Machine,
    folders: Vec<PathBuf>,
    /// By the name under which they are looked for.
    found: BTreeMap<String, Found>,
    /// Loader: the path that programs give, and the file.
    loader: Option<(String, Found)>,
}

impl<'r> Libraries<'r> {
    pub(super) fn new(root: &'r Root, machine: Machine) -> Libraries<'r> {
        let mut folders = Vec::new();
        configured(root, Path::new("/etc/ld.so.conf"), 0, &mut folders);
        folders.extend(DEFAULT_FOLDERS.iter().map(PathBuf::from));
        Libraries { root, machine, folders, found: BTreeMap::new(), loader: None }
    }

    /// The libraries by name, the loader among them.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &Found)> {
        let loader = self.loader.iter().map(|(path, found)| (file_name(path), found));
        self.found.iter().map(|(name, found)| (name.as_str(), found)).chain(loader)
    }

    /// The name of the loader's file; none if all programs are static.
    pub(super) fn loader(&self) -> Option<&str> {
        self.loader.as_ref().map(|(path, _)| file_name(path))
    }

    /// Adds what a program, or a library that is loaded by path, needs, and what that needs.
    pub(super) fn add(&mut self, found: &Found) -> Result<(), LibraryError> {
        let mut pending = vec![(found.clone(), Vec::new())];
        let mut seen = BTreeSet::new();
        while let Some((found, inherited)) = pending.pop() {
            if !seen.insert(found.path.clone()) {
                continue;
            }
            let shown = self.root.shown(&found.path);
            let bytes = read(&found, &shown)?;
            let elf = Elf::parse(&bytes)
                .map_err(|source| LibraryError::Elf { file: shown.clone(), source })?;
            if elf.machine != self.machine {
                let (machine, wanted) = (elf.machine, self.machine);
                return Err(LibraryError::Machine { file: shown, machine, wanted });
            }
            if let Some(loader) = &elf.interpreter {
                self.set_loader(loader, &shown)?;
            }
            let own = found.path.parent().unwrap_or(Path::new("/"));
            let expand = |folders: &[String]| folders.iter().map(|f| origin(f, own)).collect();
            let rpath: Vec<PathBuf> = match elf.runpath.is_empty() {
                true => [expand(&elf.rpath), inherited].concat(),
                false => expand(&elf.runpath),
            };
            for name in &elf.needed {
                if self.loader.as_ref().is_some_and(|(path, _)| file_name(path) == name) {
                    continue;
                }
                let library = match self.search(name, &rpath) {
                    Some(library) => library,
                    None => {
                        let root = self.root.folder().display().to_string();
                        return Err(LibraryError::Missing {
                            file: shown,
                            library: name.clone(),
                            root,
                        });
                    }
                };
                self.insert(name, &library)?;
                // What a RUNPATH names is for the file itself only.
                let handed_on = if elf.runpath.is_empty() { rpath.clone() } else { Vec::new() };
                pending.push((library, handed_on));
            }
        }
        Ok(())
    }

    /// Adds what is loaded by name alone, where it is there.
    pub(super) fn add_loaded_by_name(&mut self) -> Result<(), LibraryError> {
        if !self.found.contains_key("libc.so.6") {
            return Ok(());
        }
        for name in LOADED_BY_NAME {
            if let Some(library) = self.search(name, &[]) {
                self.insert(name, &library)?;
                self.add(&library)?;
            }
        }
        Ok(())
    }

    fn set_loader(&mut self, path: &str, of: &str) -> Result<(), LibraryError> {
        let missing = || LibraryError::Missing {
            file: of.to_owned(),
            library: path.to_owned(),
            root: self.root.folder().display().to_string(),
        };
        let found = self.root.file(Path::new(path)).ok_or_else(missing)?;
        match &self.loader {
            Some((_, have)) if *have != found => {
                Err(LibraryError::Loader { file: of.to_owned(), loader: path.to_owned() })
            }
            _ => {
                self.loader = Some((path.to_owned(), found));
                Ok(())
            }
        }
    }

    fn insert(&mut self, name: &str, library: &Found) -> Result<(), LibraryError> {
        match self.found.get(name) {
            Some(have) if have != library => Err(LibraryError::Conflict {
                library: name.to_owned(),
                one: self.root.shown(&have.path),
                other: self.root.shown(&library.path),
            }),
            _ => {
                self.found.insert(name.to_owned(), library.clone());
                Ok(())
            }
        }
    }

    fn search(&self, name: &str, first: &[PathBuf]) -> Option<Found> {
        if name.contains('/') {
            return self.usable(Path::new(name));
        }
        let mut folders = first.iter().chain(&self.folders);
        folders.find_map(|folder| self.usable(&folder.join(name)))
    }

    /// A library of another machine's may have the same name; the loader goes on then.
    fn usable(&self, path: &Path) -> Option<Found> {
        let found = self.root.file(path)?;
        let mut head = [0; 20];
        io::Read::read_exact(&mut fs::File::open(&found.real).ok()?, &mut head).ok()?;
        let machine = u16::from_le_bytes([head[18], head[19]]);
        (head.starts_with(b"\x7fELF\x02\x01") && self.machine.is(machine)).then_some(found)
    }
}

pub(super) fn read(found: &Found, shown: &str) -> Result<Vec<u8>, LibraryError> {
    fs::read(&found.real).map_err(|source| LibraryError::Read { file: shown.to_owned(), source })
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// `$ORIGIN` is the folder of the file that says so.
fn origin(folder: &str, own: &Path) -> PathBuf {
    let own = own.display().to_string();
    PathBuf::from(folder.replace("${ORIGIN}", &own).replace("$ORIGIN", &own))
}

/// The folders of `ld.so.conf` and of the files that it includes.
fn configured(root: &Root, file: &Path, depth: usize, folders: &mut Vec<PathBuf>) {
    const MAX_DEPTH: usize = 8;
    let Some(text) = root.text(file).filter(|_| depth < MAX_DEPTH) else { return };
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(pattern) = line.strip_prefix("include").map(str::trim) {
            let pattern = Path::new("/etc").join(pattern);
            if !pattern.to_string_lossy().contains('*') {
                configured(root, &pattern, depth + 1, folders);
                continue;
            }
            // One star in the last part is all that is ever there.
            let (Some(folder), Some(name)) = (pattern.parent(), pattern.file_name()) else {
                continue;
            };
            let name = name.to_string_lossy().into_owned();
            let (before, after) = name.split_once('*').unwrap_or((&name, ""));
            for name in root.names(folder) {
                let fits = name.len() >= before.len() + after.len();
                if fits && name.starts_with(before) && name.ends_with(after) {
                    configured(root, &folder.join(name), depth + 1, folders);
                }
            }
        } else if line.starts_with('/') {
            folders.push(PathBuf::from(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_those_of_the_configuration_in_its_order() {
        let folder = tempfile::tempdir().unwrap();
        let etc = folder.path().join("etc");
        fs::create_dir_all(etc.join("ld.so.conf.d")).unwrap();
        fs::write(etc.join("ld.so.conf"), "include /etc/ld.so.conf.d/*.conf\n/last\n").unwrap();
        fs::write(etc.join("ld.so.conf.d/b.conf"), "/b # why\n").unwrap();
        fs::write(etc.join("ld.so.conf.d/a.conf"), "# none\n/a\ninclude ld.so.conf\n").unwrap();
        fs::write(etc.join("ld.so.conf.d/a.txt"), "/no\n").unwrap();
        let root = Root::new(folder.path()).unwrap();
        let mut folders = Vec::new();
        configured(&root, Path::new("/etc/ld.so.conf"), 0, &mut folders);
        folders.dedup();
        assert_eq!(&folders[folders.len() - 2..], [PathBuf::from("/b"), PathBuf::from("/last")]);
        assert_eq!(folders[0], PathBuf::from("/a"));
    }

    #[test]
    fn an_origin_is_the_files_own_folder() {
        let own = Path::new("/usr/lib/x");
        assert_eq!(origin("$ORIGIN/../y", own), PathBuf::from("/usr/lib/x/../y"));
        assert_eq!(origin("${ORIGIN}", own), PathBuf::from("/usr/lib/x"));
    }
}
