//! The tutorial cannot rot: every `sh` block of its pages is run, in order, as a reader would
//! type it, and what the `text` block after it shows has to come out. Its two languages, and those
//! of the README, say the same.

mod compare;
mod markdown;
mod session;

use super::harness::root;
use markdown::{Document, Fence};
use regex::Regex;
use session::Session;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn folder(language: &str) -> PathBuf {
    root().join("docs/tutorial").join(language)
}

fn read(path: &Path) -> Document {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Document::parse(&text).unwrap_or_else(|error| panic!("{}:{error}", path.display()))
}

/// The pages of a language in the order of its index, which comes first itself.
fn pages(language: &str) -> Vec<String> {
    let index = read(&folder(language).join("README.md"));
    let mut pages = vec!["README.md".to_owned()];
    for link in index.links() {
        if link.ends_with(".md") && !link.contains('/') && !pages.contains(&link) {
            pages.push(link);
        }
    }
    pages
}

#[test]
fn the_commands_of_the_tutorial_do_what_it_says() {
    let session = Session::start();
    let mut steps = Vec::new();
    for page in pages("en") {
        let path = folder("en").join(&page);
        steps.extend(markdown::steps(&page, &read(&path)).unwrap_or_else(|e| panic!("{e}")));
    }
    let wrong = session.run(&steps);
    assert!(wrong.is_empty(), "{}\n\nthe server's log:\n{}", wrong.join("\n\n"), session.log());
}

#[test]
fn output_that_differs_and_commands_that_fail_are_found() {
    let session = Session::without_server();
    let page = "```sh\nexport word=hello\necho $word\n```\n\n```text\nhello\n```\n\n\
                ```sh\necho $word; echo again\n```\n```text\nhello\n```\n\n\
                ```sh\nfalse\ntrue\n```\n\n```sh\nfor\n```\n\n\
                ```sh\necho \"still $word\"\n```\n```text\nstill hello\n```\n\n\
                ```sh aws\naws lambda list-functions --no-such-option\n```\n\n\
                ```sh aws\naws lambda list-functions --max-items 3\n```\n";
    let steps = markdown::steps("page", &Document::parse(page).unwrap()).unwrap();
    let wrong = session.run(&steps);
    let lines: Vec<&str> = wrong.iter().map(|what| what.split(": ").next().unwrap()).collect();
    assert_eq!(lines, ["page:11", "page:18", "page:23", "page:34"], "{wrong:#?}");
}

#[test]
fn a_fence_that_nothing_reads_is_refused() {
    for page in ["```\nls\n```\n", "```bash\nls\n```\n", "```text\nalone\n```\n", "```sh\nls\n"] {
        let refused = Document::parse(page).and_then(|document| markdown::steps("page", &document));
        assert!(refused.is_err(), "{page}");
    }
}

/// Headings by level, and fences without their comments.
fn skeleton(document: &Document) -> (Vec<usize>, Vec<Fence>) {
    let comment = Regex::new(r"(?m)(^|[ \t]+)# .*$").unwrap();
    let fences = document.fences.iter().map(|fence| Fence {
        info: fence.info.clone(),
        code: comment.replace_all(&fence.code, "").into_owned(),
        line: 0,
    });
    (document.headings.clone(), fences.collect())
}

fn same(english: &Path, chinese: &Path) {
    let (one, other) = (read(english), read(chinese));
    let ((headings, fences), (their_headings, their_fences)) = (skeleton(&one), skeleton(&other));
    let both = format!("{} and {}", english.display(), chinese.display());
    assert_eq!(headings, their_headings, "the headings of {both}");
    assert_eq!(fences.len(), their_fences.len(), "the number of code blocks of {both}");
    for (fence, theirs) in fences.iter().zip(&their_fences) {
        assert_eq!(fence, theirs, "a code block of {both}");
    }
    assert_eq!(one.table_rows, other.table_rows, "the number of table rows of {both}");
}

#[test]
fn both_languages_have_the_same_commands() {
    assert_eq!(pages("en"), pages("zh"));
    for page in pages("en") {
        same(&folder("en").join(&page), &folder("zh").join(&page));
    }
}

#[test]
fn the_readme_has_a_chinese_twin() {
    let (english, chinese) = (root().join("README.md"), root().join("README.zh.md"));
    same(&english, &chinese);
    assert!(read(&english).links().contains(&"README.zh.md".to_owned()));
    assert!(read(&chinese).links().contains(&"README.md".to_owned()));
}

#[test]
fn every_page_is_in_its_index_and_every_link_leads_somewhere() {
    for language in ["en", "zh"] {
        let files: BTreeSet<String> = std::fs::read_dir(folder(language))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(files, pages(language).into_iter().collect(), "docs/tutorial/{language}");
    }
    let documents = ["README.md", "README.zh.md", "docs/README.md"].map(|name| root().join(name));
    let tutorial = ["en", "zh"].into_iter().flat_map(|language| {
        pages(language).into_iter().map(move |page| folder(language).join(page))
    });
    for path in documents.into_iter().chain(tutorial) {
        for link in read(&path).links() {
            if link.starts_with("https://") || link.starts_with('#') {
                continue;
            }
            let target = link.split('#').next().unwrap_or_default();
            let target = path.parent().unwrap().join(target);
            assert!(target.exists(), "{} links to {link}, which is not there", path.display());
        }
    }
}
