//! The layers of the built-in runtimes, made once for a system as it is and kept in the user's
//! cache folder.

use super::{bash, bootstraps, explain, make, program, root::Root};
use crate::args::{BuiltIn, Format, LayerBuild, Printing};
use crate::failure::Failure;
use sha2::{Digest as _, Sha256};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What changes whenever the system's packages do.
const SYSTEM: &[&str] = &[
    "/var/lib/dpkg/status",
    "/var/lib/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/lib/apk/db/installed",
    "/var/lib/pacman/local",
];
/// Settings that go into the layer of PHP.
const SETTINGS: &[&str] = &["/etc/php", "/etc/php.ini", "/etc/php.d"];
const PROGRAMS: &[&str] = &["bash", "php-cgi", "php"];

/// The zip of a built-in runtime for this machine.
pub(in crate::command) fn cached(runtime: BuiltIn) -> Result<PathBuf, Failure> {
    let folder = folder()?;
    let failed = |error: &std::io::Error| {
        Failure::failed(format!("could not use the cache folder {}", folder.display()))
            .cause(error)
            .hint("XDG_CACHE_HOME names another one")
    };
    std::fs::create_dir_all(&folder).map_err(|error| failed(&error))?;
    let name = match runtime {
        BuiltIn::Bash => "bash",
        BuiltIn::Php => "php",
    };
    let out = folder.join(format!("{name}-{}.zip", key(runtime)?));
    match out.metadata() {
        Ok(_) => return Ok(out),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(&error)),
    }
    crate::output::talk(&format!("building the layer of the {name} runtime, once"));
    make(&LayerBuild {
        runtime,
        with: Vec::new(),
        from: PathBuf::from("/"),
        out: out.clone(),
        printing: Printing { format: Format::Text },
    })?;
    // Those of systems that were: nobody else looks for them.
    let older = |entry: &std::fs::DirEntry| {
        let file = entry.file_name().to_string_lossy().into_owned();
        file.starts_with(&format!("{name}-")) && file.ends_with(".zip") && entry.path() != out
    };
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten().filter(older) {
        let _ = std::fs::remove_file(entry.path());
    }
    Ok(out)
}

fn folder() -> Result<PathBuf, Failure> {
    let absolute = |name: &str| {
        let path = std::env::var_os(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let home = || absolute("HOME").map(|home| home.join(".cache"));
    let base = absolute("XDG_CACHE_HOME").or_else(home);
    match base {
        Some(base) => Ok(base.join("lambfold/layers")),
        None if lambfold_sandbox::is_root() => Ok(PathBuf::from("/var/cache/lambfold/layers")),
        None => Err(Failure::usage("there is no folder for built layers: HOME is not set")
            .hint("name one with XDG_CACHE_HOME")),
    }
}

/// Names what the layer is made of, without reading all of it.
fn key(runtime: BuiltIn) -> Result<String, Failure> {
    let root = Root::new(Path::new("/"))
        .map_err(|error| Failure::failed("could not open /").cause(&error))?;
    let bootstrap = bootstraps::find(runtime).map_err(|error| explain(&error.into()))?;
    let mut hash = Sha256::new();
    hash.update(env!("CARGO_PKG_VERSION"));
    hash.update(bash::FOLDER);
    hash.update(&bootstrap.program);
    let mut looked_at: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
    looked_at.extend(PROGRAMS.iter().filter_map(|name| Some(program(&root, name)?.path)));
    for path in SETTINGS {
        below(Path::new(path), &mut looked_at);
    }
    looked_at.sort();
    for path in looked_at {
        if let Ok(metadata) = path.metadata() {
            hash.update(format!(
                "{}\0{}\0{}.{}\0",
                path.display(),
                metadata.len(),
                metadata.mtime(),
                metadata.mtime_nsec()
            ));
        }
    }
    Ok(hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

fn below(path: &Path, found: &mut Vec<PathBuf>) {
    found.push(path.to_owned());
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            below(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}
