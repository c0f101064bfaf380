//! The one writer: a thread that gathers what wants to be written and commits it together.
//!
//! Each job runs in a savepoint of its own, so that one that fails leaves its neighbours alone; all of
//! them are answered after the commit that they share. When a commit's answer is lost, nobody knows what
//! was kept: every job of that batch is told so, and the connection is opened anew.

use super::{SqliteConfig, connect, free_bytes, schema, unavailable};
use crate::{Result, StoreError};
use rusqlite::{Connection, OpenFlags};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::{error, info};

/// Rows after which a batch is committed, whoever else waits: keeps a commit's time in milliseconds.
const BATCH_ROWS_MAX: usize = 4_096;

/// How many jobs may wait for the writer; more wait at its door.
const JOBS_WAITING_MAX: usize = 4_096;

/// How long the writer lingers for company, when nobody in the batch is in a hurry.
const LINGER: Duration = Duration::from_millis(1);

/// How long after a failed opening the next is tried.
const REOPEN_AFTER: Duration = Duration::from_millis(250);

pub(super) struct Writer {
    jobs: Mutex<Option<SyncSender<Box<dyn Job>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    config: SqliteConfig,
}

/// Whether a caller waits on this write to answer somebody outside.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    Now,
    InCompany,
}

trait Job: Send {
    fn rows(&self) -> usize;
    fn urgency(&self) -> Urgency;
    /// Runs the job; an error means that the batch can not go on.
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()>;
    fn settle(self: Box<Self>, kept: Kept);
}

/// What became of the batch that a job was in.
#[derive(Clone, Copy)]
enum Kept {
    Yes,
    Unknown,
}

struct Typed<T, F> {
    what: &'static str,
    rows: usize,
    urgency: Urgency,
    work: Option<F>,
    result: Option<rusqlite::Result<T>>,
    answer: oneshot::Sender<Result<T>>,
}

impl<T, F> Job for Typed<T, F>
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
{
    fn rows(&self) -> usize {
        self.rows
    }

    fn urgency(&self) -> Urgency {
        self.urgency
    }

    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if let Some(work) = self.work.take() {
            self.result = Some(in_savepoint(connection, work)?);
        }
        Ok(())
    }

    fn settle(self: Box<Self>, kept: Kept) {
        let answer = match (kept, self.result) {
            (Kept::Yes, Some(Ok(value))) => Ok(value),
            (Kept::Yes, Some(Err(source))) => Err(unavailable(self.what)(source)),
            (Kept::Unknown, _) | (Kept::Yes, None) => Err(StoreError::Unconfirmed),
        };
        let _ = self.answer.send(answer); // whoever asked may have gone
    }
}

/// What the work came to; an error of its own leaves its neighbours alone, one of the savepoint does not.
fn in_savepoint<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<rusqlite::Result<T>> {
    connection.prepare_cached("SAVEPOINT job")?.execute([])?;
    let result = work(connection);
    if connection.is_autocommit() {
        return Err(rusqlite::Error::ExecuteReturnedResults); // SQLite rolled the whole batch back
    }
    if result.is_err() {
        connection.prepare_cached("ROLLBACK TO job")?.execute([])?;
    }
    connection.prepare_cached("RELEASE job")?.execute([])?;
    Ok(result)
}

impl Writer {
    pub(super) fn start(config: SqliteConfig, connection: Connection) -> Self {
        let (jobs, waiting) = sync_channel(JOBS_WAITING_MAX);
        let thread_config = config.clone();
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || write_until_closed(&thread_config, connection, &waiting))
            .map_err(|error| error!(%error, "Cannot start the store's writer"))
            .ok();
        Self { jobs: Mutex::new(Some(jobs)), thread: Mutex::new(thread), config }
    }

    /// Runs `work` in the next batch; ends when that is synced.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        what: &'static str,
        rows: usize,
        urgency: Urgency,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let closed = || StoreError::Unavailable { what, source: "the store is closing".into() };
        let (answer, answered) = oneshot::channel();
        let job: Box<dyn Job> =
            Box::new(Typed { what, rows, urgency, work: Some(work), result: None, answer });
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(closed)?;
        if let Err(refused) = jobs.try_send(job) {
            let std::sync::mpsc::TrySendError::Full(job) = refused else { return Err(closed()) };
            let waiting = tokio::task::spawn_blocking(move || jobs.send(job).is_ok());
            if !waiting.await.unwrap_or(false) {
                return Err(closed());
            }
        }
        answered.await.unwrap_or(Err(StoreError::Unconfirmed))
    }

    /// Refuses while the disk is nearly full: what is under way needs the room that is left.
    pub(super) fn check_room(&self) -> Result<()> {
        match free_bytes(&self.config.path) {
            Some(free_bytes) if free_bytes < self.config.disk_free_min => {
                Err(StoreError::DiskNearlyFull { free_bytes })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn stop(&self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn write_until_closed(config: &SqliteConfig, connection: Connection, waiting: &Receiver<Box<dyn Job>>) {
    let mut connection = Some(connection);
    let mut company_before = false;
    while let Ok(first) = waiting.recv() {
        let open = match connection.take() {
            Some(open) => Ok(open),
            None => reopen(config),
        };
        match open {
            Ok(open) => {
                let (mut batch, company) = gather(first, waiting, company_before);
                company_before = company;
                connection = commit(&open, &mut batch).then_some(open);
                let kept = if connection.is_some() { Kept::Yes } else { Kept::Unknown };
                batch.into_iter().for_each(|job| job.settle(kept));
            }
            Err(error) => {
                error!(%error, "Cannot reopen the database; what waits is told so");
                first.settle(Kept::Unknown);
                pause();
            }
        }
    }
    if let Some(connection) = connection {
        let _ = connection.pragma_update(None, "wal_checkpoint", "TRUNCATE");
    }
}

#[expect(clippy::disallowed_methods, reason = "the writer's own thread waits for the disk, not for a time")]
fn pause() {
    std::thread::sleep(REOPEN_AFTER);
}

fn reopen(config: &SqliteConfig) -> rusqlite::Result<Connection> {
    let mut connection = connect(config, OpenFlags::default())?;
    schema::migrate(&mut connection)?;
    info!("Reopened the database after a failed commit");
    Ok(connection)
}

/// What is committed together, and whether it found company: then the next batch lingers for more.
fn gather(
    first: Box<dyn Job>,
    waiting: &Receiver<Box<dyn Job>>,
    company_before: bool,
) -> (Vec<Box<dyn Job>>, bool) {
    let mut rows = first.rows();
    let mut hurry = first.urgency() == Urgency::Now;
    let mut lingered = !company_before;
    let mut batch = vec![first];
    while rows < BATCH_ROWS_MAX {
        let job = match waiting.try_recv() {
            Ok(job) => job,
            Err(TryRecvError::Empty) if !hurry && !lingered => {
                lingered = true;
                match waiting.recv_timeout(LINGER) {
                    Ok(job) => job,
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                }
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
        };
        rows += job.rows();
        hurry |= job.urgency() == Urgency::Now;
        batch.push(job);
    }
    let company = batch.len() > 1 || rows > 1;
    (batch, company)
}

/// Whether the batch is on disk. Where it is not for certain, the connection must not be used again.
fn commit(connection: &Connection, batch: &mut [Box<dyn Job>]) -> bool {
    let attempt = || -> rusqlite::Result<()> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for job in batch.iter_mut() {
            job.run(connection)?;
        }
        connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    };
    let mut attempt = attempt;
    attempt()
        .map_err(|error| error!(%error, "A commit was not confirmed; reading back what is there"))
        .is_ok()
}
