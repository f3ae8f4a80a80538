//! `completions` and `man`: both are written from the same table of arguments as `--help`.

use crate::args::{Cli, Completions, Manual, Shell};
use crate::failure::{Exit, Failure};
use crate::output;
use clap::{Command, CommandFactory};
use clap_complete::shells;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use time::OffsetDateTime;

pub(crate) fn completions(args: &Completions) -> Result<Exit, Failure> {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    match args.shell {
        Shell::Bash => clap_complete::generate(shells::Bash, &mut command, name, &mut script),
        Shell::Zsh => clap_complete::generate(shells::Zsh, &mut command, name, &mut script),
        Shell::Fish => {
            clap_complete::generate(shells::Fish, &mut command, name, &mut script);
            for inner in command.get_subcommands() {
                fish_arguments(inner, "", &mut script);
            }
        }
    }
    output::data(&script)?;
    Ok(Exit::Done)
}

/// What arguments without an option may be: clap_complete leaves that out for fish.
fn fish_arguments(command: &Command, above: &str, script: &mut Vec<u8>) {
    let name = command.get_name();
    let here = match above {
        "" => format!("__fish_lambfold_using_subcommand {name}"),
        above => format!("{above}; and __fish_seen_subcommand_from {name}"),
    };
    for value in command.get_positionals().flat_map(clap::Arg::get_possible_values) {
        let help = value.get_help().map(ToString::to_string).unwrap_or_default();
        let help = help.replace('\\', "\\\\").replace('\'', "\\'");
        let (value, line) = (value.get_name(), "complete -c lambfold -f -n");
        script.extend_from_slice(format!("{line} \"{here}\" -a {value} -d '{help}'\n").as_bytes());
    }
    for inner in command.get_subcommands() {
        fish_arguments(inner, &here, script);
    }
}

pub(crate) fn manual(args: &Manual) -> Result<Exit, Failure> {
    let pages = pages()?;
    let Some(dir) = &args.dir else {
        let wanted = match args.page.as_deref() {
            None => "lambfold".to_owned(),
            Some(page) => format!("lambfold-{}", page.replace(' ', "-")),
        };
        let page = pages.iter().find(|page| page.name == wanted).ok_or_else(|| {
            let names = pages.iter().filter_map(|page| page.name.strip_prefix("lambfold-"));
            let names = names.collect::<Vec<_>>().join(", ");
            let asked = args.page.as_deref().unwrap_or_default();
            Failure::usage(format!("there is no page of {asked:?}; there are: {names}"))
        })?;
        output::data(&page.text)?;
        return Ok(Exit::Done);
    };
    let failed = |what: &std::path::Path, error: std::io::Error| {
        Failure::failed(format!("could not write {}", what.display())).cause(&error)
    };
    std::fs::create_dir_all(dir).map_err(|error| failed(dir, error))?;
    for page in &pages {
        let path = dir.join(format!("{}.1", page.name));
        std::fs::write(&path, &page.text).map_err(|error| failed(&path, error))?;
    }
    output::talk(&format!("wrote {} pages to {}", pages.len(), dir.display()));
    Ok(Exit::Done)
}

/// A manual page.
struct Page {
    /// For example `lambfold-layer-build`.
    name: String,
    /// In the macros of man(7).
    text: Vec<u8>,
}

/// The page of every command, the whole first.
fn pages() -> Result<Vec<Page>, Failure> {
    fn collect(command: &Command, date: &str, pages: &mut Vec<Page>) -> std::io::Result<()> {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
        pages.push(Page { name, text: page(command, date)? });
        command.get_subcommands().try_for_each(|inner| collect(inner, date, pages))
    }
    let mut whole = Cli::command();
    // Names and usage of inner commands stand in them only after this.
    whole.build();
    let mut pages = Vec::new();
    collect(&whole, &date(), &mut pages)
        .map_err(|error| Failure::failed("could not write a manual page").cause(&error))?;
    Ok(pages)
}

fn page(command: &Command, date: &str) -> std::io::Result<Vec<u8>> {
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (examples, rest) = examples(&after);
    let mut text = Vec::new();
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_uppercase();
    let source = concat!("lambfold ", env!("CARGO_PKG_VERSION"));
    let mut title = Roff::new();
    title.control("TH", [name.as_str(), "1", date, source, "Lambfold"]);
    title.to_writer(&mut text)?;
    let man = Man::new(command.clone());
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut text)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    let mut roff = Roff::new();
    roff.control("SH", ["EXAMPLES"]).control("nf", []);
    for line in examples {
        // The section is indented by itself.
        roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
    }
    roff.control("fi", []);
    if !rest.is_empty() {
        roff.control("SH", ["EXIT STATUS"]).text([roman(rest.join(" "))]);
    }
    roff.to_writer(&mut text)?;
    // Above a list of possible values stands a space in a form that formatters complain of.
    let text = String::from_utf8_lossy(&text).replace("\n.br\n\n.br\n", "\n.sp\n");
    Ok(text.into_bytes())
}

/// The day on which a page is written, UTC, unless `SOURCE_DATE_EPOCH` (reproducible-builds.org)
/// names another.
fn date() -> String {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse().ok());
    let given = given.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    given.unwrap_or_else(OffsetDateTime::now_utc).date().to_string()
}

/// The lines of the examples of a help text, and those of what comes after them.
fn examples(after: &str) -> (Vec<&str>, Vec<&str>) {
    let lines: Vec<&str> = after.lines().skip(1).collect();
    let is_example = |line: &&str| line.is_empty() || line.starts_with("  ");
    let mut end = lines.iter().take_while(|line| is_example(line)).count();
    let rest = lines[end..].iter().copied().filter(|line| !line.is_empty()).collect();
    while end > 0 && lines[end - 1].is_empty() {
        end -= 1;
    }
    (lines[..end].to_vec(), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_examples_is_told_apart() {
        let (lines, rest) = examples("Examples:\n  a\n\n  b = 1\n\nExit code 1 when\nit fails.");
        assert_eq!(lines, ["  a", "", "  b = 1"]);
        assert_eq!(rest, ["Exit code 1 when", "it fails."]);
        assert_eq!(examples("Examples:\n  a"), (vec!["  a"], vec![]));
    }

    #[test]
    fn each_command_has_a_page_with_its_examples() {
        fn count(command: &Command) -> usize {
            1 + command.get_subcommands().map(count).sum::<usize>()
        }
        let pages = pages().expect("pages");
        assert_eq!(pages.len(), count(&Cli::command()));
        for page in pages {
            let text = String::from_utf8(page.text).expect("UTF-8");
            let examples = text.split(".SH EXAMPLES\n").nth(1).unwrap_or_default();
            assert!(examples.contains("lambfold"), "{}", page.name);
        }
    }
}
