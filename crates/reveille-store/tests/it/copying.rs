//! A SQLite store copied into PostgreSQL: everything is there, and work goes on on it.

use crate::cluster::Cluster;
use crate::folder::Folder;
use crate::postgres::{Database, config};
use async_trait::async_trait;
use reveille_store::Store;
use reveille_store::conformance::{Furnished, Place};
use reveille_store::copy::{Compared, CopyError, copy};
use reveille_store::postgres::Postgres;
use std::path::Path;
use std::sync::Arc;

/// A folder that outlives its store.
struct Kept(Arc<Folder>);

#[async_trait]
impl Place for Kept {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.0.open())
    }
}

fn copied(from: &Path, to: &str) -> Result<Vec<Compared>, CopyError> {
    copy(from, &config(to), &mut |_| {})
}

/// Runs statements past the store.
async fn past_the_store(url: &str, statements: &str) {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute(statements).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_copy_is_the_same_store_and_work_goes_on_on_it() {
    let folder = Arc::new(Folder::new());
    let original = Furnished::original(Box::new(Kept(Arc::clone(&folder)))).await;
    let url = Cluster::shared().fresh_database();
    let mut said = Vec::new();
    let compared = copy(&folder.database(), &config(&url), &mut |progress| {
        said.push((progress.table.to_owned(), progress.reads_back, progress.rows, progress.of));
    });
    let compared = compared.unwrap();
    assert!(compared.iter().all(Compared::is_same), "{compared:?}");
    let empty: Vec<_> = compared.iter().filter(|table| table.source.rows == 0).collect();
    assert!(empty.is_empty(), "the original has something of everything: {empty:?}");
    assert_eq!(compared.len(), 28);
    for table in &compared {
        let rows = table.source.rows;
        for reads_back in [false, true] {
            assert!(said.contains(&(table.table.clone(), reads_back, rows, rows)), "{}", table.table);
        }
    }
    let copy = Furnished::copy(Box::new(Database(url.clone()))).await;
    let (one, other) = (original.everything().await, copy.everything().await);
    for (one, other) in one.lines().zip(other.lines()) {
        assert_eq!(one, other);
    }
    assert_eq!(one, other);
    copy.goes_on().await;
    let again = copied(&folder.database(), &url).unwrap_err();
    assert!(matches!(again, CopyError::NotEmpty { .. }), "{again:?}");
}

#[tokio::test]
async fn an_original_is_as_it_was_after_it_was_copied() {
    let folder = Arc::new(Folder::new());
    let original = Furnished::original(Box::new(Kept(Arc::clone(&folder)))).await;
    let before = original.everything().await;
    copied(&folder.database(), &Cluster::shared().fresh_database()).unwrap();
    assert_eq!(original.everything().await, before);
    original.goes_on().await;
}

#[tokio::test]
async fn a_copy_that_differs_is_told_and_leaves_nothing() {
    let folder = Arc::new(Folder::new());
    drop(Furnished::original(Box::new(Kept(Arc::clone(&folder)))).await);
    let url = Cluster::shared().fresh_database();
    Postgres::migrate(&config(&url)).unwrap();
    past_the_store(
        &url,
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN new.imei = '0' || new.imei; RETURN new; END $$;
         CREATE TRIGGER spoils BEFORE INSERT ON device FOR EACH ROW EXECUTE FUNCTION spoil()",
    )
    .await;
    let Err(CopyError::Differs(compared)) = copied(&folder.database(), &url) else { panic!("it differs") };
    let differing: Vec<_> = compared.iter().filter(|table| !table.is_same()).collect();
    let [device] = &differing[..] else { panic!("one table: {differing:?}") };
    assert_eq!((&*device.table, device.source.rows), ("device", device.target.rows));
    past_the_store(&url, "DROP FUNCTION spoil CASCADE").await;
    copied(&folder.database(), &url).unwrap(); // it is empty still
}

#[test]
fn a_file_of_another_release_or_none_is_not_copied() {
    let folder = Folder::new();
    let url = Cluster::shared().fresh_database();
    let refused = copied(&folder.database(), &url).unwrap_err();
    assert!(matches!(refused, CopyError::NoSource), "{refused:?}");
    assert!(!folder.database().exists());
    drop(folder.open());
    folder.connection().pragma_update(None, "user_version", 1).unwrap();
    let refused = copied(&folder.database(), &url).unwrap_err();
    assert!(matches!(refused, CopyError::OtherSchema { version: 1, .. }), "{refused:?}");
}
