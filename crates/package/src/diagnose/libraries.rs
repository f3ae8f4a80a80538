//! The shared libraries of a program, looked for as the dynamic loader of the guest does it.

use super::{Finding, HEAD_BYTES, View};
use crate::elf::{self, Elf};
use crate::guest_path::Guest;
use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Files that are looked into for one program.
const FILES: usize = 512;
/// Missing libraries that are told of one program; one lacks all of a kind, or a few.
const TOLD: usize = 5;
/// Most of the loader's cache that is read; Debian's with everything has some 200 kB.
const CACHE_BYTES: usize = 16 << 20;
/// Where glibc looks at last: Red Hat's and Amazon's folders, and Debian's of either machine.
const GLIBC: [&str; 8] = [
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
];
/// Where musl does, when nothing in `/etc` says otherwise.
const MUSL: [&str; 3] = ["/lib", "/usr/local/lib", "/usr/lib"];

/// What became of the search for a library.
enum Search {
    Found(Vec<u8>, Option<File>),
    Missing,
    /// One of the folders is not known.
    Unknown,
}

impl View<'_> {
    /// Libraries that the program at `path` cannot find, itself or through others. Nothing is said
    /// where a part of the search leads into what is not known.
    pub(super) fn missing_libraries(&self, path: &[u8], program: Elf) -> Vec<Finding> {
        let Some(loader) = program.loader.clone() else { return Vec::new() };
        let loader_name = name_of(&loader).to_vec();
        let musl = loader_name.starts_with(b"ld-musl");
        let machine = program.machine.clone();
        let cache = if musl { Vec::new() } else { self.loader_cache() };
        let mut findings = Vec::new();
        let mut seen: BTreeSet<Vec<u8>> = BTreeSet::new();
        let mut pending = VecDeque::from([(path.to_vec(), program, Vec::new())]);
        while let Some((of, elf, inherited)) = pending.pop_front() {
            let own = &of[..of.len() - name_of(&of).len()];
            let has_runpath = !elf.runpath.is_empty();
            let rpath: Vec<Vec<u8>> = match has_runpath {
                true => Vec::new(),
                false => folders(&elf.rpath, own).into_iter().chain(inherited).collect(),
            };
            let mut places = rpath.clone();
            places.extend(folders(self.library_path.as_bytes(), b""));
            places.extend(folders(&elf.runpath, own));
            for name in &elf.needed {
                // The loader is there already; with musl it is the C library, too.
                let is_loader = *name == loader_name || musl && name.starts_with(b"libc.");
                if is_loader || seen.len() >= FILES || !seen.insert(name.clone()) {
                    continue;
                }
                let last = if musl { &MUSL[..] } else { &GLIBC[..] };
                match self.search(name, &places, &cache, last, &machine) {
                    Search::Unknown => {}
                    Search::Missing if findings.len() < TOLD => {
                        let mut searched: Vec<String> = places.iter().map(|f| shown(f)).collect();
                        searched.retain(|folder| !folder.is_empty());
                        findings.push(Finding::LibraryMissing {
                            path: shown(&of),
                            library: shown(name),
                            searched,
                        });
                    }
                    Search::Missing => {}
                    Search::Found(found, file) => {
                        let elf = file.and_then(|file| read(&file));
                        if let Some(elf) = elf {
                            pending.push_back((found, elf, rpath.clone()));
                        }
                    }
                }
            }
        }
        findings
    }

    fn search(
        &self,
        name: &[u8],
        places: &[Vec<u8>],
        cache: &[u8],
        last: &[&str],
        machine: &str,
    ) -> Search {
        let mut unknown = false;
        let mut usable = |path: Vec<u8>| match self.resolve(&absolute(&path)) {
            Guest::File { file: Some(file), .. } => {
                // One for another machine may have the same name; the loader goes on then.
                let fits = read(&file).is_some_and(|elf| elf.machine == machine);
                fits.then_some((path, Some(file)))
            }
            // It cannot be looked into; the guest, another user, perhaps can.
            Guest::File { file: None, .. } => Some((path, None)),
            Guest::Unknown => {
                unknown = true;
                None
            }
            Guest::Missing | Guest::Directory | Guest::Special => None,
        };
        let found = if name.contains(&b'/') {
            usable(name.to_vec())
        } else {
            let within = |folder: &[u8]| [folder, b"/", name].concat();
            let mut first = places.iter().map(|folder| within(folder));
            let mut found = first.find_map(&mut usable);
            if found.is_none() {
                found = cached(cache, name).into_iter().find_map(&mut usable);
            }
            if found.is_none() {
                let mut last = last.iter().map(|folder| within(folder.as_bytes()));
                found = last.find_map(&mut usable);
            }
            found
        };
        match found {
            Some((path, file)) => Search::Found(path, file),
            None if unknown => Search::Unknown,
            None => Search::Missing,
        }
    }

    fn loader_cache(&self) -> Vec<u8> {
        let Guest::File { file: Some(file), .. } = self.resolve(b"/etc/ld.so.cache") else {
            return Vec::new();
        };
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(CACHE_BYTES).min(CACHE_BYTES)];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => bytes,
            Err(_) => Vec::new(),
        }
    }
}

fn read(file: &File) -> Option<Elf> {
    let mut head = [0; HEAD_BYTES];
    let count = file.read_at(&mut head, 0).ok()?;
    elf::read(file, &head[..count])
}

/// The paths of `/etc/ld.so.cache` that end in this name: both of its formats hold them as texts
/// that end in a zero byte.
fn cached(cache: &[u8], name: &[u8]) -> Vec<Vec<u8>> {
    let ends_so = |text: &&[u8]| {
        let rest = text.strip_suffix(name);
        rest.is_some_and(|rest| rest.starts_with(b"/") && rest.ends_with(b"/"))
    };
    cache.split(|byte| *byte == 0).filter(ends_so).map(<[u8]>::to_vec).collect()
}

/// The folders of a list with colons; `$ORIGIN` is the folder of the file that says so.
fn folders(list: &[u8], own: &[u8]) -> Vec<Vec<u8>> {
    let own = own.strip_suffix(b"/").unwrap_or(own);
    let folders = list.split(|byte| *byte == b':').filter(|folder| !folder.is_empty());
    folders.map(|folder| with_origin(folder, own)).collect()
}

fn with_origin(folder: &[u8], own: &[u8]) -> Vec<u8> {
    for name in [&b"$ORIGIN"[..], b"${ORIGIN}"] {
        if let Some(rest) = folder.strip_prefix(name) {
            return [own, rest].concat();
        }
    }
    folder.to_vec()
}

/// Relative paths begin at the working folder.
fn absolute(path: &[u8]) -> Vec<u8> {
    match path.first() {
        Some(b'/') => path.to_vec(),
        _ => [b"/var/task/", path].concat(),
    }
}

fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_cache_is_read_as_texts() {
        let cache = b"glibc-ld.so.cache1.1\0\x03\x01libx.so.1\0/usr/lib/libx.so.1\0/l/xlibx.so.1\0/m/libx.so.1\0";
        let found: Vec<_> = cached(cache, b"libx.so.1").iter().map(|path| shown(path)).collect();
        assert_eq!(found, ["/usr/lib/libx.so.1", "/m/libx.so.1"]);
    }

    #[test]
    fn an_origin_is_the_files_own_folder() {
        let list = folders(b"$ORIGIN/../lib::${ORIGIN}:/a", b"/var/task/");
        let list: Vec<_> = list.iter().map(|folder| shown(folder)).collect();
        assert_eq!(list, ["/var/task/../lib", "/var/task", "/a"]);
    }

    proptest! {
        #[test]
        fn any_list_and_cache_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200), name in "[a-z./]{0,6}") {
            let _ = folders(&bytes, &bytes);
            for path in cached(&bytes, name.as_bytes()) {
                prop_assert!(path.ends_with(name.as_bytes()));
            }
        }
    }
}
