mod libraries;

use crate::elf;
use crate::guest_path::Guest;
pub use crate::guest_path::View;
use lambfold_types::Architecture;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where a bootstrap may be, in the order in which it is looked for.
const PLACES: [&str; 2] = ["/var/task/bootstrap", "/opt/bootstrap"];
/// `PATH` of an execution environment of `provided.al2023`, unless its function says otherwise.
pub const PATH: &str = "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin";
/// `LD_LIBRARY_PATH` of the same.
pub const LIBRARY_PATH: &str = "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib";
/// The kernel reads no more of a shebang line.
const HEAD_BYTES: usize = 256;

/// A reason why a bootstrap cannot run; `Display` says it in one sentence, with the fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// Neither the function nor its layers have one.
    #[error(
        "there is no bootstrap in /var/task or /opt: put an executable file named bootstrap at the top of the zip (not in a subfolder), or add a layer that has one"
    )]
    BootstrapMissing,
    /// A folder, or something that cannot be executed.
    #[error("{path} is not a regular file: make bootstrap a program or a script")]
    NotAFile {
        /// In the environment.
        path: String,
    },
    /// No exec bit.
    #[error(
        "{path} is not executable: run `chmod 755 bootstrap` before zipping; zips made on Windows carry no exec bits, `lambfold package` sets what the files have"
    )]
    NotExecutable {
        /// In the environment.
        path: String,
    },
    /// The shebang line ends in CR LF, so that the kernel looks for a program named `…\r`.
    #[error(
        "the first line of {path} ends in a carriage return (Windows line ends), so that {interpreter:?} is looked for with a carriage return in its name: convert the file with `sed -i 's/\\r$//' bootstrap`"
    )]
    CarriageReturn {
        /// In the environment.
        path: String,
        /// As it was meant.
        interpreter: String,
    },
    /// A byte order mark hides the shebang.
    #[error(
        "{path} begins with a byte order mark, which hides its #! line: save it as UTF-8 without BOM"
    )]
    ByteOrderMark {
        /// In the environment.
        path: String,
    },
    /// Neither ELF nor a script with `#!`.
    #[error(
        "{path} is neither a Linux program nor a script with a #! line: let its first line be, for example, #!/bin/sh"
    )]
    NotAProgram {
        /// In the environment.
        path: String,
    },
    /// The program of the shebang line is not there.
    #[error(
        "the interpreter {interpreter} of {path} does not exist in the execution environment, or is not executable: install it, bring it in a layer, or correct the first line of the file"
    )]
    InterpreterMissing {
        /// In the environment.
        path: String,
        /// As in the shebang line.
        interpreter: String,
    },
    /// Compiled for another machine.
    #[error(
        "{path} is a program for {machine}, but the function's architecture is {expected}: build it for {expected}, or set the architecture of the function"
    )]
    WrongArchitecture {
        /// In the environment.
        path: String,
        /// What it was built for.
        machine: String,
        /// What is wanted.
        expected: &'static str,
    },
    /// The dynamic loader that the program names is not there.
    #[error(
        "the dynamic loader {loader} of {path} does not exist in the execution environment: link the program statically (a musl target), or run with a root file system that has the loader"
    )]
    LoaderMissing {
        /// In the environment.
        path: String,
        /// As in the program.
        loader: String,
    },
    /// A library that the program is linked with, or that one of its libraries is, is not there.
    #[error(
        "{path} needs the library {library}, which does not exist in the execution environment for its architecture (looked for in {}, and where the root file system's loader looks): put it into the folder lib of the zip or of a layer, which are /var/task/lib and /opt/lib, or link the program statically (a musl target)",
        searched.join(":")
    )]
    LibraryMissing {
        /// Who needs it, in the environment: the bootstrap, its interpreter, or a library.
        path: String,
        /// As it is named there.
        library: String,
        /// The folders of its own and of `LD_LIBRARY_PATH`, in their order.
        searched: Vec<String>,
    },
}

impl Finding {
    /// True for what is wrong with the file itself and would be wrong everywhere; such a folder
    /// is not packed. A function without bootstrap is fine: its runtime is in a layer.
    #[must_use]
    pub fn spoils_package(&self) -> bool {
        !matches!(
            self,
            Self::BootstrapMissing
                | Self::InterpreterMissing { .. }
                | Self::LoaderMissing { .. }
                | Self::LibraryMissing { .. }
        )
    }
}

/// Says why the bootstrap of a tree would not run, without knowing its layers or the root file
/// system. Empty: nothing was found.
#[must_use]
pub fn diagnose(tree: &Path, architecture: Architecture) -> Vec<Finding> {
    View::new(tree).diagnose(architecture)
}

impl View<'_> {
    /// Says why the bootstrap of a function would not run. Empty: nothing was found.
    #[must_use]
    pub fn diagnose(&self, architecture: Architecture) -> Vec<Finding> {
        for path in PLACES {
            let path_text = path.to_owned();
            match self.resolve(path.as_bytes()) {
                Guest::Missing => {}
                Guest::Unknown if path == PLACES[1] => {}
                // A link out of what is known: the guest will tell.
                Guest::Unknown => return Vec::new(),
                Guest::Directory | Guest::Special => {
                    return vec![Finding::NotAFile { path: path_text }];
                }
                Guest::File { file, mode } => {
                    let mut findings = Vec::new();
                    if mode & 0o111 == 0 {
                        findings.push(Finding::NotExecutable { path: path_text.clone() });
                    }
                    if let Some(file) = file {
                        findings.extend(self.examine(path, &file, architecture));
                    }
                    return findings;
                }
            }
        }
        vec![Finding::BootstrapMissing]
    }

    fn examine(&self, path: &str, file: &File, architecture: Architecture) -> Vec<Finding> {
        let text = path.to_owned();
        let mut head = [0; HEAD_BYTES];
        let Ok(count) = file.read_at(&mut head, 0) else { return Vec::new() };
        let head = &head[..count];
        if let Some(elf) = elf::read(file, head) {
            let expected = architecture.as_str();
            if elf.machine != expected {
                let machine = elf.machine;
                return vec![Finding::WrongArchitecture { path: text, machine, expected }];
            }
            return self.examine_program(path.as_bytes(), elf);
        }
        if head.starts_with(b"\xef\xbb\xbf#!") {
            return vec![Finding::ByteOrderMark { path: text }];
        }
        let Some(line) = head.strip_prefix(b"#!") else {
            return vec![Finding::NotAProgram { path: text }];
        };
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let (line, carriage_return) = match line.strip_suffix(b"\r") {
            Some(line) => (line, true),
            None => (line, false),
        };
        let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
        let mut words = line.split(blank).filter(|word| !word.is_empty());
        let Some(interpreter) = words.next() else {
            return vec![Finding::NotAProgram { path: text }];
        };
        let missing = |interpreter: &[u8]| {
            let interpreter = String::from_utf8_lossy(interpreter).into_owned();
            vec![Finding::InterpreterMissing { path: path.to_owned(), interpreter }]
        };
        if carriage_return {
            let interpreter = String::from_utf8_lossy(interpreter).into_owned();
            return vec![Finding::CarriageReturn { path: text, interpreter }];
        }
        if !self.runnable(interpreter) {
            return missing(interpreter);
        }
        // `#!/usr/bin/env bash`: the interpreter that matters is the one that env looks for.
        let wanted = words.next().filter(|wanted| {
            let is_env = interpreter.ends_with(b"/env");
            is_env && !wanted.starts_with(b"-") && !wanted.contains(&b'=')
        });
        let program = match wanted {
            Some(wanted) if !wanted.contains(&b'/') => {
                let folders = self.path.split(':').filter(|folder| !folder.is_empty());
                let mut places = folders.map(|folder| [folder.as_bytes(), b"/", wanted].concat());
                match places.find(|place| self.runnable(place)) {
                    Some(place) => place,
                    None => return missing(wanted),
                }
            }
            Some(wanted) => wanted.to_vec(),
            None => interpreter.to_vec(),
        };
        match self.program(&program) {
            Some(elf) => self.examine_program(&program, elf),
            None => Vec::new(),
        }
    }

    /// What keeps a program from being loaded that is for the right machine.
    fn examine_program(&self, path: &[u8], elf: elf::Elf) -> Vec<Finding> {
        match &elf.loader {
            None => Vec::new(),
            Some(loader) if self.runnable(loader) => self.missing_libraries(path, elf),
            Some(loader) => {
                let loader = String::from_utf8_lossy(loader).into_owned();
                let path = String::from_utf8_lossy(path).into_owned();
                vec![Finding::LoaderMissing { path, loader }]
            }
        }
    }

    /// The program at a path, if there is one that can be read.
    fn program(&self, path: &[u8]) -> Option<elf::Elf> {
        let Guest::File { file: Some(file), .. } = self.resolve(path) else { return None };
        let mut head = [0; HEAD_BYTES];
        let count = file.read_at(&mut head, 0).ok()?;
        elf::read(&file, &head[..count])
    }

    /// False only when the path is known not to be an executable file. Relative paths begin at
    /// the working folder, `/var/task`.
    fn runnable(&self, path: &[u8]) -> bool {
        let absolute = match path.first() {
            Some(b'/') => path.to_vec(),
            _ => [b"/var/task/", path].concat(),
        };
        match self.resolve(&absolute) {
            Guest::Unknown => true,
            Guest::File { mode, .. } => mode & 0o111 != 0,
            Guest::Missing | Guest::Directory | Guest::Special => false,
        }
    }
}

#[cfg(test)]
mod tests;
