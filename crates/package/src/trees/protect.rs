//! Trees that nobody can write to by mistake, where no read-only view of them can be had.

use super::Trees;
use lambfold_types::Digest;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const WRITE: u32 = 0o222;
const OWNER_WRITE: u32 = 0o200;

impl Trees {
    /// Takes everybody's permission to write from a tree and all that is in it. Its owner can give it
    /// back to itself: this holds mistakes, and nobody who means it. [`Trees::retain`] removes such
    /// trees like others; for everybody else there is [`Trees::release`].
    ///
    /// # Errors
    /// When the system fails.
    pub fn protect(&self, digest: &Digest) -> io::Result<()> {
        let tree = self.path(digest);
        // The folder itself is the last of all.
        if is_writable(&tree)? { protect(&tree) } else { Ok(()) }
    }

    /// Lets the owner remove all trees again by ordinary means.
    ///
    /// # Errors
    /// When the system fails.
    pub fn release(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.trees)? {
            let entry = entry?;
            if entry.file_name().to_str().and_then(Digest::parse).is_some() {
                release(&entry.path())?;
            }
        }
        Ok(())
    }
}

fn mode(path: &Path) -> io::Result<u32> {
    Ok(path.symlink_metadata()?.permissions().mode())
}

fn is_writable(path: &Path) -> io::Result<bool> {
    Ok(mode(path)? & OWNER_WRITE != 0)
}

fn protect(folder: &Path) -> io::Result<()> {
    let protected = |path: &Path| {
        std::fs::set_permissions(path, Permissions::from_mode(mode(path)? & 0o7777 & !WRITE))
    };
    for entry in std::fs::read_dir(folder)? {
        let (entry, path) = entry.map(|entry| (entry.file_type(), entry.path()))?;
        match entry? {
            kind if kind.is_dir() => protect(&path)?,
            // Of a link there is nothing to protect, and what it leads to is not ours.
            kind if kind.is_symlink() => {}
            _ => protected(&path)?,
        }
    }
    protected(folder)
}

pub(super) fn release(tree: &Path) -> io::Result<()> {
    // It was the last one to lose the permission, and is the last to have it again.
    if is_writable(tree)? { Ok(()) } else { release_folders(tree) }
}

/// Folders are all that is in the way of a removal.
fn release_folders(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            release_folders(&entry.path())?;
        }
    }
    std::fs::set_permissions(folder, Permissions::from_mode(mode(folder)? & 0o7777 | OWNER_WRITE))
}
