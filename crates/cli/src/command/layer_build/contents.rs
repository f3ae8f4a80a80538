//! A layer as it is put together: files, where they come from, and the listing of both.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::bootstraps::Bootstrap;
use super::elf::{self, Elf, Machine};
use super::libraries::{Libraries, LibraryError, read};
use super::packages::{self, Package};
use super::root::{Found, Root};

/// Where systems keep the certificates of authorities in one file. Programs are built to look at
/// the place of their own system.
const CERTIFICATES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];
/// Short, to fit into the place of the first two.
const LAYER_CERTIFICATES: &str = "ca.crt";
const LAMBFOLD_LICENCE: &str = include_str!("../../../../../LICENSE");

/// What a file of a layer is made of.
#[derive(Debug, Clone)]
enum Entry {
    /// A program of the root, with a loader and libraries of the layer's.
    Program(Found),
    /// A library of the root, or what is loaded like one.
    Library(Found),
    /// A file of the root as it is, but for paths in it.
    Data(Found),
    /// Lambfold's own.
    Own { bytes: Vec<u8>, is_program: bool },
    /// A file of the root that had to be changed.
    Changed { bytes: Vec<u8>, of: Found },
    /// A link inside the layer.
    Link(&'static str),
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ContentsError {
    #[error(transparent)]
    Library(#[from] LibraryError),
    #[error("the layer would have two files called {path}")]
    Twice { path: String },
    #[error("cannot write {path}")]
    Write {
        path: String,
        #[source]
        source: io::Error,
    },
}

/// A path prefix that programs are built with, and what it becomes.
#[derive(Debug, Clone)]
pub(super) struct Redirect {
    pub(super) from: String,
    pub(super) to: String,
}

#[derive(Debug)]
pub(super) struct Contents<'r> {
    root: &'r Root,
    /// The folder of the layer that everything but bootstrap and bin is in.
    folder: &'static str,
    libraries: Libraries<'r>,
    entries: BTreeMap<String, Entry>,
    redirects: Vec<Redirect>,
    /// What is linked into the bootstrap: name, version, licence.
    crates: String,
}

impl<'r> Contents<'r> {
    pub(super) fn new(root: &'r Root, folder: &'static str, machine: Machine) -> Contents<'r> {
        Contents {
            root,
            folder,
            libraries: Libraries::new(root, machine),
            entries: BTreeMap::new(),
            redirects: Vec::new(),
            crates: String::new(),
        }
    }

    pub(super) fn bootstrap(&mut self, bootstrap: Bootstrap) -> Result<(), ContentsError> {
        self.crates = bootstrap.crates.into_owned();
        self.own("bootstrap", bootstrap.program.into_owned(), true)
    }

    /// Adds the root's certificates of authorities, if it has any, and lets programs look for them
    /// in the layer; the path of their file in a sandbox.
    pub(super) fn certificates(&mut self) -> Result<Option<String>, ContentsError> {
        let path = format!("{}/{LAYER_CERTIFICATES}", self.folder);
        let in_sandbox = format!("/opt/{path}");
        if self.entries.contains_key(&path) {
            return Ok(Some(in_sandbox));
        }
        let Some(found) = CERTIFICATES.iter().find_map(|path| self.root.file(Path::new(path)))
        else {
            return Ok(None);
        };
        self.data(&path, &found)?;
        for place in CERTIFICATES {
            self.redirect(place, &in_sandbox);
        }
        Ok(Some(in_sandbox))
    }

    /// Adds certificates if a program or library looks for them.
    pub(super) fn add_certificates(&mut self) -> Result<(), ContentsError> {
        let libraries = self.libraries.files().map(|(_, found)| found);
        let programs = self.entries.values().filter_map(|entry| match entry {
            Entry::Program(found) | Entry::Library(found) => Some(found),
            _ => None,
        });
        let mut looked_for = false;
        for found in programs.chain(libraries) {
            let bytes = read(found, &self.root.shown(&found.path))?;
            looked_for |= CERTIFICATES.iter().any(|p| elf::find(&bytes, p.as_bytes()).is_some());
        }
        if looked_for {
            self.certificates()?;
        }
        Ok(())
    }

    fn add(&mut self, path: String, entry: Entry) -> Result<(), ContentsError> {
        match self.entries.insert(path.clone(), entry) {
            None => Ok(()),
            Some(_) => Err(ContentsError::Twice { path }),
        }
    }

    /// Adds a program of the root, and what it needs.
    pub(super) fn program(&mut self, path: &str, found: &Found) -> Result<(), ContentsError> {
        self.libraries.add(found)?;
        self.add(path.to_owned(), Entry::Program(found.clone()))
    }

    /// Adds a library that is loaded by its path, and what it needs.
    pub(super) fn library(&mut self, path: &str, found: &Found) -> Result<(), ContentsError> {
        self.libraries.add(found)?;
        self.add(path.to_owned(), Entry::Library(found.clone()))
    }

    pub(super) fn data(&mut self, path: &str, found: &Found) -> Result<(), ContentsError> {
        self.add(path.to_owned(), Entry::Data(found.clone()))
    }

    pub(super) fn changed(
        &mut self,
        path: &str,
        bytes: Vec<u8>,
        of: &Found,
    ) -> Result<(), ContentsError> {
        self.add(path.to_owned(), Entry::Changed { bytes, of: of.clone() })
    }

    pub(super) fn own(
        &mut self,
        path: &str,
        bytes: Vec<u8>,
        is_program: bool,
    ) -> Result<(), ContentsError> {
        self.add(path.to_owned(), Entry::Own { bytes, is_program })
    }

    pub(super) fn link(&mut self, path: &str, target: &'static str) -> Result<(), ContentsError> {
        self.add(path.to_owned(), Entry::Link(target))
    }

    /// Lets programs and libraries look elsewhere for what they are built to find at `from`. Not
    /// possible, and not done, if `to` is longer.
    pub(super) fn redirect(&mut self, from: &str, to: &str) -> bool {
        let fits = to.len() <= from.len();
        if fits {
            self.redirects.push(Redirect { from: from.to_owned(), to: to.to_owned() });
        }
        fits
    }

    /// Writes the layer into an empty folder; its files, for those who want to know.
    pub(super) fn write(mut self, to: &Path) -> Result<Vec<Listed>, ContentsError> {
        self.libraries.add_loaded_by_name()?;
        let libraries: Vec<(String, Found)> =
            self.libraries.files().map(|(name, found)| (name.to_owned(), found.clone())).collect();
        for (name, found) in libraries {
            self.add(format!("{}/lib/{name}", self.folder), Entry::Library(found))?;
        }
        let of_root: BTreeSet<PathBuf> = self.entries.values().filter_map(Entry::of_root).collect();
        let packages = packages::of_files(self.root, &of_root);
        for (path, entry) in &self.entries {
            let bytes = self.bytes(entry)?;
            write_file(&to.join(path), entry, &bytes)
                .map_err(|source| ContentsError::Write { path: path.clone(), source })?;
        }
        let mut listed: Vec<Listed> = Vec::new();
        for (path, entry) in &self.entries {
            let package = entry.of_root().and_then(|file| packages.get(&file).cloned());
            let source = match entry {
                Entry::Own { .. } => Source::Own,
                Entry::Link(target) => Source::Link(target),
                _ => Source::Root(package),
            };
            listed.push(Listed { path: path.clone(), source });
        }
        self.write_listing(to, &listed)?;
        Ok(listed)
    }

    fn bytes(&self, entry: &Entry) -> Result<Vec<u8>, ContentsError> {
        let (found, is_program) = match entry {
            Entry::Own { bytes, .. } | Entry::Changed { bytes, .. } => return Ok(bytes.clone()),
            Entry::Link(target) => return Ok(target.as_bytes().to_vec()),
            Entry::Data(found) => {
                let bytes = read(found, &self.root.shown(&found.path))?;
                return Ok(self.redirected(bytes));
            }
            Entry::Program(found) => (found, true),
            Entry::Library(found) => (found, false),
        };
        let file = self.root.shown(&found.path);
        let bytes = read(found, &file)?;
        let moved =
            Elf::parse(&bytes).and_then(|elf| match (is_program, self.libraries.loader()) {
                (true, Some(loader)) => {
                    let folder = format!("/opt/{}/lib", self.folder);
                    elf.relocated(&format!("{folder}/{loader}"), &folder)
                }
                _ => elf.without_search_path(),
            });
        let bytes = moved.map_err(|source| LibraryError::Elf { file, source })?;
        Ok(self.redirected(bytes))
    }

    fn redirected(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        for Redirect { from, to } in &self.redirects {
            elf::redirect(&mut bytes, from, to);
        }
        bytes
    }

    fn write_listing(&self, to: &Path, listed: &[Listed]) -> Result<(), ContentsError> {
        let version = env!("CARGO_PKG_VERSION");
        let mut text = format!(
            "What is in this layer. Made by lambfold {version} (Apache-2.0).\n\
             Texts of licences: {}/licences.\n\n\
             Linked into bootstrap\n\n",
            self.folder
        );
        for line in self.crates.lines() {
            let mut words = line.splitn(3, ' ');
            let mut word = || words.next().unwrap_or_default();
            let _ = writeln!(text, "{} {}\n    {}", word(), word(), word());
        }
        let mut packages: BTreeMap<&str, &Package> = BTreeMap::new();
        for one in listed {
            if let Source::Root(Some(package)) = &one.source {
                packages.insert(&package.name, package);
            }
        }
        // Writing to a text cannot fail.
        text.push_str("\nPackages\n\n");
        for package in packages.values() {
            let _ =
                writeln!(text, "{} {}\n    {}", package.name, package.version, package.licence());
        }
        text.push_str("\nFiles\n\n");
        let width = listed.iter().map(|one| one.path.len()).max().unwrap_or_default();
        for one in listed {
            let source = match &one.source {
                Source::Own => format!("lambfold {version}"),
                Source::Link(target) => format!("-> {target}"),
                Source::Root(None) => "the system's, and of none of its packages".to_owned(),
                Source::Root(Some(package)) => format!("{} {}", package.name, package.version),
            };
            let _ = writeln!(text, "{:width$}  {source}", one.path);
        }
        let write = |path: String, text: &str| {
            let file = to.join(&path);
            let entry = Entry::Own { bytes: Vec::new(), is_program: false };
            write_file(&file, &entry, text.as_bytes())
                .map_err(|source| ContentsError::Write { path, source })
        };
        write(format!("{}/CONTENTS.txt", self.folder), &text)?;
        write(format!("{}/licences/lambfold.txt", self.folder), LAMBFOLD_LICENCE)?;
        for (name, package) in packages.iter().filter(|(_, package)| !package.copyright.is_empty())
        {
            write(format!("{}/licences/{name}.txt", self.folder), &package.copyright)?;
        }
        Ok(())
    }
}

impl Entry {
    fn of_root(&self) -> Option<PathBuf> {
        match self {
            Entry::Program(found)
            | Entry::Library(found)
            | Entry::Data(found)
            | Entry::Changed { of: found, .. } => Some(found.path.clone()),
            Entry::Own { .. } | Entry::Link(_) => None,
        }
    }
}

fn write_file(path: &Path, entry: &Entry, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    if let Entry::Link(target) = entry {
        return symlink(target, path);
    }
    fs::write(path, bytes)?;
    // Libraries too: the loader is one, and a program.
    let is_executable = match entry {
        Entry::Program(_) | Entry::Library(_) => true,
        Entry::Own { is_program, .. } => *is_program,
        _ => false,
    };
    let mode = if is_executable { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// A file of a layer that has been made.
#[derive(Debug)]
pub(super) struct Listed {
    path: String,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Own,
    Link(&'static str),
    Root(Option<Package>),
}

impl Package {
    fn licence(&self) -> String {
        match self.licences.as_slice() {
            [] if self.copyright.is_empty() => "licence unknown".to_owned(),
            [] => format!("see licences/{}.txt", self.name),
            names => names.join(", "),
        }
    }
}

impl Listed {
    pub(super) fn json(&self) -> serde_json::Value {
        match &self.source {
            Source::Own => json!({
                "Path": self.path, "Package": "lambfold",
                "Version": env!("CARGO_PKG_VERSION"), "Licences": ["Apache-2.0"]}),
            Source::Link(target) => json!({"Path": self.path, "Link": target}),
            Source::Root(None) => json!({"Path": self.path}),
            Source::Root(Some(package)) => json!({
                "Path": self.path, "Package": package.name,
                "Version": package.version, "Licences": package.licences}),
        }
    }
}
