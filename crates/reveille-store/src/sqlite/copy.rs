//! What is read of a file that is copied into PostgreSQL, in the form that it has there.

use super::{connect_to_read, schema, unavailable};
use crate::Result;
use crate::copy::{Cells, CopyError, Table};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};
use std::path::Path;

/// A file that is copied, at one instant of it.
pub(crate) struct Source(Connection);

impl Source {
    /// Opens a file whose schema is this release's.
    pub(crate) fn open(path: &Path) -> std::result::Result<Self, CopyError> {
        if !path.exists() {
            return Err(CopyError::NoSource);
        }
        let connection = connect_to_read(path).map_err(unavailable("open the source"))?;
        let (version, known) = schema::versions(&connection).map_err(unavailable("read the source"))?;
        if version != known {
            return Err(CopyError::OtherSchema { version, known });
        }
        connection.execute_batch("BEGIN").map_err(unavailable("read the source"))?;
        Ok(Self(connection))
    }

    /// Every table, those first that others refer to.
    pub(crate) fn tables(&self) -> Result<Vec<Table>> {
        tables(&self.0).map_err(unavailable("read the source's schema"))
    }

    /// Reads a table, row by row.
    pub(crate) fn read(
        &self,
        table: &Table,
        types: &[String],
        each: &mut dyn FnMut(Cells) -> Result<()>,
    ) -> Result<()> {
        let failed = unavailable("read the source");
        let mut select = self.0.prepare(&table.select).map_err(&failed)?;
        let mut rows = select.query([]).map_err(&failed)?;
        let mut history = (table.name == "history").then(|| History::of(table));
        while let Some(row) = rows.next().map_err(&failed)? {
            let mut cells = cells(row, types).map_err(&failed)?;
            if let Some(history) = &mut history {
                history.complete(&mut cells);
            }
            each(cells)?;
        }
        Ok(())
    }

    /// The highest number ever given of each kind, by the target's name of the sequence that gives them.
    pub(crate) fn numbers_given(&self) -> Result<Vec<(&'static str, i64)>> {
        let highest = [
            ("request_sequence_seq", "SELECT seq FROM sqlite_sequence WHERE name = 'request'"),
            ("client_number_seq", "SELECT max(number) FROM client"),
            ("device_number_seq", "SELECT max(number) FROM device"),
            ("profile_number_seq", "SELECT max(number) FROM profile"),
            ("lease_number", "SELECT count(*) FROM history"), // see `History`
        ];
        let mut given = Vec::new();
        for (sequence, select) in highest {
            let number = self.0.query_row(select, [], |row| row.get::<_, Option<i64>>(0)).optional();
            let number = number.map_err(unavailable("read the source"))?.flatten();
            given.extend(number.filter(|number| *number > 0).map(|number| (sequence, number)));
        }
        Ok(given)
    }
}

fn tables(db: &Connection) -> rusqlite::Result<Vec<Table>> {
    let mut names = db.prepare(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!' ORDER BY rowid",
    )?;
    let names = names.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    let mut tables = Vec::new();
    for name in names {
        let (columns, key) = columns(db, &name)?;
        match name.as_str() {
            "account" => {
                let kept = columns.into_iter().filter(|column| column != "waiting").collect();
                tables.push(plain(name, kept, key));
                tables.push(slots(
                    "account_backlog",
                    &["account", "slot", "waiting"],
                    &["account", "slot"],
                    "SELECT name, 0, waiting FROM account WHERE waiting <> 0 ORDER BY name",
                ));
            }
            "backlog" => tables.push(slots(
                "backlog",
                &["slot", "waiting", "untold"],
                &["slot"],
                "SELECT 0, waiting, untold FROM backlog",
            )),
            "history" => tables.push(history(columns)),
            _ => tables.push(plain(name, columns, key)),
        }
    }
    for table in &mut tables {
        let count = format!("SELECT count(*) FROM ({})", table.select);
        table.rows = db.query_row(&count, [], |row| row.get(0))?;
    }
    Ok(tables)
}

/// The columns of a table, and those of its key.
fn columns(db: &Connection, table: &str) -> rusqlite::Result<(Vec<String>, Vec<String>)> {
    let mut select = db.prepare("SELECT name, pk FROM pragma_table_info(?) ORDER BY cid")?;
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let columns = select.query_map([table], read)?.collect::<rusqlite::Result<Vec<(String, u32)>>>()?;
    let mut key: Vec<_> = columns.iter().filter(|(_, place)| *place > 0).cloned().collect();
    key.sort_by_key(|(_, place)| *place);
    let names = |columns: Vec<(String, u32)>| columns.into_iter().map(|(name, _)| name).collect();
    Ok((names(columns), names(key)))
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

fn plain(name: String, columns: Vec<String>, key: Vec<String>) -> Table {
    let select = format!("SELECT {} FROM \"{name}\" ORDER BY {}", quoted(&columns), quoted(&key));
    Table { name, columns, key, backwards: false, select, rows: 0 }
}

/// Differs from PostgreSQL: one count, where that has a sum over slots; all of it comes into the first.
fn slots(name: &str, columns: &[&str], key: &[&str], select: &str) -> Table {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let (columns, key) = (owned(columns), owned(key));
    Table { name: name.into(), columns, key, backwards: false, select: select.into(), rows: 0 }
}

/// Differs from PostgreSQL: a row says status and fallback where they changed, and stands in the order of
/// requests; there each says both, and stands in the order of leases.
fn history(mut columns: Vec<String>) -> Table {
    let own = columns.iter().map(|name| format!("h.\"{name}\"")).collect::<Vec<_>>().join(", ");
    let select = format!(
        "SELECT {own}, p.status, p.fallback
         FROM history AS h LEFT JOIN profile AS p ON p.number = h.profile
         ORDER BY h.profile DESC, h.sequence DESC, h.number DESC"
    );
    columns.push("lease".into());
    let key = ["profile", "lease", "sequence", "number"].map(String::from).to_vec();
    Table { name: "history".into(), columns, key, backwards: true, select, rows: 0 }
}

/// Walks through the history of profiles, each from its newest change to its oldest: what a row does not say
/// is as the row behind it found it, or as the profile is now. Leases are numbered from the end.
struct History {
    profile: usize,
    status: [usize; 2],
    fallback: [usize; 2],
    /// The profile of the row before.
    of: Option<String>,
    /// How that row found status and fallback.
    found: [Option<String>; 2],
    lease: u64,
}

impl History {
    fn of(table: &Table) -> Self {
        let at = |name: &str| table.columns.iter().position(|column| column == name).unwrap_or(0);
        Self {
            profile: at("profile"),
            status: [at("from_status"), at("to_status")],
            fallback: [at("from_fallback"), at("to_fallback")],
            of: None,
            found: [None, None],
            lease: table.rows,
        }
    }

    /// Completes a row, behind whose columns stand status and fallback as the profile has them now.
    fn complete(&mut self, cells: &mut Cells) {
        let (fallback, status) = (cells.pop().flatten(), cells.pop().flatten());
        if self.of != cells[self.profile] {
            self.of.clone_from(&cells[self.profile]);
            self.found = [status, fallback];
        }
        for (found, [from, to]) in self.found.iter_mut().zip([self.status, self.fallback]) {
            let left = cells[to].take().or_else(|| found.take());
            let before = cells[from].take().or_else(|| left.clone());
            found.clone_from(&before);
            (cells[from], cells[to]) = (before, left);
        }
        cells.push(Some(self.lease.to_string()));
        self.lease = self.lease.saturating_sub(1);
    }
}

/// A row's columns, as text; which text, the target's types say.
fn cells(row: &Row<'_>, types: &[String]) -> rusqlite::Result<Cells> {
    let count = row.as_ref().column_count();
    let cell = |index| {
        let is_list = types.get(index).is_some_and(|kind| kind == "bigint[]");
        Ok(match row.get_ref(index)? {
            ValueRef::Null => None,
            ValueRef::Integer(number) => Some(number.to_string()),
            ValueRef::Real(number) => Some(number.to_string()),
            ValueRef::Text(text) => {
                let text = std::str::from_utf8(text);
                Some(text.map_err(|error| rusqlite::Error::Utf8Error(index, error))?.to_owned())
            }
            ValueRef::Blob(bytes) if is_list => {
                let keys = bytes.as_chunks().0.iter().map(|key| i64::from_be_bytes(*key).to_string());
                Some(keys.collect::<Vec<_>>().join(","))
            }
            ValueRef::Blob(bytes) => Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        })
    };
    (0..count).map(cell).collect()
}
