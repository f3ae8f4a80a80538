//! The bootstraps of the built-in runtimes: inside this program when it was built with them, as
//! `make release` does, or else in a folder beside it.

use std::borrow::Cow;
use std::path::PathBuf;

use super::elf::{Elf, ElfError};
use crate::args::BuiltIn;
use crate::embedded::{BASH, PHP};

#[derive(Debug, thiserror::Error)]
pub(super) enum BootstrapError {
    #[error("this lambfold was built without its runtimes, and there is no {name} in {tried}")]
    Missing { name: &'static str, tried: String },
    #[error("{path} is not statically linked, so that it would need libraries that a layer lacks")]
    Dynamic { path: String },
    #[error("{path}, which says what is linked into the bootstrap, cannot be read")]
    List {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is not a program")]
    Elf {
        path: String,
        #[source]
        source: ElfError,
    },
}

/// A bootstrap, and what is linked into it.
#[derive(Debug)]
pub(super) struct Bootstrap {
    pub(super) program: Cow<'static, [u8]>,
    /// A line each: name, version, licence.
    pub(super) crates: Cow<'static, str>,
}

pub(super) fn find(runtime: BuiltIn) -> Result<Bootstrap, BootstrapError> {
    let (name, embedded) = match runtime {
        BuiltIn::Bash => ("bash-bootstrap", BASH),
        BuiltIn::Php => ("php-bootstrap", PHP),
    };
    if let Some((program, crates)) = embedded {
        return Ok(Bootstrap { program: program.into(), crates: crates.into() });
    }
    let mut folders: Vec<PathBuf> = Vec::new();
    folders.extend(std::env::var_os("LAMBFOLD_BOOTSTRAPS").map(PathBuf::from));
    let own = std::env::current_exe().ok();
    if let Some(own) = own.as_deref().and_then(|path| path.parent()) {
        folders.push(own.to_owned());
        // Where tools/bootstraps puts them, seen from target/debug.
        folders.extend(own.parent().map(|target| target.join("bootstraps")));
    }
    // A dynamic one beside this program is what an ordinary build leaves there.
    let mut dynamic = None;
    for folder in &folders {
        let file = folder.join(name);
        let Ok(bytes) = std::fs::read(&file) else { continue };
        let path = file.display().to_string();
        match Elf::parse(&bytes) {
            Ok(elf) if elf.interpreter.is_none() => {
                let list = folder.join(format!("{name}.crates"));
                let crates = std::fs::read_to_string(&list).map_err(|source| {
                    BootstrapError::List { path: list.display().to_string(), source }
                })?;
                return Ok(Bootstrap { program: bytes.into(), crates: crates.into() });
            }
            Ok(_) => dynamic = Some(BootstrapError::Dynamic { path }),
            Err(source) => return Err(BootstrapError::Elf { path, source }),
        }
    }
    let shown: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
    Err(dynamic.unwrap_or(BootstrapError::Missing { name, tried: shown.join(", ") }))
}
