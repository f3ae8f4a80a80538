//! Completions in real shells, and manual pages under the eyes of their formatters.

use crate::{lambfold, run};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

fn completions(shell: &str) -> String {
    let ran = run(&mut lambfold(&["completions", shell]));
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{shell}");
    ran.stdout
}

/// What a line that ends so is to be completed to; each has more than one answer, so that shells
/// list them.
const LINES: &[(&str, &[&str])] = &[
    ("lambfold l", &["layer", "logs"]),
    ("lambfold layer ", &["build", "import", "publish"]),
    ("lambfold invoke --output ", &["json", "text"]),
    ("lambfold invoke echo --qu", &["--qualifier"]),
    ("lambfold doctor --r", &["--region", "--rootfs"]),
    ("lambfold layer build ", &["bash", "php"]),
    ("lambfold fault echo ", &["api-500", "slow-next", "throttle"]),
];

/// Runs a program that must be there.
fn output(program: &str, args: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(program);
    command.args(args).env("LC_ALL", "C.UTF-8").stdin(std::process::Stdio::null());
    let ran = command.output();
    let ran = ran.unwrap_or_else(|error| panic!("{program} (tools/setup test): {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (ran.status.success(), text(&ran.stdout), text(&ran.stderr))
}

#[test]
fn bash_completes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lambfold.bash");
    std::fs::write(&path, completions("bash")).unwrap();
    let mut script = format!("source {}\n", path.display());
    // As readline calls it: the command, the word, and the word before.
    script.push_str(
        "function_of=$(complete -p lambfold)
         [[ $function_of =~ -F\\ ([^ ]+) ]] && function_of=${BASH_REMATCH[1]}
         try() {
           COMP_LINE=$1 COMP_POINT=${#1}
           read -ra COMP_WORDS <<< \"$1\"
           [[ $1 == *' ' ]] && COMP_WORDS+=('')
           COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
           COMPREPLY=()
           $function_of lambfold \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"
           printf '%s\\n' \"${COMPREPLY[*]}\"
         }\n",
    );
    for (line, _) in LINES {
        writeln!(script, "try '{line}'").unwrap();
    }
    let (works, stdout, stderr) = output("bash", &["--norc", "-c", &script]);
    assert!(works && stderr.is_empty(), "{stderr}");
    assert_eq!(stdout.lines().count(), LINES.len(), "{stdout}");
    for ((line, expected), offered) in LINES.iter().zip(stdout.lines()) {
        let offered: Vec<_> = offered.split(' ').collect();
        assert!(expected.iter().all(|word| offered.contains(word)), "{line}: {offered:?}");
    }
}

#[test]
fn fish_completes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lambfold.fish");
    std::fs::write(&path, completions("fish")).unwrap();
    for (line, expected) in LINES {
        let script = format!("source {}; complete -C '{line}'", path.display());
        let (works, stdout, stderr) = output("fish", &["--no-config", "-c", &script]);
        assert!(works && stderr.is_empty(), "{line}: {stderr}");
        let offered: Vec<_> = stdout.lines().filter_map(|line| line.split('\t').next()).collect();
        assert!(expected.iter().all(|word| offered.contains(word)), "{line}: {offered:?}");
    }
}

/// A shell in a terminal of its own, into which the line and a Tab are typed; reads until what is
/// shown matches.
const ZSH: &str = "
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell \"PROMPT=; fpath=($1 \\$fpath); autoload -Uz compinit; compinit -u -D; bindkey '^I' list-choices; echo rea''dy\"
zpty -r shell shown '*ready*'
zpty -w -n shell \"$2\"$'\\t'
zpty -r shell shown \"*$2*$~3*\"
zpty -d shell
";

#[test]
fn zsh_completes() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("_lambfold"), completions("zsh")).unwrap();
    let functions = folder.path().to_str().unwrap();
    for (line, expected) in LINES {
        // A single answer is typed for the user.
        let pattern = match expected {
            [only] => (*only).to_owned(),
            several => several.join("*"),
        };
        let args = ["20", "zsh", "-f", "-c", ZSH, "zsh", functions, line, &pattern];
        let (works, stdout, stderr) = output("timeout", &args);
        assert!(works && stderr.is_empty(), "{line}: {pattern} was not shown: {stdout}{stderr}");
    }
}

fn pages(folder: &Path) -> Vec<String> {
    let mut pages: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().to_str().unwrap().to_owned())
        .collect();
    pages.sort();
    pages
}

#[test]
fn manual_pages_are_without_fault() {
    let folder = tempfile::tempdir().unwrap();
    let man1 = folder.path().join("share/man1");
    let ran = run(&mut lambfold(&["man", man1.to_str().unwrap()]));
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{}", ran.stderr);
    let pages = pages(&man1);
    assert!(pages.len() > 12, "{pages:?}");
    for page in &pages {
        let (works, complaints, _) = output("mandoc", &["-T", "lint", "-W", "warning", page]);
        assert!(works && complaints.is_empty(), "{complaints}");
        let (works, _, complaints) = output("groff", &["-ww", "-man", "-Tutf8", page]);
        assert!(works && complaints.is_empty(), "{page}: {complaints}");
        let (works, text, complaints) = output("man", &["--warnings", "-l", page]);
        assert!(works && complaints.is_empty(), "{page}: {complaints}");
        assert!(text.contains("EXAMPLES"), "{page}: {text}");
    }
}

#[test]
fn a_page_is_printed_by_its_name() {
    for (args, title) in [
        (&["man"][..], ".TH LAMBFOLD 1 2001-09-09 "),
        (&["man", "--page", "invoke"], ".TH LAMBFOLD-INVOKE 1 2001-09-09 "),
        (&["man", "--page", "layer build"], ".TH LAMBFOLD-LAYER-BUILD 1 2001-09-09 "),
    ] {
        let ran = run(lambfold(args).env("SOURCE_DATE_EPOCH", "1000000000"));
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
        assert!(ran.stdout.contains(title), "{}", ran.stdout);
    }
    let ran = run(&mut lambfold(&["man", "--page", "fly"]));
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    assert!(
        ran.stderr.contains("there is no page of \"fly\"; there are: serve, "),
        "{}",
        ran.stderr
    );
}
