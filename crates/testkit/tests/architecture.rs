//! The crate graph and the house rules that ARCHITECTURE.md states, checked. An edge that is
//! missing here is either a mistake in a Cargo.toml or a change of the architecture: then change
//! the table, the code map and say why.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Who may use whom of our own crates. Crates in a row may use crates of earlier rows only.
const EDGES: &[(&str, &[&str])] = &[
    // leaves
    ("types", &[]),
    ("sandbox", &[]),
    // the guest side of the Runtime API: linked into runtimes, so with none of the host's crates
    ("runtime-client", &[]),
    ("http1", &[]),
    // parts
    ("api-model", &["types"]),
    ("store", &["types"]),
    ("package", &["types"]),
    ("fault", &["types"]),
    ("runtime-api", &["types", "http1"]),
    ("logs", &["types", "store"]),
    // machinery: pool and environment never know each other
    ("pool", &["types"]),
    ("environment", &["types", "fault", "package", "sandbox", "runtime-api", "logs"]),
    // the host of a runtime under test: none of the server's
    ("conform", &["types", "package", "sandbox"]),
    // domain
    ("control", &["types", "store", "package", "logs"]),
    ("invoke", &["types", "fault", "store", "pool", "logs", "control"]),
    // surfaces
    ("gateway", &["types", "fault", "http1", "api-model", "control", "invoke", "logs"]),
    // wiring
    (
        "server",
        &[
            "types",
            "sandbox",
            "api-model",
            "store",
            "fault",
            "package",
            "runtime-api",
            "logs",
            "pool",
            "environment",
            "control",
            "invoke",
            "gateway",
        ],
    ),
    // command
    ("cli", &["types", "package", "sandbox", "conform", "server"]),
    // never shipped
    ("testkit", &[]),
    ("xtask", &["types", "api-model", "package"]),
    ("benches", &["types", "sandbox", "package"]),
    ("e2e", &[]),
];

/// What a guest may use of ours.
const GUEST: &[&str] = &["runtime-client"];

/// Crates of others that belong to few of ours, since they are what the rest is kept free of.
const OWNERS: &[(&str, &[&str])] = &[
    ("clap", &["cli", "xtask", "benches"]),
    ("httparse", &["http1"]),
    ("hyper", &["gateway", "runtime-api", "server", "benches"]),
    ("rusqlite", &["store"]),
    ("seccompiler", &["sandbox"]),
    ("ureq", &["cli", "testkit", "e2e", "benches", "xtask"]),
];

/// No thread pool, no asynchronous runtime and no clock of its own here.
const WITHOUT_TOKIO: &[&str] = &[
    "types",
    "fault",
    "api-model",
    "package",
    "sandbox",
    "conform",
    "runtime-client",
    "cli",
    "testkit",
];

/// Longest source file, lines: past it, look for the seam.
const FILE_LINES: usize = 900;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

fn packages() -> Vec<Value> {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn name(package: &Value) -> &str {
    let name = package["name"].as_str().unwrap();
    name.strip_prefix("lambfold-").unwrap_or_else(|| panic!("{name} is not named lambfold-…"))
}

/// Those, what they may use, and so on.
fn below(uses: &[&'static str]) -> BTreeSet<&'static str> {
    let edges = |of: &str| EDGES.iter().find(|(name, _)| *name == of).map_or(&[][..], |e| e.1);
    uses.iter().flat_map(|used| below(edges(used)).into_iter().chain([*used])).collect()
}

fn manifest(package: &Value) -> PathBuf {
    PathBuf::from(package["manifest_path"].as_str().unwrap())
}

fn dependencies<'a>(package: &'a Value, kinds: &'a [Option<&str>]) -> Vec<&'a str> {
    let all = package["dependencies"].as_array().unwrap().iter();
    all.filter(|dependency| kinds.contains(&dependency["kind"].as_str()))
        .map(|dependency| dependency["name"].as_str().unwrap())
        .collect()
}

/// Files of all members, without what is built.
fn sources() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    walk(&path, found);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    for package in packages() {
        walk(manifest(&package).parent().unwrap(), &mut found);
    }
    found
}

fn is_of(path: &Path, member: &str) -> bool {
    path.starts_with(root().join(member))
}

#[test]
fn the_table_itself_goes_downward_only() {
    let mut earlier = BTreeSet::new();
    for (name, uses) in EDGES {
        for used in *uses {
            assert!(earlier.contains(used), "{name} uses {used}, which is not in an earlier row");
        }
        earlier.insert(name);
    }
}

#[test]
fn crates_use_only_what_the_architecture_allows() {
    for package in packages() {
        let name = name(&package);
        let of_table = EDGES.iter().find(|(of, _)| *of == name).map(|(_, uses)| *uses);
        // Built-in runtimes are guests: they speak the Runtime API and know nothing else of ours.
        let allowed = of_table.or(is_of(&manifest(&package), "runtimes").then_some(GUEST));
        let allowed = allowed.unwrap_or_else(|| panic!("crate {name} is not in the table"));
        for used in dependencies(&package, &[None, Some("build")]) {
            let Some(used) = used.strip_prefix("lambfold-") else { continue };
            assert!(allowed.contains(&used), "{name} must not depend on {used}");
        }
        for used in dependencies(&package, &[Some("dev")]) {
            let Some(used) = used.strip_prefix("lambfold-") else { continue };
            // Itself: how a crate turns on a feature that only its tests need. What is below
            // anyway may stand there for real instead of a fake.
            let fixture = used == "testkit" || used == name || below(allowed).contains(used);
            assert!(fixture, "the tests of {name} must not depend on {used}");
        }
    }
}

#[test]
fn nothing_that_ships_contains_the_testkit() {
    for package in packages() {
        let used = dependencies(&package, &[None, Some("build")]);
        let name = name(&package);
        let dev_only = matches!(name, "e2e" | "benches");
        assert!(dev_only || !used.contains(&"lambfold-testkit"), "{name}");
    }
}

#[test]
fn crates_of_others_stay_with_their_owners() {
    for package in packages() {
        let name = name(&package);
        for used in dependencies(&package, &[None, Some("build")]) {
            if let Some((_, owners)) = OWNERS.iter().find(|(of, _)| *of == used) {
                assert!(owners.contains(&name), "{name} must not depend on {used}");
            }
            assert!(used != "tokio" || !WITHOUT_TOKIO.contains(&name), "{name} uses tokio");
            assert!(used != "anyhow", "{name}: errors are enums, one an operation");
        }
    }
}

#[test]
fn unsafe_code_is_denied_everywhere_but_in_the_sandbox() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let manifest: String = manifest.split_whitespace().collect();
    assert!(manifest.contains("unsafe_code=\"deny\""));
    for package in packages() {
        let path = package["manifest_path"].as_str().unwrap();
        let text: String = std::fs::read_to_string(path).unwrap().split_whitespace().collect();
        assert!(text.contains("[lints]workspace=true"), "{path} does not take the lints");
    }
    for path in sources().iter().filter(|path| !is_of(path, "crates/sandbox")) {
        let text = std::fs::read_to_string(path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_start();
            let opens = line.starts_with("#[") || line.starts_with("#![");
            let allows = ["allow(", "expect(", "warn("].iter().any(|word| line.contains(word));
            assert!(
                !(opens && allows && line.contains("unsafe_code")),
                "{}:{} lets unsafe code in",
                path.display(),
                number + 1
            );
        }
    }
}

/// The program text of a file without its tests.
fn shipped_text(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    text.split("#[cfg(test)]").next().unwrap_or_default().to_owned()
}

fn shipped_sources() -> impl Iterator<Item = PathBuf> {
    let of_source = |path: &PathBuf| {
        let in_source = path.components().any(|part| part.as_os_str() == "src");
        let in_tests = path.file_name().is_some_and(|name| name == "tests.rs")
            || path.components().any(|part| part.as_os_str() == "tests");
        is_of(path, "crates") && !is_of(path, "crates/testkit") && in_source && !in_tests
    };
    sources().into_iter().filter(of_source)
}

#[test]
fn processes_are_started_by_the_sandbox_alone() {
    for path in shipped_sources().filter(|path| !is_of(path, "crates/sandbox")) {
        let starts = shipped_text(&path).contains("process::Command");
        assert!(!starts, "{}: forking a threaded server is slow and unsafe", path.display());
    }
}

#[test]
fn only_surfaces_know_http_status_codes() {
    let may = ["crates/gateway", "crates/runtime-api", "crates/api-model", "crates/cli"];
    for path in shipped_sources().filter(|path| !may.iter().any(|member| is_of(path, member))) {
        let knows = shipped_text(&path).contains("StatusCode");
        assert!(!knows, "{}: return an error; the gateway picks the status", path.display());
    }
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    for path in sources() {
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= FILE_LINES, "{} has {lines} lines", path.display());
    }
}

#[test]
fn modules_are_files_named_for_themselves() {
    for path in sources() {
        // Folders of tests hold the modules of one test binary and may not have another way.
        let in_tests = path.components().any(|part| part.as_os_str() == "tests");
        let is_mod = path.file_name().is_some_and(|name| name == "mod.rs");
        assert!(!is_mod || in_tests, "{}: use foo.rs beside foo/", path.display());
    }
}

/// `[text](target)` of a document, without those that lead to the web.
fn links(document: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for part in document.split("](").skip(1).zip(document.split("](")) {
        let (after, before) = part;
        let target = after.split(')').next().unwrap_or_default();
        let text = before.rsplit('[').next().unwrap_or_default();
        if !target.contains("://") && !target.starts_with('#') {
            found.push((text.to_owned(), target.split('#').next().unwrap_or_default().to_owned()));
        }
    }
    found
}

fn documents() -> Vec<PathBuf> {
    let folder = std::fs::read_dir(root()).unwrap();
    let files = folder.map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

#[test]
fn links_of_the_house_documents_lead_somewhere() {
    for path in documents() {
        for (_, target) in links(&std::fs::read_to_string(&path).unwrap()) {
            assert!(root().join(&target).exists(), "{}: {target}", path.display());
        }
    }
}

#[test]
fn every_proof_of_the_specification_exists() {
    let specification = std::fs::read_to_string(root().join("SPECIFICATION.md")).unwrap();
    let mut proofs = 0;
    for (text, target) in links(&specification) {
        if target.ends_with(".rs") {
            let test = text.trim_matches('`');
            let code = std::fs::read_to_string(root().join(&target)).unwrap_or_default();
            assert!(code.contains(&format!("fn {test}(")), "there is no test {test} in {target}");
            proofs += 1;
        }
    }
    assert!(proofs > 30, "only {proofs} proofs were found");
}

#[test]
fn the_code_map_is_whole() {
    let architecture = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for package in packages() {
        let manifest = manifest(&package);
        let folder = manifest.parent().unwrap().strip_prefix(root()).unwrap();
        let folder = match folder.strip_prefix("runtimes") {
            Ok(_) => "runtimes".to_owned(),
            Err(_) => folder.display().to_string(),
        };
        let named = architecture.contains(&format!("`{folder}`"));
        assert!(named, "ARCHITECTURE.md does not name {folder}");
    }
}
