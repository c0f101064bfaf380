//! What cargo does not hold: reference pages match the code, promises name their tests, links lead somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What a page must be as the code makes it; run with this set to 1 to write it.
const WRITE: &str = "REVEILLE_WRITE_DOCS";

/// Folders that are not ours to judge.
const SKIPPED: [&str; 3] = [".git", "target", "node_modules"];

/// What is read as text.
const TEXT: [&str; 13] =
    ["rs", "md", "toml", "sql", "json", "py", "sh", "c", "yml", "yaml", "csv", "txt", "http"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace is there")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every text file of the workspace.
fn texts() -> Vec<PathBuf> {
    let mut folders = vec![root()];
    let mut texts = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder can be listed") {
            let path = entry.expect("an entry can be read").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let extension = path.extension().and_then(|extension| extension.to_str());
            if path.is_dir() && !SKIPPED.contains(&name) {
                folders.push(path);
            } else if extension.is_some_and(|extension| TEXT.contains(&extension)) {
                texts.push(path);
            }
        }
    }
    texts.sort();
    texts
}

/// Fails where the page is not as the code makes it; writes it where that is asked for.
#[expect(clippy::disallowed_methods, reason = "whoever runs the test says so in its environment")]
fn assert_page(path: &str, made: &str) {
    let file = root().join(path);
    if std::env::var(WRITE).is_ok_and(|value| value == "1") {
        fs::write(&file, made).expect("docs can be written");
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    let remedy = format!("{WRITE}=1 cargo test -p reveille --test it tidy");
    assert!(kept == made, "{path} is not what the code makes of it; run `{remedy}` and commit the page");
}

#[test]
fn the_configuration_page_is_made_from_the_defaults() {
    assert_page("docs/configuration.md", &configuration_page(reveille::config::DEFAULTS));
}

#[test]
fn the_openapi_document_is_made_from_the_endpoints() {
    let made = reveille_api::openapi().expect("schemas are JSON");
    assert_page("docs/openapi.json", &format!("{}\n", made.trim_end()));
}

#[test]
fn the_page_of_actions_is_made_from_the_table_of_rules() {
    assert_page("docs/actions.md", &crate::actions_page::page());
}

/// The reference page of a commented TOML file: a table for each section, a row for each comment's keys.
fn configuration_page(defaults: &str) -> String {
    let mut page = Page::default();
    for line in defaults.lines() {
        page.take(line.trim());
    }
    page.finish()
}

#[derive(Default)]
struct Page {
    text: String,
    comment: Vec<String>,
    keys: Vec<(String, String)>,
    meaning: String,
    begun: bool,
}

impl Page {
    fn take(&mut self, line: &str) {
        if let Some(comment) = line.strip_prefix('#') {
            self.end_row();
            self.comment.push(comment.trim().to_owned());
        } else if line.is_empty() {
            self.end_row();
            if !self.begun {
                let intro = self.comment.drain(..).collect::<Vec<_>>().join("\n");
                self.text = format!(
                    "# Configuration\n\n<!-- Made from crates/reveille/src/reveille.default.toml by a test. -->\n\n{intro}\n"
                );
                self.begin_table("");
            }
        } else if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            self.end_row();
            let intro = self.comment.drain(..).collect::<Vec<_>>().join("\n");
            self.text.push_str(&format!("\n## `[{section}]`\n"));
            self.begin_table(&intro);
        } else if let Some((key, value)) = line.split_once('=') {
            if !self.comment.is_empty() {
                self.meaning = self.comment.drain(..).collect::<Vec<_>>().join(" ");
            }
            self.keys.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }

    fn begin_table(&mut self, intro: &str) {
        self.begun = true;
        let intro = if intro.is_empty() { String::new() } else { format!("\n{intro}\n") };
        self.text.push_str(&format!("{intro}\n| key | default | meaning |\n| --- | --- | --- |\n"));
    }

    /// Keys that stand together under one comment share a row.
    fn end_row(&mut self) {
        if self.keys.is_empty() {
            return;
        }
        let column =
            |texts: Vec<&String>| texts.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", ");
        let keys = column(self.keys.iter().map(|(key, _)| key).collect());
        let values = column(self.keys.iter().map(|(_, value)| value).collect());
        let meaning = self.meaning.replace('|', "\\|");
        self.text.push_str(&format!("| {keys} | {values} | {meaning} |\n"));
        self.keys.clear();
        self.meaning.clear();
    }

    fn finish(mut self) -> String {
        self.end_row();
        self.text
    }
}

#[test]
fn every_key_of_the_defaults_is_on_the_configuration_page() {
    let page = configuration_page(reveille::config::DEFAULTS);
    let keys = reveille::config::DEFAULTS.lines().filter(|line| !line.starts_with('#'));
    for key in keys.filter_map(|line| line.split_once(" = ")).map(|(key, _)| key) {
        assert!(page.contains(&format!("`{key}`")), "{key}");
    }
}

/// What stands between backticks in a text.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Whether a test is where ARCHITECTURE.md says it is: `file.rs::name`, or a program under tests/outside.
fn is_there(test: &str) -> bool {
    match test.split_once("::") {
        None => root().join(test).exists(),
        Some((file, name)) => {
            let text = fs::read_to_string(root().join(file)).unwrap_or_default();
            let name = name.rsplit("::").next().unwrap_or(name);
            text.contains(&format!("fn {name}("))
        }
    }
}

#[test]
fn each_promise_names_tests_that_exist() {
    let architecture = read(&root().join("ARCHITECTURE.md"));
    let mut promises = 0;
    for row in architecture.lines().filter(|line| line.starts_with("| ") && line.contains("tests/")) {
        let named: Vec<&str> = quoted(row).into_iter().filter(|word| is_test(word)).collect();
        for test in &named {
            assert!(is_there(test), "ARCHITECTURE.md names {test}, which does not exist");
        }
        promises += usize::from(!named.is_empty());
    }
    assert!(promises >= 8, "the eight promises have their rows: {promises}");
}

fn is_test(word: &str) -> bool {
    word.contains(".rs::") || (word.starts_with("tests/outside/") && word.contains('.'))
}

#[test]
fn nothing_names_the_machine_that_it_was_written_on() {
    let machine = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    for path in texts() {
        let text = fs::read_to_string(&path).unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            let found = machine.iter().find(|name| line.contains(**name));
            assert!(found.is_none(), "{}:{}: {}", path.display(), number + 1, line.trim());
        }
    }
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let documents =
        texts().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut dead = BTreeSet::new();
    for document in documents {
        let text = read(&document);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if !leads_somewhere(&document, target) {
                dead.insert(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(dead.is_empty(), "links that lead nowhere: {dead:#?}");
}

fn leads_somewhere(document: &Path, target: &str) -> bool {
    if target.contains("://") || target.starts_with("mailto:") {
        return true;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let folder = document.parent().expect("a file is in a folder");
    let file = if file.is_empty() { document.to_owned() } else { folder.join(file) };
    file.exists() && (anchor.is_empty() || anchors(&read(&file)).contains(anchor))
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn the_tests_neither_sleep_nor_are_ignored() {
    let banned = [concat!("#[ig", "nore"), concat!("thread::", "sleep(")];
    for path in texts().into_iter().filter(|path| path.components().any(|part| part.as_os_str() == "tests")) {
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = read(&path);
            assert!(banned.iter().all(|word| !text.contains(word)), "{}", path.display());
        }
    }
}
