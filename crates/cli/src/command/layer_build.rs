//! `lambfold layer build`: a built-in runtime as a layer that needs nothing of the system around it.
//!
//! The programs come from this machine's packages, or from another root file system; they are given
//! their own loader and libraries, so that the same zip runs on Debian, on Amazon Linux and on a
//! system that has neither. The same input gives the same bytes.

mod bash;
mod bootstraps;
mod cached;
mod contents;
mod elf;
mod libraries;
mod packages;
mod php;
mod root;

use std::io;
use std::path::Path;

use lambfold_package::{TreeInfo, pack};
use lambfold_types::Architecture;
use serde_json::json;

use self::bootstraps::BootstrapError;
pub(super) use self::cached::cached;
use self::contents::{Contents, ContentsError, Listed};
use self::elf::{Elf, Machine};
use self::root::{Found, Root};
use super::code;
use crate::args::{BuiltIn, Format, LayerBuild};
use crate::failure::{Exit, Failure};
use crate::output;

/// Where programs are looked for by name.
const PROGRAM_FOLDERS: &[&str] =
    &["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

#[derive(Debug, thiserror::Error)]
enum BuildError {
    #[error("there is no {programs} in {root}")]
    Missing { programs: String, root: String, packages: &'static [&'static str] },
    #[error("{settings} turns on the extension {extension}, and it is nowhere")]
    Extension { extension: String, settings: String },
    #[error("the bootstrap is for {bootstrap}, and this layer is for {wanted}")]
    Machine { bootstrap: Machine, wanted: Machine },
    #[error("{program} of --with is not the name of a program")]
    Name { program: String },
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    #[error(transparent)]
    Contents(#[from] ContentsError),
}

fn missing(root: &Root, programs: &[&str], packages: &'static [&'static str]) -> BuildError {
    let programs = programs.join(" and no ");
    BuildError::Missing { programs, root: root.folder().display().to_string(), packages }
}

fn program(root: &Root, name: &str) -> Option<Found> {
    PROGRAM_FOLDERS.iter().find_map(|folder| root.file(&Path::new(folder).join(name)))
}

/// A layer that has been written.
struct Made {
    listed: Vec<Listed>,
    info: TreeInfo,
}

/// Writes the layer to a file, and leaves one that is there alone if it cannot be made.
fn make(args: &LayerBuild) -> Result<Made, Failure> {
    let root = Root::new(&args.from).map_err(|error| {
        Failure::failed(format!("could not open {}", args.from.display())).cause(&error)
    })?;
    let failed = |error: io::Error| {
        Failure::failed(format!("could not write {}", args.out.display())).cause(&error)
    };
    let staging = tempfile::tempdir().map_err(failed)?;
    let listed = build(args, &root, staging.path()).map_err(|error| explain(&error))?;
    let architecture = super::shared::architecture(None)?;
    let parent = args.out.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut zip = tempfile::Builder::new()
        .prefix(".lambfold-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(parent.unwrap_or(Path::new(".")))
        .map_err(failed)?;
    let info = pack(staging.path(), zip.as_file_mut(), architecture)
        .map_err(|error| code::not_packed(staging.path(), error))?;
    zip.persist(&args.out).map_err(|error| failed(error.error))?;
    Ok(Made { listed, info })
}

pub(crate) fn run(args: &LayerBuild) -> Result<Exit, Failure> {
    let Made { listed, info } = make(args)?;
    let path = args.out.display().to_string();
    match args.printing.format {
        Format::Text => {
            output::line(&path)?;
            output::talk(&format!(
                "{} files, {} MiB unpacked; what they are is in {}/CONTENTS.txt",
                listed.len(),
                output::mib(info.unpacked_bytes),
                folder(args.runtime)
            ));
            output::hint(&format!("publish it: lambfold layer publish {path} --name NAME"));
        }
        Format::Json => output::json(&json!({
            "Path": path,
            "CodeSize": info.zip_bytes,
            "CodeSha256": info.code_sha256(),
            "UnpackedSize": info.unpacked_bytes,
            "Entries": info.entries,
            "Contents": listed.iter().map(Listed::json).collect::<Vec<_>>(),
        }))?,
    }
    Ok(Exit::Done)
}

fn folder(runtime: BuiltIn) -> &'static str {
    match runtime {
        BuiltIn::Bash => bash::FOLDER,
        BuiltIn::Php => php::FOLDER,
    }
}

fn build(args: &LayerBuild, root: &Root, to: &Path) -> Result<Vec<Listed>, BuildError> {
    let wanted = match super::shared::architecture(None) {
        Ok(Architecture::Arm64) => Machine::ARM64,
        _ => Machine::X86_64,
    };
    let bootstrap = bootstraps::find(args.runtime)?;
    if let Ok(elf) = Elf::parse(&bootstrap.program)
        && elf.machine != wanted
    {
        return Err(BuildError::Machine { bootstrap: elf.machine, wanted });
    }
    let mut contents = Contents::new(root, folder(args.runtime), wanted);
    contents.bootstrap(bootstrap)?;
    match args.runtime {
        BuiltIn::Bash => bash::add(&mut contents, root)?,
        BuiltIn::Php => php::add(&mut contents, root)?,
    }
    add_programs(&mut contents, root, &args.with)?;
    contents.add_certificates()?;
    Ok(contents.write(to)?)
}

fn add_programs(
    contents: &mut Contents<'_>,
    root: &Root,
    names: &[String],
) -> Result<(), BuildError> {
    let mut names: Vec<&String> = names.iter().filter(|name| !name.is_empty()).collect();
    names.sort();
    names.dedup();
    for name in names {
        if name.contains('/') || name.starts_with('.') {
            return Err(BuildError::Name { program: name.clone() });
        }
        let found = program(root, name).ok_or_else(|| missing(root, &[name.as_str()], &[]))?;
        contents.program(&format!("bin/{name}"), &found)?;
    }
    Ok(())
}

fn explain(error: &BuildError) -> Failure {
    let failure = Failure::from_error(error);
    match error {
        BuildError::Missing { packages: [], .. } => {
            failure.hint("install the package that has it, or name another root with --from")
        }
        BuildError::Missing { packages, .. } => failure
            .hint(format!("on Debian and Ubuntu: apt-get install {}", packages.join(" ")))
            .hint("or take them from a root file system that has them: --from ROOTFS"),
        BuildError::Bootstrap(_) => failure
            .hint("a lambfold of `make release` has them inside; in a checkout: tools/bootstraps"),
        _ => failure,
    }
}

#[cfg(test)]
mod tests;
