//! Which package a file of a root is of, in which version and under which licence, as dpkg has it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::root::Root;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    /// Short names; empty if its copyright file does not list them.
    pub(super) licences: Vec<String>,
    /// The whole of its copyright file; empty if it has none here.
    pub(super) copyright: String,
}

/// The packages of those files that belong to one. A root without dpkg has none.
pub(super) fn of_files(root: &Root, files: &BTreeSet<PathBuf>) -> BTreeMap<PathBuf, Package> {
    let info = Path::new("/var/lib/dpkg/info");
    // Lists may name a file as it was called before /bin and /lib became links.
    let wanted: BTreeMap<PathBuf, &PathBuf> = files.iter().map(|f| (merged(f), f)).collect();
    let mut owners: BTreeMap<&PathBuf, String> = BTreeMap::new();
    for name in root.names(info) {
        let Some(package) = name.strip_suffix(".list") else { continue };
        let Some(list) = root.text(&info.join(&name)) else { continue };
        for line in list.lines() {
            if let Some(file) = wanted.get(&merged(Path::new(line))) {
                // Without its architecture.
                let package = package.split(':').next().unwrap_or(package);
                owners.insert(file, package.to_owned());
            }
        }
    }
    let versions = versions(&root.text(Path::new("/var/lib/dpkg/status")).unwrap_or_default());
    let names: BTreeSet<&String> = owners.values().collect();
    let packages: BTreeMap<&String, Package> = names
        .into_iter()
        .map(|name| {
            let copyright = Path::new("/usr/share/doc").join(name).join("copyright");
            let copyright = root.text(&copyright).unwrap_or_default();
            let package = Package {
                name: name.clone(),
                version: versions.get(name).cloned().unwrap_or_default(),
                licences: licences(&copyright),
                copyright,
            };
            (name, package)
        })
        .collect();
    owners.iter().map(|(file, name)| ((*file).clone(), packages[name].clone())).collect()
}

fn merged(path: &Path) -> PathBuf {
    match path.strip_prefix("/usr") {
        Ok(rest) if ["bin", "sbin", "lib", "lib64"].iter().any(|f| rest.starts_with(f)) => {
            Path::new("/").join(rest)
        }
        _ => path.to_owned(),
    }
}

/// `/var/lib/dpkg/status`: paragraphs of fields.
fn versions(status: &str) -> BTreeMap<String, String> {
    let field = |paragraph: &str, name: &str| {
        let mut lines = paragraph.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned))
    };
    status
        .split("\n\n")
        .filter_map(|paragraph| Some((field(paragraph, "Package")?, field(paragraph, "Version")?)))
        .collect()
}

/// The names that a machine-readable copyright file gives.
fn licences(copyright: &str) -> Vec<String> {
    if !copyright.starts_with("Format:") {
        return Vec::new();
    }
    let names = copyright.lines().filter_map(|line| line.strip_prefix("License:"));
    let names: BTreeSet<String> =
        names.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
    names.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_has_a_package_a_version_and_licences() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("var/lib/dpkg/info/libc6:amd64.list", "/.\n/lib/x86_64-linux-gnu/libc.so.6\n");
        write("var/lib/dpkg/info/bash.list", "/.\n/bin/bash\n");
        write(
            "var/lib/dpkg/status",
            "Package: bash\nStatus: install ok installed\nVersion: 5.2-1\n\n\
             Package: libc6\nArchitecture: amd64\nVersion: 2.36-9\n",
        );
        write(
            "usr/share/doc/bash/copyright",
            "Format: https://x\n\nFiles: *\nLicense: GPL-3+\n\nFiles: x\nLicense: Expat\n\nLicense:\n",
        );
        write("usr/share/doc/libc6/copyright", "This is free text.\nLicense: none of a format\n");
        let root = Root::new(folder.path()).unwrap();
        let files = ["/usr/lib/x86_64-linux-gnu/libc.so.6", "/usr/bin/bash", "/opt/own"];
        let found = of_files(&root, &files.iter().map(PathBuf::from).collect());
        assert_eq!(found.len(), 2);
        let bash = &found[Path::new("/usr/bin/bash")];
        assert_eq!((bash.name.as_str(), bash.version.as_str()), ("bash", "5.2-1"));
        assert_eq!(bash.licences, ["Expat", "GPL-3+"]);
        let libc = &found[Path::new("/usr/lib/x86_64-linux-gnu/libc.so.6")];
        assert_eq!((libc.name.as_str(), libc.version.as_str()), ("libc6", "2.36-9"));
        assert!(libc.licences.is_empty() && libc.copyright.starts_with("This is"));
    }
}
