//! What is put to the test: a folder, a zip or a single program, with its layers, laid out as the
//! platform lays it out.

use crate::guest::chain;
use lambfold_package::{Finding, Options, PackError, Trees, View, diagnose, pack};
use lambfold_types::{Architecture, Digest};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Why something cannot be put to the test.
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    /// A file cannot be read or written.
    #[error("could not read {}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no room for what is unpacked.
    #[error("could not make a temporary folder")]
    Temporary(#[source] io::Error),
    /// A folder or zip that no function can be made of; the reasons are sentences.
    #[error("{} cannot be deployed: {}", path.display(), reasons.join("; "))]
    Refused {
        /// What it was made of.
        path: PathBuf,
        /// Why, in the order of their weight.
        reasons: Vec<String>,
    },
    /// Neither the code nor a layer has a bootstrap.
    #[error("there is no bootstrap in {}, and no layer brings one", path.display())]
    NoBootstrap {
        /// The code.
        path: PathBuf,
    },
}

/// A function's code and layers, unpacked in a temporary folder of its own.
#[derive(Debug)]
pub struct Subject {
    /// What it was made of.
    pub path: PathBuf,
    /// What may keep the bootstrap from running here, each a sentence with the fix.
    pub findings: Vec<Finding>,
    pub(crate) task: PathBuf,
    pub(crate) opt: Option<PathBuf>,
    _folder: tempfile::TempDir,
}

impl Subject {
    /// Lays out `path` (a folder, a zip, or a program that is the bootstrap) with layers (folders
    /// or zips, later ones on top), for this machine's architecture; `root` is the root file system
    /// that it will run with, the host's where it is `None`.
    ///
    /// # Errors
    /// When one of them cannot be read, or the platform would refuse it.
    pub fn new(
        path: &Path,
        layers: &[PathBuf],
        architecture: Architecture,
        root: Option<&Path>,
    ) -> Result<Self, SubjectError> {
        let folder = tempfile::tempdir().map_err(SubjectError::Temporary)?;
        // Guests run as other users.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))
            .map_err(SubjectError::Temporary)?;
        let options = Options { durable: false, ..Options::default() };
        let trees = Trees::open(folder.path(), options).map_err(SubjectError::Temporary)?;
        let code = add(&trees, path, architecture, true)?;
        let layers: Vec<Digest> = layers
            .iter()
            .map(|layer| add(&trees, layer, architecture, false))
            .collect::<Result<_, _>>()?;
        let opt = match layers.as_slice() {
            [] => None,
            layers => Some(trees.merge(layers).map_err(|error| refused(path, &error))?),
        };
        let task = trees.path(&code);
        if !task.join("bootstrap").exists()
            && !opt.as_ref().is_some_and(|opt| opt.join("bootstrap").exists())
        {
            return Err(SubjectError::NoBootstrap { path: path.to_owned() });
        }
        let root = Some(root.unwrap_or(Path::new("/")));
        let view = View { opt: opt.as_deref(), root, ..View::new(&task) };
        let findings = view.diagnose(architecture);
        Ok(Self { path: path.to_owned(), findings, task, opt, _folder: folder })
    }
}

fn refused(path: &Path, error: &dyn std::error::Error) -> SubjectError {
    SubjectError::Refused { path: path.to_owned(), reasons: vec![chain(error)] }
}

fn add(
    trees: &Trees,
    path: &Path,
    architecture: Architecture,
    is_code: bool,
) -> Result<Digest, SubjectError> {
    let read = |source| SubjectError::Read { path: path.to_owned(), source };
    let zip = if path.is_dir() {
        packed(path, path, architecture)?
    } else {
        let mut file = File::open(path).map_err(read)?;
        let mut magic = [0; 4];
        let count = file.read(&mut magic).map_err(read)?;
        file.rewind().map_err(read)?;
        if is_code
            && !(magic[..count].starts_with(b"PK\x03\x04")
                || magic[..count].starts_with(b"PK\x05\x06"))
        {
            let folder = tempfile::tempdir().map_err(SubjectError::Temporary)?;
            let bootstrap = folder.path().join("bootstrap");
            std::fs::copy(path, &bootstrap).map_err(read)?;
            packed(folder.path(), path, architecture)?
        } else {
            file
        }
    };
    let info = trees.add(&zip).map_err(|error| match error.rejection() {
        Some(rejection) => {
            SubjectError::Refused { path: path.to_owned(), reasons: vec![rejection.detail()] }
        }
        None => refused(path, &error),
    })?;
    let spoiled: Vec<String> = diagnose(&trees.path(&info.digest), architecture)
        .iter()
        .filter(|finding| finding.spoils_package())
        .map(ToString::to_string)
        .collect();
    if !spoiled.is_empty() {
        return Err(SubjectError::Refused { path: path.to_owned(), reasons: spoiled });
    }
    Ok(info.digest)
}

/// Zips a folder; `path` is what it is called in errors.
fn packed(folder: &Path, path: &Path, architecture: Architecture) -> Result<File, SubjectError> {
    let mut file = tempfile::tempfile().map_err(SubjectError::Temporary)?;
    match pack(folder, &mut file, architecture) {
        Ok(_) => Ok(file),
        Err(PackError::Findings(findings)) => Err(SubjectError::Refused {
            path: path.to_owned(),
            reasons: findings.iter().map(ToString::to_string).collect(),
        }),
        Err(error) => Err(refused(path, &error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HERE: Architecture =
        if cfg!(target_arch = "aarch64") { Architecture::Arm64 } else { Architecture::X86_64 };

    fn write(path: &Path, text: &str, mode: u32) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_folder_a_zip_and_a_program_are_the_same_function() {
        let work = tempfile::tempdir().unwrap();
        let program = work.path().join("folder/bootstrap");
        write(&program, "#!/bin/sh\n", 0o755);
        let folder = work.path().join("folder");
        let zip = work.path().join("function.zip");
        let mut file = File::options().create_new(true).read(true).write(true).open(&zip).unwrap();
        pack(&folder, &mut file, HERE).unwrap();
        for path in [&folder, &zip, &program] {
            let subject = Subject::new(path, &[], HERE, None).unwrap();
            let text = std::fs::read_to_string(subject.task.join("bootstrap")).unwrap();
            assert_eq!(text, "#!/bin/sh\n", "{}", path.display());
        }
    }

    #[test]
    fn layers_bring_the_bootstrap_and_later_ones_win() {
        let work = tempfile::tempdir().unwrap();
        let code = work.path().join("code");
        write(&code.join("function.sh"), "", 0o644);
        let error = Subject::new(&code, &[], HERE, None).unwrap_err().to_string();
        assert!(error.starts_with("there is no bootstrap in "), "{error}");
        let layers = ["one", "two"].map(|name| {
            let layer = work.path().join(name);
            write(&layer.join("bootstrap"), &format!("#!/bin/sh\n# {name}\n"), 0o755);
            layer
        });
        let subject = Subject::new(&code, &layers, HERE, None).unwrap();
        let text = std::fs::read_to_string(subject.opt.unwrap().join("bootstrap")).unwrap();
        assert_eq!(text, "#!/bin/sh\n# two\n");
    }

    #[test]
    fn what_cannot_run_anywhere_is_refused_with_its_fix() {
        let work = tempfile::tempdir().unwrap();
        let program = work.path().join("bootstrap");
        write(&program, "#!/bin/sh\r\n", 0o755);
        let error = Subject::new(&program, &[], HERE, None).unwrap_err().to_string();
        assert!(error.contains("carriage return") && error.contains("sed -i"), "{error}");
        let missing =
            Subject::new(&work.path().join("none"), &[], HERE, None).unwrap_err().to_string();
        assert!(missing.starts_with("could not read "), "{missing}");
    }
}
