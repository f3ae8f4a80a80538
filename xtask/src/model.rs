use crate::{TaskError, reduce, root};
use std::path::{Path, PathBuf};
use std::process::Command;

const MODEL: &str = "botocore/data/lambda/2015-03-31/service-2.json";

/// Prints one member of a wheel, unpacked when it is compressed once more.
const EXTRACT: &str = "\
import gzip, sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
name = sys.argv[2]
packed = name + '.gz'
data = gzip.decompress(wheel.read(packed)) if packed in wheel.namelist() else wheel.read(name)
sys.stdout.buffer.write(data)
";

/// The reduced table of the pinned wheel.
pub(crate) fn table() -> Result<String, TaskError> {
    let pin_file = root().join("xtask/botocore.txt");
    let pin = std::fs::read_to_string(&pin_file)
        .map_err(|source| TaskError::File { path: pin_file.clone(), source })?;
    let version = pin
        .lines()
        .find_map(|line| line.strip_prefix("botocore=="))
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap_or_default()
        .to_owned();
    let wheel = wheel(&pin_file, &version)?;
    let wheel = wheel.to_string_lossy();
    let json = output("python3", &["-c", EXTRACT, &wheel, MODEL])?;
    Ok(reduce::reduce(&json, &version)?)
}

/// Downloads the wheel unless an earlier run did; pip checks the hash of the pin.
fn wheel(pin_file: &Path, version: &str) -> Result<PathBuf, TaskError> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root().join("target"), PathBuf::from);
    let folder = target.join("model");
    let path = folder.join(format!("botocore-{version}-py3-none-any.whl"));
    if !path.exists() {
        let folder = folder.to_string_lossy().into_owned();
        let pin_file = pin_file.to_string_lossy().into_owned();
        let pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"];
        let rest = ["--require-hashes", "-r", &pin_file, "-d", &folder];
        output("python3", &[&pip[..], &rest[..]].concat())?;
    }
    Ok(path)
}

fn output(program: &str, arguments: &[&str]) -> Result<Vec<u8>, TaskError> {
    let failed = |why: String| TaskError::Command {
        command: format!("{program} {}", arguments.first().copied().unwrap_or_default()),
        why,
    };
    let result =
        Command::new(program).args(arguments).output().map_err(|e| failed(e.to_string()))?;
    if !result.status.success() {
        return Err(failed(String::from_utf8_lossy(&result.stderr).trim().to_owned()));
    }
    Ok(result.stdout)
}
