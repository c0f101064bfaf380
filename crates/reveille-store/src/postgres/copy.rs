//! A database into which a store is copied, in one transaction.

use super::connection::{Db, Sql, SqlError};
use super::{PostgresConfig, schema, unavailable};
use crate::Result;
use crate::copy::{Cells, CopyError, Table};
use std::collections::HashMap;
use tokio_postgres::types::ToSql;

/// How many rows are read back at a time: a few of them may be long.
const FETCHED: usize = 64;

/// For this transaction: tables are read along their keys, though nobody has counted their rows yet, and the
/// source may take its time between two statements.
const SETTINGS: &str = "BEGIN; SET LOCAL enable_sort = off; SET LOCAL enable_seqscan = off; SET LOCAL idle_in_transaction_session_timeout = '10min'";

/// A database that is filled.
pub(crate) struct Target(Db);

impl Target {
    /// Brings the schema up to date, and begins; refuses a database that has rows already.
    pub(crate) fn open(config: &PostgresConfig) -> std::result::Result<Self, CopyError> {
        let mut db = Db::open(config).map_err(unavailable("connect to the target"))?;
        schema::migrate(&mut db).map_err(unavailable("bring the target's schema up to date"))?;
        db.batch(SETTINGS).map_err(unavailable("begin to write the target"))?;
        match has_rows(&mut db).map_err(unavailable("see whether the target is empty"))? {
            Some(table) => Err(CopyError::NotEmpty { table }),
            None => Ok(Self(db)),
        }
    }

    /// The type of each of a table's columns.
    pub(crate) fn types_of(&mut self, table: &Table) -> Result<Vec<String>> {
        types_of(&mut self.0, table).map_err(unavailable("read the target's schema"))
    }

    /// Writes rows.
    pub(crate) fn insert(&mut self, table: &Table, types: &[String], rows: &[Cells]) -> Result<()> {
        insert(&mut self.0, table, types, rows).map_err(unavailable("write the target"))
    }

    /// Reads a table back in the order of its key, some rows at a time.
    pub(crate) fn read(&mut self, table: &Table, each: &mut dyn FnMut(Vec<Cells>)) -> Result<()> {
        read(&mut self.0, table, each).map_err(unavailable("read the target back"))
    }

    /// Lets a sequence give numbers behind that one.
    pub(crate) fn go_on_behind(&mut self, sequence: &str, highest: i64) -> Result<()> {
        let set = self.0.query("SELECT setval($1::TEXT::REGCLASS, $2)", &[&sequence, &highest]);
        set.map(drop).map_err(unavailable("set the target's sequences"))
    }

    /// Ends the transaction.
    pub(crate) fn commit(mut self) -> Result<()> {
        self.0.batch("COMMIT").map_err(unavailable("commit the target"))
    }
}

/// A table that has rows, if there is one.
fn has_rows(db: &mut Db) -> Sql<Option<String>> {
    let names = db.query(
        "SELECT table_name::TEXT AS name FROM information_schema.tables
         WHERE table_schema = current_schema() AND table_name <> 'schema_version' ORDER BY table_name",
        &[],
    )?;
    for name in names {
        let name: String = name.try_get("name")?;
        let row = db.query_one(&format!("SELECT EXISTS (SELECT 1 FROM \"{name}\") AS has_rows"), &[])?;
        if row.try_get("has_rows")? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn types_of(db: &mut Db, table: &Table) -> Sql<Vec<String>> {
    let rows = db.query(
        "SELECT attname::TEXT AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute
         WHERE attrelid = to_regclass(quote_ident($1)) AND attnum > 0 AND NOT attisdropped",
        &[&table.name],
    )?;
    let read = |row: &tokio_postgres::Row| Ok((row.try_get("name")?, row.try_get("type")?));
    let types = rows.iter().map(read).collect::<Sql<HashMap<String, String>>>()?;
    let type_of = |column: &String| {
        let missing = || SqlError::Setup(format!("the target has no column {}.{column}", table.name));
        types.get(column).cloned().ok_or_else(missing)
    };
    table.columns.iter().map(type_of).collect()
}

/// A column as text, the same that the source makes of it.
fn shown(column: &str, kind: &str) -> String {
    match kind {
        "boolean" => format!("\"{column}\"::INTEGER::TEXT"),
        "bytea" => format!("encode(\"{column}\", 'hex')"),
        "bigint[]" => format!("array_to_string(\"{column}\", ',')"),
        _ => format!("\"{column}\"::TEXT"),
    }
}

/// A column of that text.
fn given(column: &str, kind: &str) -> String {
    match kind {
        "boolean" => format!("k.\"{column}\"::INTEGER::BOOLEAN"),
        "bytea" => format!("decode(k.\"{column}\", 'hex')"),
        "bigint[]" => format!("string_to_array(k.\"{column}\", ',')::BIGINT[]"),
        _ => format!("k.\"{column}\"::{kind}"),
    }
}

fn joined(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join(", ")
}

fn insert(db: &mut Db, table: &Table, types: &[String], rows: &[Cells]) -> Sql<()> {
    let places = 0..table.columns.len();
    let columns: Vec<Vec<Option<&str>>> =
        places.clone().map(|place| rows.iter().map(|row| row[place].as_deref()).collect()).collect();
    let params: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|column| column as _).collect();
    let names = joined(table.columns.iter().map(|name| format!("\"{name}\"")));
    db.execute(
        &format!(
            "INSERT INTO \"{}\" ({names}) OVERRIDING SYSTEM VALUE SELECT {} FROM unnest({}) AS k ({names})",
            table.name,
            joined(table.columns.iter().zip(types).map(|(column, kind)| given(column, kind))),
            joined(places.map(|place| format!("${}::TEXT[]", place + 1))),
        ),
        &params,
    )?;
    Ok(())
}

fn read(db: &mut Db, table: &Table, each: &mut dyn FnMut(Vec<Cells>)) -> Sql<()> {
    let Table { name, columns, key, .. } = table;
    let types = types_of(db, table)?;
    let order = if table.backwards { "DESC" } else { "ASC" };
    db.batch(&format!(
        "DECLARE \"copied_{name}\" NO SCROLL CURSOR FOR SELECT {} FROM \"{name}\" ORDER BY {}",
        joined(columns.iter().zip(&types).map(|(column, kind)| shown(column, kind))),
        joined(key.iter().map(|column| format!("\"{name}\".\"{column}\" {order}"))),
    ))?;
    loop {
        let rows = db.query(&format!("FETCH {FETCHED} FROM \"copied_{name}\""), &[])?;
        if rows.is_empty() {
            break;
        }
        let cells = |row: &tokio_postgres::Row| {
            (0..columns.len()).map(|place| Ok(row.try_get(place)?)).collect::<Sql<Cells>>()
        };
        each(rows.iter().map(cells).collect::<Sql<_>>()?);
    }
    db.batch(&format!("CLOSE \"copied_{name}\"; ANALYZE \"{name}\""))
}
