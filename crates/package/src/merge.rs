use crate::error::{PackageError, shown};
use crate::fs::Folder;
use rustix::fs::FileType;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// What a path of the merged tree is, and which source gives it.
enum Merged {
    Directory,
    File(usize),
    Link(usize),
}

/// Lays the sources over each other into an empty folder, later ones on top, sharing their
/// files by hard links.
pub(crate) fn merge(sources: &[PathBuf], into: &Path, durable: bool) -> Result<(), PackageError> {
    let mut folders = Vec::with_capacity(sources.len());
    let mut plan = BTreeMap::new();
    for (number, source) in sources.iter().enumerate() {
        let step = || PackageError::io(format!("read the tree {}", source.display()));
        let mut folder = Folder::open(source).map_err(step())?;
        lay(&mut plan, &mut folder, number).map_err(step())?;
        folders.push(folder);
    }
    let mut target = Folder::open(into).map_err(PackageError::io("open the temporary folder"))?;
    for (path, merged) in &plan {
        let step = |what: &str| PackageError::io(format!("{what} {:?} of /opt", shown(path)));
        match merged {
            Merged::Directory => {
                target.make_directory(path).map_err(step("create the folder"))?;
            }
            Merged::File(number) => {
                share(&mut folders[*number], &mut target, path).map_err(step("link the file"))?;
            }
            Merged::Link(number) => {
                let source = &mut folders[*number];
                let text = source.link_target(path).map_err(step("read the link"))?;
                target.make_link(path, &text).map_err(step("create the link"))?;
            }
        }
    }
    if durable {
        target.sync_file_system().map_err(PackageError::io("flush the file system"))?;
    }
    Ok(())
}

/// Adds one tree to the plan, over what is in it.
fn lay(plan: &mut BTreeMap<Vec<u8>, Merged>, folder: &mut Folder, number: usize) -> io::Result<()> {
    let mut pending = vec![Vec::new()];
    while let Some(directory) = pending.pop() {
        for listed in folder.list(&directory)? {
            let mut path = directory.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&listed.name);
            if listed.kind == FileType::Directory {
                if !matches!(plan.get(&path), Some(Merged::Directory)) {
                    plan.insert(path.clone(), Merged::Directory);
                }
                pending.push(path);
                continue;
            }
            if let Some(Merged::Directory) = plan.get(&path) {
                remove_below(plan, &path);
            }
            let merged = match listed.kind {
                FileType::Symlink => Merged::Link(number),
                _ => Merged::File(number),
            };
            plan.insert(path, merged);
        }
    }
    Ok(())
}

fn remove_below(plan: &mut BTreeMap<Vec<u8>, Merged>, path: &[u8]) {
    let first = [path, b"/"].concat();
    // '0' is the byte after '/': the range holds exactly the paths that begin with "path/".
    let after = [path, b"0"].concat();
    let below: Vec<Vec<u8>> = plan.range(first..after).map(|(path, _)| path.clone()).collect();
    for path in below {
        plan.remove(&path);
    }
}

/// A second name for the file, or a copy of it once it has as many names as it may have.
fn share(from: &mut Folder, to: &mut Folder, path: &[u8]) -> io::Result<()> {
    match to.hard_link(from, path) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::MLINK.raw_os_error()) => {
            let executable = from.mode(path)? & 0o111 != 0;
            let mut copy: File = to.make_file(path, executable)?;
            io::copy(&mut from.file(path)?, &mut copy)?;
            Ok(())
        }
        other => other,
    }
}
