//! Puts the bootstraps of the built-in runtimes into the program, when it is told where they are.
#![allow(clippy::print_stdout)] // how a build script talks to cargo

use std::env;
use std::error::Error;
use std::fmt::Write;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=LAMBFOLD_BOOTSTRAPS");
    let folder = env::var_os("LAMBFOLD_BOOTSTRAPS").filter(|folder| !folder.is_empty());
    let mut source = String::new();
    for (name, file) in [("BASH", "bash-bootstrap"), ("PHP", "php-bootstrap")] {
        let value = match &folder {
            None => "None".to_owned(),
            Some(folder) => {
                let find = |file: &str| -> Result<_, String> {
                    let path = Path::new(folder).join(file);
                    let path = path.canonicalize().map_err(|error| {
                        format!(
                            "{} of LAMBFOLD_BOOTSTRAPS: {error}; run tools/bootstraps",
                            path.display()
                        )
                    })?;
                    println!("cargo::rerun-if-changed={}", path.display());
                    Ok(path)
                };
                let (program, crates) = (find(file)?, find(&format!("{file}.crates"))?);
                format!("Some((include_bytes!({program:?}), include_str!({crates:?})))")
            }
        };
        writeln!(source, "pub(super) static {name}: Option<(&[u8], &str)> = {value};")?;
    }
    let out = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?;
    std::fs::write(Path::new(&out).join("bootstraps.rs"), source)?;
    Ok(())
}
