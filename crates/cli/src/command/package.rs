use super::{code, shared};
use crate::args::{Format, Package};
use crate::failure::{Exit, Failure};
use crate::output;
use lambfold_package::{Finding, View, pack};
use serde_json::json;
use std::path::Path;

pub(crate) fn run(args: &Package) -> Result<Exit, Failure> {
    let architecture = shared::architecture(args.architecture.as_deref())?;
    if !args.dir.is_dir() {
        return Err(Failure::failed(format!("{} is not a folder", args.dir.display())));
    }
    let failed = |error: std::io::Error| {
        Failure::failed(format!("could not write {}", args.out.display())).cause(&error)
    };
    // A zip that cannot be made must not cost the one that is there.
    let parent = args.out.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut zip = tempfile::Builder::new()
        .prefix(".lambfold-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(parent.unwrap_or(Path::new(".")))
        .map_err(failed)?;
    let info = pack(&args.dir, zip.as_file_mut(), architecture)
        .map_err(|error| code::not_packed(&args.dir, error))?;
    zip.persist(&args.out).map_err(|error| failed(error.error))?;
    // Interpreters, loaders and libraries are this machine's, which is what functions see by default.
    let root = (architecture == shared::architecture(None)?).then_some(Path::new("/"));
    for finding in (View { root, ..View::new(&args.dir) }).diagnose(architecture) {
        match finding {
            Finding::BootstrapMissing => {
                output::talk("note: no bootstrap in the folder; a layer has to bring one");
            }
            finding if finding.spoils_package() => output::warn(&finding.to_string()),
            finding => output::warn(&format!(
                "with this machine's files as the root file system and without a layer, {finding}"
            )),
        }
    }
    let path = args.out.display().to_string();
    match args.printing.format {
        Format::Text => output::line(&path)?,
        Format::Json => output::json(&json!({
            "Path": path,
            "CodeSize": info.zip_bytes,
            "CodeSha256": info.code_sha256(),
            "UnpackedSize": info.unpacked_bytes,
            "Entries": info.entries,
        }))?,
    }
    Ok(Exit::Done)
}
