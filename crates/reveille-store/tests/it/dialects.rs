//! Both dialects have the same migrations: the same files, and after all of them the same tables and columns.

use crate::cluster::Cluster;
use crate::folder::Folder;
use crate::postgres::config;
use reveille_store::postgres::Postgres;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What one of the two alone has, each with the reason.
const DIFFERENCES: &[(&str, &str)] = &[
    ("account.waiting", "Differs from PostgreSQL: one writer counts in the row; there, nodes count in slots"),
    (
        "backlog.only_row",
        "Differs from PostgreSQL: one writer counts in one row; there, nodes count in slots",
    ),
    (
        "account_backlog.account",
        "Differs from SQLite: a sum over slots, so that nodes do not wait for each other",
    ),
    (
        "account_backlog.slot",
        "Differs from SQLite: a sum over slots, so that nodes do not wait for each other",
    ),
    (
        "account_backlog.waiting",
        "Differs from SQLite: a sum over slots, so that nodes do not wait for each other",
    ),
    ("backlog.slot", "Differs from SQLite: a sum over slots, so that nodes do not wait for each other"),
    ("schema_version.version", "Differs from SQLite: that keeps its schema's version in a pragma"),
    (
        "history.lease",
        "Differs from SQLite: with many nodes, leases say in which order changes were recorded",
    ),
    ("device.lease", "Differs from SQLite: nodes lease eUICCs"),
    ("device.lease_node", "Differs from SQLite: nodes lease eUICCs"),
    ("device.lease_until", "Differs from SQLite: nodes lease eUICCs"),
    ("device.lease_sequence", "Differs from SQLite: nodes lease eUICCs"),
    ("device.lease_position", "Differs from SQLite: nodes lease eUICCs"),
    ("callback.lease_node", "Differs from SQLite: nodes lease callbacks"),
    ("callback.lease_until", "Differs from SQLite: nodes lease callbacks"),
];

fn migrations(dialect: &str) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(dialect);
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    files.collect()
}

/// Every column of every table, as `table.column`.
fn columns_of_sqlite() -> BTreeSet<String> {
    let folder = Folder::new();
    drop(folder.open());
    let connection = folder.connection();
    let mut select = connection
        .prepare(
            "SELECT t.name || '.' || c.name FROM sqlite_master AS t JOIN pragma_table_info(t.name) AS c
             WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite!_%' ESCAPE '!'",
        )
        .unwrap();
    select.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

async fn columns_of_postgres() -> BTreeSet<String> {
    let url = Cluster::shared().fresh_database();
    Postgres::migrate(&config(&url)).unwrap();
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let rows = client
        .query(
            "SELECT table_name || '.' || column_name FROM information_schema.columns
             WHERE table_schema = current_schema()",
            &[],
        )
        .await
        .unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn both_dialects_have_migrations_of_the_same_names() {
    assert_eq!(migrations("sqlite"), migrations("postgres"));
}

#[tokio::test]
async fn both_dialects_come_to_the_same_tables_and_columns_but_for_named_differences() {
    let (sqlite, postgres) = (columns_of_sqlite(), columns_of_postgres().await);
    assert!(sqlite.contains("profile.iccid") && postgres.contains("profile.iccid"), "they are found");
    let differing: BTreeSet<&str> = sqlite.symmetric_difference(&postgres).map(String::as_str).collect();
    let named: BTreeSet<&str> = DIFFERENCES.iter().map(|(column, _)| *column).collect();
    assert_eq!(differing, named);
    for (column, why) in DIFFERENCES {
        let other = if sqlite.contains(*column) { "PostgreSQL" } else { "SQLite" };
        assert!(why.starts_with(&format!("Differs from {other}: ")), "{column}: {why}");
    }
}
