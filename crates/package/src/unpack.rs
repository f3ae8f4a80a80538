use crate::archive::{Archive, Node};
use crate::error::{PackageError, shown};
use crate::fs::{Folder, set_modified};
use std::path::Path;

/// Up to this many paths each is flushed by itself; beyond, one flush of the whole file system
/// is quicker although it may write what others left dirty.
const SYNC_EACH: usize = 64;

/// Writes a checked zip into an empty folder. Files become 0644 or, with any exec bit, 0755 and
/// keep their modification time; folders become 0755; links are made as they are.
pub(crate) fn unpack(archive: &Archive, into: &Path, durable: bool) -> Result<(), PackageError> {
    let mut folder = Folder::open(into).map_err(PackageError::io("open the temporary folder"))?;
    let sync_each = durable && archive.nodes.len() <= SYNC_EACH;
    for (path, node) in &archive.nodes {
        let step = |what: &str| PackageError::io(format!("{what} {:?} of the tree", shown(path)));
        match node {
            Node::Directory => folder.make_directory(path).map_err(step("create the folder"))?,
            Node::Link { data } => {
                let target = archive.link_target(path, data)?;
                folder.make_link(path, &target).map_err(step("create the link"))?;
            }
            Node::File { data, executable, modified_s } => {
                let mut file =
                    folder.make_file(path, *executable).map_err(step("create the file"))?;
                archive.copy(path, data, &mut file)?;
                set_modified(&file, *modified_s).map_err(step("set the time of"))?;
                if sync_each {
                    file.sync_all().map_err(step("flush the file"))?;
                }
            }
        }
    }
    if sync_each {
        let step = || PackageError::io("flush a folder of the tree");
        for (path, node) in &archive.nodes {
            if matches!(node, Node::Directory) {
                folder.sync_directory(path).map_err(step())?;
            }
        }
        folder.sync_directory(b"").map_err(step())?;
    } else if durable {
        folder.sync_file_system().map_err(PackageError::io("flush the file system"))?;
    }
    Ok(())
}
