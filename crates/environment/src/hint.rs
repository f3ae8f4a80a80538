//! Recognises, in a guest's output, that a program was not found, and says what brings it.

/// Programs that the root file system lacks, each with the package that brings it.
pub(crate) type MissingPrograms = [(String, String)];

/// The program that a line says was not found: bash's `…: jq: command not found`, dash's
/// `sh: 1: jq: not found`, env's `env: 'jq': No such file or directory`.
fn program(line: &[u8]) -> Option<&str> {
    let line = line.trim_ascii_end();
    let before = line
        .strip_suffix(b": command not found")
        .or_else(|| line.strip_suffix(b": not found"))
        .or_else(|| {
            let before = line.strip_suffix(b": No such file or directory")?;
            before.windows(5).any(|part| part == b"env: ").then_some(before)
        })?;
    let start = before.iter().rposition(|byte| *byte == b' ').map_or(0, |at| at + 1);
    let word = std::str::from_utf8(&before[start..]).ok()?;
    Some(word.trim_matches(['\'', '"', '`', '‘', '’']))
}

/// What to tell for a line of output, and for which program; `None` for nearly all lines.
pub(crate) fn missing<'a>(
    line: &[u8],
    programs: &'a MissingPrograms,
) -> Option<(&'a str, &'a str)> {
    // Cheap first: this runs for each line of output.
    if programs.is_empty() || line.len() > 1024 {
        return None;
    }
    let name = program(line)?;
    programs
        .iter()
        .find(|(program, _)| program == name)
        .map(|(program, package)| (program.as_str(), package.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_shell_has_its_wording() {
        let programs = [("jq".to_owned(), "jq".to_owned()), ("xxd".to_owned(), "xxd".to_owned())];
        for (line, expected) in [
            ("/var/task/bootstrap: line 3: jq: command not found\n", Some("jq")),
            ("bash: jq: command not found\n", Some("jq")),
            ("sh: 1: jq: not found\n", Some("jq")),
            ("/usr/bin/env: 'xxd': No such file or directory\n", Some("xxd")),
            ("env: ‘xxd’: No such file or directory\r\n", Some("xxd")),
            ("cat: jq: No such file or directory\n", None),
            ("bash: php: command not found\n", None),
            ("the jq: command not found is not the end\n", None),
            ("jq\n", None),
            ("", None),
        ] {
            let found = missing(line.as_bytes(), &programs).map(|(program, _)| program);
            assert_eq!(found, expected, "{line:?}");
        }
        assert_eq!(missing(b"bash: jq: command not found\n", &[]), None);
    }

    proptest! {
        #[test]
        fn any_line_is_survived(line in proptest::collection::vec(any::<u8>(), 0..80), end in 0usize..4) {
            let ends: [&[u8]; 4] =
                [b"", b": command not found", b": not found", b": No such file or directory"];
            let programs = [("jq".to_owned(), "jq".to_owned())];
            let _ = missing(&[line, ends[end].to_vec()].concat(), &programs);
        }
    }
}
