//! How SQLite runs the store's statements: along indexes, whatever the size of the tables.
//!
//! The statements are read from the sources, so that each new one is looked at, too.

use crate::folder::Folder;
use std::collections::BTreeMap;

const SOURCES: [&str; 11] = [
    include_str!("../../src/codes.rs"),
    include_str!("../../src/sqlite/codes.rs"),
    include_str!("../../src/sqlite/requests.rs"),
    include_str!("../../src/sqlite/callbacks.rs"),
    include_str!("../../src/sqlite/carriers.rs"),
    include_str!("../../src/sqlite/directory.rs"),
    include_str!("../../src/sqlite/drift.rs"),
    include_str!("../../src/sqlite/inventory.rs"),
    include_str!("../../src/sqlite/history.rs"),
    include_str!("../../src/sqlite/pages.rs"),
    include_str!("../../src/sqlite/record.rs"),
];

/// What stands in braces without being a constant, by a word of its statement: all that it is replaced with.
const FILLED_IN: &[(&str, &str, &[&str])] = &[
    ("FROM client", "column", &["key", "number"]),
    ("UPDATE request", "column", &["callbacks_delivered", "callbacks_archived"]),
    (
        "DELETE FROM",
        "table",
        &["attempt", "callback", "callback_document", "carrier_call", "page", "subrequest"],
    ),
    (
        "p.iccid >",
        "way",
        &[
            "p.number IN (SELECT value FROM json_each(:named)) AND (:account IS NULL OR p.account = :account)",
            ":named IS NULL AND p.account = :account",
            ":named IS NULL AND :account IS NULL",
        ],
    ),
];

/// The texts between quotation marks; a comment's and a character's are not among them.
fn texts(source: &str) -> Vec<&str> {
    let code = source.split("\n#[cfg(test)]").next().unwrap_or(source);
    let mut texts = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find(['"', '/']) {
        let (mark, after) = (&rest[at..=at], &rest[at + 1..]);
        if mark == "/" {
            rest = if after.starts_with('/') {
                after.split_once('\n').map_or("", |(_, next)| next)
            } else {
                after
            };
            continue;
        }
        let end = after.find('"').expect("a text ends");
        texts.push(&after[..end]);
        rest = &after[end + 1..];
    }
    texts
}

fn constants() -> BTreeMap<&'static str, &'static str> {
    let definitions = SOURCES.iter().flat_map(|source| source.split("const ").skip(1));
    let named = definitions.filter_map(|text| text.split_once(": &str ="));
    named.filter_map(|(name, text)| Some((name, text.split('"').nth(1)?))).collect()
}

fn statements() -> Vec<String> {
    let constants = constants();
    let mut statements = Vec::new();
    for text in SOURCES.iter().flat_map(|source| texts(source)) {
        if !["SELECT ", "INSERT ", "UPDATE ", "DELETE "].iter().any(|verb| text.starts_with(verb)) {
            continue;
        }
        let mut whole = text.to_owned();
        for (name, value) in &constants {
            whole = whole.replace(&format!("{{{name}}}"), value);
        }
        statements.extend(filled_in(whole));
    }
    statements
}

fn filled_in(statement: String) -> Vec<String> {
    let gaps = FILLED_IN
        .iter()
        .find(|(word, gap, _)| statement.contains(word) && statement.contains(&format!("{{{gap}}}")));
    match gaps {
        Some((_, gap, values)) => {
            values.iter().map(|value| statement.replace(&format!("{{{gap}}}"), value)).collect()
        }
        None => vec![statement],
    }
}

/// The steps of a statement's plan.
fn plan(connection: &rusqlite::Connection, statement: &str) -> Vec<String> {
    let explained = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}"));
    let mut explained = explained.unwrap_or_else(|error| panic!("{error}: {statement}"));
    let steps = explained.raw_query().mapped(|row| row.get("detail")).collect::<Result<_, _>>();
    steps.unwrap_or_else(|error| panic!("{error}: {statement}"))
}

/// Tables that are small, or that a list shows whole: they may be walked through.
const SMALL: [&str; 10] = [
    "SCAN account",
    "SCAN user",
    "SCAN carrier_hold",
    "SCAN carrier_login", // one for each pair of credentials
    "SCAN backlog",       // the one row
    "SCAN server_key",    // likewise
    "SCAN sqlite_sequence",
    "SCAN request USING INDEX request_cancelled", // those alone that were cancelled and go on
    "SCAN profile_drift USING INDEX profile_drift_of_network", // those alone that differ
    "SCAN CONSTANT ROW",
];

/// What names the few rows that it is about: it may put them in order.
const FEW: &str = "json_each(:named)";

#[test]
fn no_statement_walks_through_a_table() {
    let folder = Folder::new();
    drop(folder.open());
    let connection = folder.connection();
    let statements = statements();
    assert!(statements.len() > 60, "they are found: {}", statements.len());
    let mut walks = Vec::new();
    for statement in statements.iter().filter(|statement| !statement.contains(FEW)) {
        for step in plan(&connection, statement) {
            let walk = step.starts_with("SCAN") && !SMALL.contains(&step.as_str());
            if walk || step.contains("TEMP B-TREE") || step.contains("AUTOMATIC") {
                walks.push(format!("{step}: {statement}"));
            }
        }
    }
    assert!(walks.is_empty(), "{}", walks.join("\n"));
}
