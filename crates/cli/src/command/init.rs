//! `lambfold init`: a folder with a function that works as it is.
//!
//! The starter for Rust stands on `lambda_runtime`, since that is what its author will go on with:
//! a client of the Runtime API in the starter's own file would be there to be thrown away. It needs
//! the registry at its first build; the others need nothing.

use crate::args::{Format, Init, Starter};
use crate::failure::{Exit, Failure};
use crate::output;
use serde_json::json;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Names in the way that are listed before it is "and more".
const SHOWN: usize = 5;

struct File {
    path: &'static str,
    text: &'static str,
    mode: u32,
}

const BASH: &[File] =
    &[File { path: "function.sh", text: include_str!("init/bash/function.sh"), mode: 0o644 }];
const PHP: &[File] =
    &[File { path: "index.php", text: include_str!("init/php/index.php"), mode: 0o644 }];
const RUST: &[File] = &[
    File { path: "Cargo.toml", text: include_str!("init/rust/Cargo.toml"), mode: 0o644 },
    File { path: "src/main.rs", text: include_str!("init/rust/main.rs"), mode: 0o644 },
    File { path: "build.sh", text: include_str!("init/rust/build.sh"), mode: 0o755 },
    File { path: ".gitignore", text: include_str!("init/rust/gitignore"), mode: 0o644 },
];

pub(crate) fn run(args: &Init) -> Result<Exit, Failure> {
    let files = match args.starter {
        Starter::Bash => BASH,
        Starter::Php => PHP,
        Starter::Rust => RUST,
    };
    make_room(&args.dir)?;
    let name = function_name(&args.dir);
    let mut written = Vec::new();
    for file in files {
        let path = args.dir.join(file.path);
        write(&path, &file.text.replace("@NAME@", &name), file.mode)?;
        written.push(path);
    }
    let next = next(args.starter, &shell_word(&args.dir), &name);
    match args.printing.format {
        Format::Json => output::json(&json!({
            "Directory": args.dir.display().to_string(),
            "Files": written.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
            "Next": next,
        }))?,
        Format::Text => {
            for path in &written {
                output::talk(&format!("wrote {}", path.display()));
            }
            output::talk("next:");
            for step in &next {
                output::line(step)?;
            }
        }
    }
    Ok(Exit::Done)
}

/// Makes the folder, or finds it empty.
fn make_room(dir: &Path) -> Result<(), Failure> {
    let failed = |what: &str, error: &std::io::Error| {
        Failure::failed(format!("could not {what} {}", dir.display())).cause(error)
    };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return std::fs::create_dir_all(dir).map_err(|error| failed("make the folder", &error));
        }
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return Err(Failure::failed(format!("{} is there and is no folder", dir.display()))
                .hint("name a folder that is not there yet"));
        }
        Err(error) => return Err(failed("read the folder", &error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed("read the folder", &error))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    if names.is_empty() {
        return Ok(());
    }
    names.sort();
    let more = names.len().saturating_sub(SHOWN);
    let mut shown = names[..names.len() - more].join(", ");
    if more > 0 {
        shown.push_str(&format!(" and {more} more"));
    }
    Err(Failure::failed(format!("the folder {} is not empty: it has {shown}", dir.display()))
        .hint("name a folder that is not there yet; nothing was written"))
}

/// Never over a file that is there.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let parent = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let open = || OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    parent.and_then(|()| open()).and_then(|mut file| file.write_all(text.as_bytes())).map_err(
        |error| Failure::failed(format!("could not write {}", path.display())).cause(&error),
    )
}

/// The folder's name with what a function (and a cargo package) may not be called left out.
fn function_name(dir: &Path) -> String {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| PathBuf::from(dir));
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned());
    let name: String = name
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' })
        .collect();
    let name: String = name.trim_matches('-').chars().take(64).collect();
    match name.as_bytes().first() {
        Some(first) if first.is_ascii_alphabetic() => name,
        Some(_) => format!("f-{}", &name[..name.len().min(62)]),
        None => "function".to_owned(),
    }
}

/// What to type, in order; the first of them that serves goes on until Ctrl-C.
fn next(starter: Starter, dir: &str, name: &str) -> Vec<String> {
    let with_layer = |runtime: &str, handler: &str, invoke: String| {
        vec![
            format!("lambfold dev {dir}"),
            format!("lambfold layer build {runtime} -o {runtime}-layer.zip"),
            format!(
                "lambfold deploy {dir} --name {name} --handler {handler} \
                 --layer \"$(lambfold layer publish {runtime}-layer.zip --name {runtime})\""
            ),
            invoke,
        ]
    };
    let hello = format!("lambfold invoke {name} --payload '{{\"name\":\"Ada\"}}'");
    match starter {
        Starter::Bash => with_layer("bash", "function.handler", hello),
        Starter::Php => {
            let page = format!(
                "lambfold events generate apigateway-v2 | lambfold invoke {name} --payload -"
            );
            with_layer("php", "index.php", page)
        }
        Starter::Rust => vec![
            format!("{dir}/build.sh"),
            format!("lambfold dev {dir}/dist"),
            format!("lambfold deploy {dir}/dist --name {name} --handler bootstrap"),
            hello,
        ],
    }
}

/// A path as one word of a shell, and never as an option.
fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let text = text.trim_end_matches('/');
    let text = match text {
        "" => "/".to_owned(),
        _ if text.starts_with('-') || (!text.contains('/') && text.starts_with('~')) => {
            format!("./{text}")
        }
        _ => text.to_owned(),
    };
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%,=".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_folder() {
        for (dir, name) in [
            ("hello", "hello"),
            ("/tmp/My Shop/", "My-Shop"),
            ("a/b.c", "b-c"),
            ("/", "function"),
            ("…", "function"),
            ("1st", "f-1st"),
            ("_x", "f-_x"),
        ] {
            assert_eq!(function_name(Path::new(dir)), name, "{dir}");
            assert!(lambfold_types::FunctionName::parse(&function_name(Path::new(dir))).is_ok());
        }
        let long = "9".repeat(100);
        assert_eq!(function_name(Path::new(&long)).len(), 64);
    }

    #[test]
    fn folders_are_one_word_of_a_shell() {
        for (dir, word) in [
            ("hello", "hello"),
            ("hello/", "hello"),
            ("/", "/"),
            ("-x", "./-x"),
            ("a b", "'a b'"),
            ("it's", "'it'\\''s'"),
            ("a;b", "'a;b'"),
        ] {
            assert_eq!(shell_word(Path::new(dir)), word);
        }
    }
}
