//! Code on its way to a server: a folder is packed, a zip is checked, and what would keep its
//! bootstrap from running is found before anything is sent.

use crate::failure::Failure;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lambfold_package::{
    Finding, Options, PackError, PackageError, TreeInfo, Trees, diagnose, pack,
};
use lambfold_types::{Architecture, limits};
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

/// A zip that is ready to be sent.
#[derive(Debug)]
pub(crate) struct Code {
    file: File,
    pub(crate) info: TreeInfo,
    /// What may keep its bootstrap from running; nothing that is wrong everywhere.
    pub(crate) findings: Vec<Finding>,
}

impl Code {
    /// Packs the folder, or checks the zip, at `path`.
    pub(crate) fn read(path: &Path, architecture: Architecture) -> Result<Self, Failure> {
        let code = if path.is_dir() {
            Self::pack(path, architecture)
        } else {
            Self::check(path, architecture)
        }?;
        let limit = limits::DIRECT_UPLOAD_BYTES;
        if code.info.zip_bytes >= limit {
            let bytes = code.info.zip_bytes;
            return Err(Failure::failed(format!(
                "the zip of {} has {bytes} bytes; an upload must be smaller than {limit} bytes",
                path.display()
            ))
            .hint("move large files to a layer: lambfold layer publish DIR --name NAME"));
        }
        Ok(code)
    }

    fn pack(dir: &Path, architecture: Architecture) -> Result<Self, Failure> {
        let mut file = tempfile::tempfile().map_err(temporary)?;
        let info = pack(dir, &mut file, architecture).map_err(|error| not_packed(dir, error))?;
        Ok(Self { file, info, findings: diagnose(dir, architecture) })
    }

    fn check(path: &Path, architecture: Architecture) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| {
            Failure::failed(format!("could not read {}", path.display())).cause(&error)
        })?;
        let folder = tempfile::tempdir().map_err(temporary)?;
        let options = Options { durable: false, ..Options::default() };
        let trees = Trees::open(folder.path(), options).map_err(temporary)?;
        let info = trees.add(&file).map_err(|error| not_taken(path, &error))?;
        let findings = diagnose(&trees.path(&info.digest), architecture);
        let (spoiled, findings) = findings.into_iter().partition(Finding::spoils_package);
        refuse(path, spoiled)?;
        Ok(Self { file, info, findings })
    }

    /// The zip in base64, as requests carry it.
    pub(crate) fn base64(&mut self) -> Result<String, Failure> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.info.zip_bytes).unwrap_or(0));
        self.file
            .rewind()
            .and_then(|()| self.file.read_to_end(&mut bytes))
            .map_err(|error| Failure::failed("could not read the zip again").cause(&error))?;
        Ok(STANDARD.encode(bytes))
    }
}

/// A folder that was not packed, in the words of the terminal.
pub(crate) fn not_packed(dir: &Path, error: PackError) -> Failure {
    match error {
        PackError::Findings(findings) => match refuse(dir, findings) {
            Err(failure) => failure,
            Ok(()) => Failure::failed(format!("could not pack {}", dir.display())),
        },
        PackError::Refused(inner) => not_taken(dir, &inner),
        other => Failure::failed(format!("could not pack {}", dir.display())).cause(&other),
    }
}

fn not_taken(path: &Path, error: &PackageError) -> Failure {
    let failure = Failure::failed(format!("{} is not a deployment package", path.display()));
    match error.rejection() {
        Some(rejection) => failure.because(&rejection.detail()),
        None => failure.cause(error),
    }
}

fn refuse(path: &Path, findings: Vec<Finding>) -> Result<(), Failure> {
    if findings.is_empty() {
        return Ok(());
    }
    let failure = Failure::failed(format!("the bootstrap in {} cannot run", path.display()));
    Err(findings.iter().fold(failure, |failure, finding| failure.because(&finding.to_string())))
}

fn temporary(error: std::io::Error) -> Failure {
    Failure::failed("could not make a temporary file")
        .cause(&error)
        .hint("TMPDIR names the folder for temporary files")
}
