//! What the documents name is there: files, links, tests, messages.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All pages, relative to the repository.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec!["README.md".into(), "ARCHITECTURE.md".into(), "CHANGELOG.md".into()];
    for dir in ["docs", "docs/decisions"] {
        let entries = fs::read_dir(root().join(dir)).unwrap();
        let names = entries.map(|entry| Path::new(dir).join(entry.unwrap().file_name()));
        pages.extend(names.filter(|name| name.extension().is_some_and(|extension| extension == "md")));
    }
    pages
}

/// What stands between backquotes, outside blocks of code.
fn quoted(page: &str) -> Vec<&str> {
    let prose = page.split("\n```").step_by(2);
    prose.flat_map(|part| part.split('`').skip(1).step_by(2)).collect()
}

/// All Rust sources below `dir`, joined.
fn sources(dir: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(&path).unwrap();
        }
    }
    text
}

fn is_test_name(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    plain && text.split('_').count() > 4
}

#[test]
fn every_link_leads_somewhere() {
    let mut links = 0;
    for page in pages() {
        let text = read(&page);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.starts_with('#') {
                continue;
            }
            let link = link.split('#').next().unwrap_or_default();
            let target = root().join(page.parent().unwrap()).join(link);
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            links += 1;
        }
    }
    assert!(links > 10, "only {links} links were found");
}

#[test]
fn every_source_that_a_page_names_by_its_path_is_there() {
    let mut named = 0;
    for page in pages() {
        let text = read(&page);
        let roots = ["crates/", "samples/", "benches/", "tests/"];
        for path in quoted(&text).into_iter().filter(|text| roots.iter().any(|root| text.starts_with(root))) {
            assert!(root().join(path).exists(), "{}: there is no {path}", page.display());
            named += 1;
        }
    }
    assert!(named > 40, "only {named} paths were found");
}

#[test]
fn each_walk_passes_a_file_once() {
    let page = read("ARCHITECTURE.md");
    let walks = page.split("## Four walks").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut count = 0;
    for walk in walks.split("\n### ").skip(1) {
        let steps = walk.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
        let files: Vec<_> = steps.filter_map(|step| step.split('`').nth(1)).collect();
        let unique: BTreeSet<_> = files.iter().collect();
        assert_eq!(unique.len(), files.len(), "{files:?}");
        assert!(files.len() > 5, "{files:?}");
        count += 1;
    }
    assert_eq!(count, 4);
}

#[test]
fn every_test_that_a_page_names_is_there() {
    let code = ["crates", "samples", "tests"].map(|dir| sources(&root().join(dir))).concat();
    let mut named = 0;
    for page in pages() {
        let text = read(&page);
        for name in quoted(&text).into_iter().filter(|text| is_test_name(text)) {
            assert!(code.contains(&format!("fn {name}(")), "{}: there is no test {name}", page.display());
            named += 1;
        }
    }
    assert!(named > 20, "only {named} tests were found");
}

#[test]
fn every_message_for_the_operator_is_one_that_the_code_tells() {
    let page = read("docs/operations.md");
    let table = page.split("## What the log says").nth(1).unwrap().split("\n## ").next().unwrap();
    let messages: Vec<_> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split('`').next())
        .collect();
    assert!(messages.len() > 10, "{messages:?}");
    let code = sources(&root().join("crates"));
    for message in messages {
        assert!(code.contains(message), "nothing tells \"{message}\"");
    }
}
