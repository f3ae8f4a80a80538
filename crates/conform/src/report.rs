//! What came of the cases, for people and for programs.

use crate::case::Case;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;

/// Width of texts for people, columns.
const WIDTH: usize = 96;

/// What came of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is so.
    Pass,
    /// It is not so.
    Fail,
    /// It is not so, as is known and named by an exception.
    Excepted,
    /// The question does not arise for this runtime, or its function cannot answer it.
    NotApplicable,
}

impl Verdict {
    /// In lower case, as programs read it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Excepted => "excepted",
            Self::NotApplicable => "not-applicable",
        }
    }
}

/// A case and what came of it.
#[derive(Debug, Clone)]
pub struct CaseResult {
    /// The case.
    pub case: &'static Case,
    /// What came of it.
    pub verdict: Verdict,
    /// What was seen, or why it does not apply; empty for a pass.
    pub detail: String,
    /// Why the failure is known, or a word about an exception that is not needed.
    pub exception: Option<String>,
    /// From the start of the bootstrap.
    pub took: Duration,
}

impl CaseResult {
    pub(crate) fn new(
        case: &'static Case,
        verdict: Verdict,
        detail: String,
        took: Duration,
    ) -> Self {
        Self { case, verdict, detail, exception: None, took }
    }

    pub(crate) fn excepted(mut self, reason: &str) -> Self {
        match self.verdict {
            Verdict::Fail => {
                self.verdict = Verdict::Excepted;
                self.exception = Some(reason.to_owned());
            }
            // An exception that is not needed hides the next failure.
            Verdict::Pass => {
                self.exception = Some("it passes: the exception is not needed".to_owned());
            }
            Verdict::Excepted | Verdict::NotApplicable => {}
        }
        self
    }
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was put to the test.
    pub subject: String,
    /// Whether it ran in a sandbox.
    pub isolated: bool,
    /// What is lesser than it could be, each a sentence.
    pub notes: Vec<String>,
    /// In the order of [`Case::all`].
    pub results: Vec<CaseResult>,
}

impl Report {
    /// How many cases ended so.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.results.iter().filter(|result| result.verdict == verdict).count()
    }

    /// For people: a line a case, and under a failure what to know about it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for result in &self.results {
            let word = match result.verdict {
                Verdict::Pass => "pass",
                Verdict::Fail => "FAIL",
                Verdict::Excepted => "known",
                Verdict::NotApplicable => "n/a",
            };
            let _ = writeln!(text, "{word:<5} {:<24} {}", result.case.id, result.case.title);
            let mut facts = Vec::new();
            match result.verdict {
                Verdict::Fail => facts.extend([
                    ("seen", result.detail.as_str()),
                    ("why", result.case.why),
                    ("mend", result.case.mend),
                    ("see", result.case.reference),
                ]),
                Verdict::Excepted => facts.push(("seen", result.detail.as_str())),
                Verdict::NotApplicable => facts.push(("since", result.detail.as_str())),
                Verdict::Pass => {}
            }
            facts.extend(result.exception.iter().map(|text| ("known", text.as_str())));
            for (label, fact) in facts {
                for (at, line) in wrapped(fact, WIDTH - 13).iter().enumerate() {
                    let label = if at == 0 { label } else { "" };
                    let _ = writeln!(text, "      {label:<6} {line}");
                }
            }
        }
        text.push_str(&self.summary());
        text.push('\n');
        text
    }

    /// The numbers, in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut parts = vec![
            format!("{} passed", self.count(Verdict::Pass)),
            format!("{} failed", self.count(Verdict::Fail)),
        ];
        for (verdict, what) in
            [(Verdict::Excepted, "known to fail"), (Verdict::NotApplicable, "not applicable")]
        {
            match self.count(verdict) {
                0 => {}
                count => parts.push(format!("{count} {what}")),
            }
        }
        parts.join(", ")
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let cases = self.results.iter().map(|result| {
            json!({
                "Id": result.case.id,
                "Title": result.case.title,
                "Verdict": result.verdict.name(),
                "Detail": (!result.detail.is_empty()).then_some(&result.detail),
                "Exception": result.exception,
                "Why": result.case.why,
                "Mend": result.case.mend,
                "Reference": result.case.reference,
                "DurationMs": u64::try_from(result.took.as_millis()).unwrap_or(u64::MAX),
            })
        });
        json!({
            "Subject": self.subject,
            "Isolated": self.isolated,
            "Notes": self.notes,
            "Passed": self.count(Verdict::Pass),
            "Failed": self.count(Verdict::Fail),
            "Excepted": self.count(Verdict::Excepted),
            "NotApplicable": self.count(Verdict::NotApplicable),
            "Cases": cases.collect::<Vec<_>>(),
        })
    }

    /// For continuous integration: one test suite in JUnit's XML.
    #[must_use]
    pub fn junit(&self) -> String {
        let total: Duration = self.results.iter().map(|result| result.took).sum();
        let skipped = self.count(Verdict::NotApplicable) + self.count(Verdict::Excepted);
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let _ = writeln!(
            xml,
            "<testsuites>\n<testsuite name=\"lambfold conform {}\" tests=\"{}\" failures=\"{}\" \
             errors=\"0\" skipped=\"{skipped}\" time=\"{:.3}\">",
            escaped(&self.subject),
            self.results.len(),
            self.count(Verdict::Fail),
            total.as_secs_f64(),
        );
        for result in &self.results {
            let _ = write!(
                xml,
                "<testcase classname=\"conform\" name=\"{}\" time=\"{:.3}\"",
                result.case.id,
                result.took.as_secs_f64()
            );
            let detail = escaped(&result.detail);
            match result.verdict {
                Verdict::Pass => xml.push_str("/>\n"),
                Verdict::NotApplicable => {
                    let _ = writeln!(xml, "><skipped message=\"{detail}\"/></testcase>");
                }
                Verdict::Excepted => {
                    let reason = escaped(result.exception.as_deref().unwrap_or_default());
                    let _ = writeln!(
                        xml,
                        "><skipped message=\"known to fail: {reason}: {detail}\"/></testcase>"
                    );
                }
                Verdict::Fail => {
                    let case = result.case;
                    let more = format!(
                        "{}\n\n{}\n{}\n{}",
                        case.title, case.why, case.mend, case.reference
                    );
                    let _ = writeln!(
                        xml,
                        "><failure message=\"{detail}\">{}</failure></testcase>",
                        escaped(&more)
                    );
                }
            }
        }
        xml.push_str("</testsuite>\n</testsuites>\n");
        xml
    }
}

/// Text for XML 1.0, in content and in attributes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' | '\r' => out.push(' '),
            // XML has no way to say these.
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Lines of at most `width` columns, unless a word is longer; at least one.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("there is always a line");
        if last.is_empty() {
            last.push_str(word);
        } else if last.chars().count() + 1 + word.chars().count() <= width {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let all = Case::all();
        let took = Duration::from_millis(1500);
        let result = |at: usize, verdict, detail: &str| {
            CaseResult::new(all[at], verdict, detail.to_owned(), took)
        };
        Report {
            subject: "a<b".to_owned(),
            isolated: true,
            notes: Vec::new(),
            results: vec![
                result(0, Verdict::Pass, ""),
                result(1, Verdict::Fail, "\"x\" & \u{1}y"),
                result(2, Verdict::Fail, "no Host").excepted("is known"),
                result(3, Verdict::NotApplicable, "cannot"),
                result(4, Verdict::Pass, "").excepted("was known"),
            ],
        }
    }

    #[test]
    fn the_text_explains_failures_and_only_those() {
        let text = report().text();
        let labels = |word: &str| {
            text.lines().filter(|line| line.trim_start().starts_with(&format!("{word} "))).count()
        };
        let counts = ["pass", "FAIL", "known", "n/a", "why", "mend", "see", "since"].map(labels);
        // Two lines of verdicts and exceptions begin with the word `known` twice each.
        assert_eq!(counts, [2, 1, 3, 1, 1, 1, 1, 1], "{text}");
        assert!(
            text.ends_with("2 passed, 1 failed, 1 known to fail, 1 not applicable\n"),
            "{text}"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    }

    #[test]
    fn junit_is_well_formed_and_counts() {
        let xml = report().junit();
        assert!(
            xml.contains("name=\"lambfold conform a&lt;b\" tests=\"5\" failures=\"1\""),
            "{xml}"
        );
        assert!(xml.contains("skipped=\"2\" time=\"7.500\""), "{xml}");
        assert!(xml.contains("<failure message=\"&quot;x&quot; &amp; \u{fffd}y\">"), "{xml}");
        assert_eq!(xml.matches("<testcase ").count(), 5);
        assert_eq!(xml.matches("</testcase>").count(), 3, "{xml}");
    }

    #[test]
    fn json_has_what_a_program_needs() {
        let json = report().json();
        assert_eq!(json["Passed"], 2);
        assert_eq!(json["Cases"][1]["Verdict"], "fail");
        assert_eq!(json["Cases"][2]["Exception"], "is known");
        assert_eq!(json["Cases"][4]["Exception"], "it passes: the exception is not needed");
        assert_eq!(json["Cases"][0]["Detail"], Value::Null);
    }
}
