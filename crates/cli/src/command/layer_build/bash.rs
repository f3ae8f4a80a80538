//! The bash layer: the bootstrap and a bash.

use std::path::Path;

use super::contents::Contents;
use super::root::Root;
use super::{BuildError, missing, program};

pub(super) const FOLDER: &str = "lambfold-bash";

pub(super) fn add(contents: &mut Contents<'_>, root: &Root) -> Result<(), BuildError> {
    let bash = program(root, "bash").ok_or_else(|| missing(root, &["bash"], &["bash"]))?;
    contents.program(&format!("{FOLDER}/bin/bash"), &bash)?;
    // For scripts that ask for it by path or name, where the system has none.
    if root.file(Path::new("/bin/bash")).is_some() {
        contents.link("bin/bash", "../lambfold-bash/bin/bash")?;
    }
    Ok(())
}
