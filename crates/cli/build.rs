//! Puts static programs into this one when it is told where they are: the bootstraps of the built-in
//! runtimes, each with the list of what is linked into it, and the sandboxes' spawner.
#![allow(clippy::print_stdout)] // how a build script talks to cargo

use std::env;
use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=LAMBFOLD_BOOTSTRAPS");
    let folder = env::var_os("LAMBFOLD_BOOTSTRAPS").filter(|folder| !folder.is_empty());
    let find = |file: &str| folder.as_ref().map(|folder| find(Path::new(folder), file)).transpose();
    let mut source = String::new();
    for (name, file) in [("BASH", "bash-bootstrap"), ("PHP", "php-bootstrap")] {
        let value = match (find(file)?, find(&format!("{file}.crates"))?) {
            (Some(program), Some(crates)) => {
                format!("Some((include_bytes!({program:?}), include_str!({crates:?})))")
            }
            _ => "None".to_owned(),
        };
        writeln!(source, "pub(crate) static {name}: Option<(&[u8], &str)> = {value};")?;
    }
    let value = match find("lambfold-spawner")? {
        Some(program) => format!("Some(include_bytes!({program:?}))"),
        None => "None".to_owned(),
    };
    writeln!(source, "static SPAWNER: Option<&[u8]> = {value};")?;
    let out = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?;
    std::fs::write(Path::new(&out).join("embedded.rs"), source)?;
    Ok(())
}

fn find(folder: &Path, file: &str) -> Result<PathBuf, String> {
    let path = folder.join(file);
    let path = path.canonicalize().map_err(|error| {
        format!("{} of LAMBFOLD_BOOTSTRAPS: {error}; run tools/bootstraps", path.display())
    })?;
    println!("cargo::rerun-if-changed={}", path.display());
    Ok(path)
}
