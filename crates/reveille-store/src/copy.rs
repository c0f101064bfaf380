//! A store copied whole, from one SQLite file into an empty PostgreSQL database.
//!
//! Tables and columns are those that the schemas say, so that none is left out; what the two keep differently
//! is told in `sqlite/copy.rs`, whose rows have the target's form. All is one transaction of the target: until
//! what was written has been read back and is the same, nothing is there.

use crate::postgres::copy::Target;
use crate::postgres::{PostgresConfig, on_a_thread};
use crate::sqlite::copy::Source;
use crate::{Result, StoreError};
use ring::digest::{Context, SHA256};
use std::path::Path;

/// How many rows are written in one statement.
const ROWS_MAX: usize = 1_000;

/// How much text they may have, for a few rows are long: answers, and lists of profiles.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// A row: each column as text, alike in both dialects; nothing where it is NULL.
pub(crate) type Cells = Vec<Option<String>>;

/// A table to be copied, as the target has it.
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<String>,
    pub(crate) key: Vec<String>,
    /// Whether it is read from the end of its key to the beginning.
    pub(crate) backwards: bool,
    /// What reads it from the source, in the order of its key.
    pub(crate) select: String,
    pub(crate) rows: u64,
}

/// What is being done, how many rows are done, and how many there are.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Of which table.
    pub table: &'a str,
    /// Whether it is read back already.
    pub reads_back: bool,
    /// Rows done.
    pub rows: u64,
    /// Rows of the table in the source.
    pub of: u64,
}

/// What one side has of a table: how many rows, and the SHA-256 of them all in the order of their key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// How many.
    pub rows: u64,
    /// Over each row's columns as text, each with its length.
    pub digest: [u8; 32],
}

/// A table on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// The target's name of it.
    pub table: String,
    /// As it was read.
    pub source: Side,
    /// As it was read back.
    pub target: Side,
}

impl Compared {
    /// Whether both sides have the same.
    pub fn is_same(&self) -> bool {
        self.source == self.target
    }
}

/// Why a store was not copied. Nothing of it is in the target then, but for the empty schema.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// There is no such file.
    #[error("there is no database in that file")]
    NoSource,
    /// Tables are copied from one version of the schema alone.
    #[error("its schema is {version}, this release has {known}: bring it up to date first")]
    OtherSchema {
        /// The source's.
        version: usize,
        /// The one that can be copied.
        known: usize,
    },
    /// Somebody works, or has worked, on the target.
    #[error("the target is not empty: table {table} has rows")]
    NotEmpty {
        /// One that has rows.
        table: String,
    },
    /// What was read back is not what was read.
    #[error("what was read back from the target is not what was read from the source")]
    Differs(Vec<Compared>),
    /// One of the two failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Copies everything that is in the file into the database, which gets its schema first, and reads it back.
/// Leases begin empty; order numbers and keys go on behind the highest that was ever given. The server's key
/// is in neither of the two. Blocks.
///
/// # Errors
/// See [`CopyError`].
pub fn copy(
    from: &Path,
    to: &PostgresConfig,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> std::result::Result<Vec<Compared>, CopyError> {
    on_a_thread(|| {
        let source = Source::open(from)?;
        let tables = source.tables()?;
        let mut target = Target::open(to)?;
        let mut compared = Vec::new();
        for table in &tables {
            let written = write(&source, &mut target, table, progress)?;
            let target = read_back(&mut target, table, progress)?;
            compared.push(Compared { table: table.name.clone(), source: written, target });
        }
        if !compared.iter().all(Compared::is_same) {
            return Err(CopyError::Differs(compared));
        }
        for (sequence, highest) in source.numbers_given()? {
            target.go_on_behind(sequence, highest)?;
        }
        target.commit()?;
        Ok(compared)
    })
}

fn write(
    source: &Source,
    target: &mut Target,
    table: &Table,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Side> {
    let types = target.types_of(table)?;
    let mut digest = Digest::new();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let mut write = |batch: &mut Vec<Cells>, rows| {
        target.insert(table, &types, batch)?;
        batch.clear();
        progress(Progress { table: &table.name, reads_back: false, rows, of: table.rows });
        Ok::<_, StoreError>(())
    };
    source.read(table, &types, &mut |row| {
        bytes += digest.take(&row);
        batch.push(row);
        if batch.len() == ROWS_MAX || bytes >= BYTES_MAX {
            bytes = 0;
            write(&mut batch, digest.rows)?;
        }
        Ok(())
    })?;
    if !batch.is_empty() {
        write(&mut batch, digest.rows)?;
    }
    Ok(digest.finish())
}

fn read_back(target: &mut Target, table: &Table, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Side> {
    let mut digest = Digest::new();
    target.read(table, &mut |rows| {
        for row in &rows {
            digest.take(row);
        }
        progress(Progress { table: &table.name, reads_back: true, rows: digest.rows, of: table.rows });
    })?;
    Ok(digest.finish())
}

struct Digest {
    context: Context,
    rows: u64,
}

impl Digest {
    fn new() -> Self {
        Self { context: Context::new(&SHA256), rows: 0 }
    }

    /// How many bytes of text the row has.
    fn take(&mut self, row: &Cells) -> usize {
        for cell in row {
            match cell {
                Some(text) => {
                    self.context.update(format!("{}:", text.len()).as_bytes());
                    self.context.update(text.as_bytes());
                }
                None => self.context.update(b"-"),
            }
        }
        self.context.update(b"\n");
        self.rows += 1;
        row.iter().flatten().map(String::len).sum()
    }

    fn finish(self) -> Side {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.context.finish().as_ref());
        Side { rows: self.rows, digest }
    }
}
