//! Help texts are golden files; `UPDATE_GOLDEN=1 cargo nextest run -p lambfold-cli` writes them.

use crate::{lambfold, run};
use std::path::Path;

const COMMANDS: &[&[&str]] = &[
    &[],
    &["serve"],
    &["env"],
    &["deploy"],
    &["invoke"],
    &["package"],
    &["layer"],
    &["layer", "build"],
    &["layer", "publish"],
    &["layer", "import"],
    &["conform"],
    &["logs"],
    &["fault"],
    &["doctor"],
    &["completions"],
    &["man"],
];

#[test]
fn help_is_as_it_was() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut expected_files = Vec::new();
    for command in COMMANDS {
        let mut args = command.to_vec();
        args.push("--help");
        let ran = run(&mut lambfold(&args));
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
        let name = match command {
            [] => "help.txt".to_owned(),
            parts => format!("help-{}.txt", parts.join("-")),
        };
        let path = folder.join(&name);
        expected_files.push(name);
        if update {
            std::fs::write(&path, &ran.stdout).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(golden, ran.stdout, "{}: UPDATE_GOLDEN=1 rewrites it", path.display());
    }
    expected_files.sort();
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, expected_files, "a command without a golden file, or the other way round");
}

#[test]
fn every_command_of_the_overview_is_covered() {
    let overview = run(&mut lambfold(&["--help"])).stdout;
    let commands = overview.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let listed: Vec<_> =
        commands.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let covered: Vec<_> =
        COMMANDS.iter().filter(|parts| parts.len() == 1).map(|parts| parts[0]).collect();
    assert_eq!(listed, covered);
}
