//! A temporary folder with one database in it.

use async_trait::async_trait;
use reveille_store::Store;
use reveille_store::conformance::{Bench, Place};
use reveille_store::sqlite::{Sqlite, SqliteConfig, Synchronous};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder that is removed when it is dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("store-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path); // left by a run of the same number that was cut off
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.0.join("reveille.db")
    }

    pub(crate) fn config(&self) -> SqliteConfig {
        SqliteConfig { path: self.database(), disk_free_min: 0, synchronous: Synchronous::Full, readers: 2 }
    }

    pub(crate) fn open(&self) -> Sqlite {
        Sqlite::open(&self.config()).unwrap()
    }

    /// The database, past the store.
    pub(crate) fn connection(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.database()).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[async_trait]
impl Place for Folder {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(Self::open(self))
    }
}

/// SQLite, each time in a new folder.
pub(crate) struct SqliteBench;

#[async_trait]
impl Bench for SqliteBench {
    async fn empty_place(&self) -> Box<dyn Place> {
        Box::new(Folder::new())
    }
}
