//! As much of Markdown as the documents use: headings, fences, table rows, links.

use regex::Regex;

/// A code block between two lines of three backticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fence {
    /// What follows the opening backticks.
    pub(crate) info: String,
    pub(crate) code: String,
    /// Of its first line of code, counted from 1.
    pub(crate) line: usize,
}

#[derive(Debug)]
pub(crate) struct Document {
    /// Levels, in order.
    pub(crate) headings: Vec<usize>,
    pub(crate) fences: Vec<Fence>,
    pub(crate) table_rows: usize,
    prose: String,
}

impl Document {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut document =
            Self { headings: Vec::new(), fences: Vec::new(), table_rows: 0, prose: String::new() };
        let mut open: Option<Fence> = None;
        for (number, line) in (1..).zip(text.lines()) {
            match (&mut open, line.strip_prefix("```")) {
                (None, Some(info)) => {
                    let info = info.to_owned();
                    open = Some(Fence { info, code: String::new(), line: number + 1 });
                }
                (Some(_), Some("")) => document.fences.extend(open.take()),
                (Some(fence), _) => {
                    fence.code.push_str(line);
                    fence.code.push('\n');
                }
                (None, None) => document.add_prose(line),
            }
        }
        match open {
            Some(fence) => Err(format!("{}: a code block without an end", fence.line)),
            None => Ok(document),
        }
    }

    fn add_prose(&mut self, line: &str) {
        let level = line.bytes().take_while(|byte| *byte == b'#').count();
        if level > 0 && line[level..].starts_with(' ') {
            self.headings.push(level);
        }
        self.table_rows += usize::from(line.starts_with('|'));
        self.prose.push_str(line);
        self.prose.push('\n');
    }

    /// Targets of its links, in order.
    pub(crate) fn links(&self) -> Vec<String> {
        let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
        link.captures_iter(&self.prose).map(|found| found[1].to_owned()).collect()
    }
}

/// Who is asked to run a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The reader's shell.
    Shell,
    /// The other terminal, where the server runs.
    Server,
    /// A third terminal, with a real account: the commands are checked, not sent.
    Aws,
}

/// A block to run, and what it shows.
#[derive(Debug)]
pub(crate) struct Step {
    /// Page and line.
    pub(crate) at: String,
    pub(crate) place: Place,
    pub(crate) code: String,
    pub(crate) output: Option<String>,
}

/// What to run, in order. A block that would neither be run nor be compared is refused.
pub(crate) fn steps(page: &str, document: &Document) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    for fence in &document.fences {
        let place = match fence.info.as_str() {
            "sh" => Place::Shell,
            "sh server" => Place::Server,
            "sh aws" => Place::Aws,
            "text" => {
                match steps.last_mut() {
                    Some(step) if step.output.is_none() => step.output = Some(fence.code.clone()),
                    _ => return Err(format!("{page}:{}: output of no command", fence.line)),
                }
                continue;
            }
            other => {
                return Err(format!("{page}:{}: nothing reads a block of {other:?}", fence.line));
            }
        };
        let at = format!("{page}:{}", fence.line);
        steps.push(Step { at, place, code: fence.code.clone(), output: None });
    }
    Ok(steps)
}

#[test]
fn documents_are_taken_apart() {
    let text = "# One\n\nSee [a](a.md) and [b](b.md#c).\n\n```sh\n# no heading\n| no row\n```\n\
                ```text\nout\n```\n\n## Two\n\n| a | b |\n|---|---|\n| [c](c.md) | d |\n";
    let document = Document::parse(text).unwrap();
    assert_eq!(document.headings, [1, 2]);
    assert_eq!(document.table_rows, 3);
    assert_eq!(document.links(), ["a.md", "b.md#c", "c.md"]);
    let steps = steps("page.md", &document).unwrap();
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0].code, "# no heading\n| no row\n");
    assert_eq!((steps[0].at.as_str(), steps[0].output.as_deref()), ("page.md:6", Some("out\n")));
}
