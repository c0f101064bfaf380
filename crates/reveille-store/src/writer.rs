//! A writer: a thread that gathers what wants to be written and commits it together, over any database.
//!
//! Each job runs in a savepoint of its own, so that one that fails leaves its neighbours alone; all of
//! them are answered after the commit that they share, in their order. When a commit's answer is lost, nobody
//! knows what was kept: every job of that batch is told so, and the connection is opened anew.

use crate::{Result, StoreError};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

/// Rows after which a batch is committed, whoever else waits: keeps a commit's time in milliseconds.
const BATCH_ROWS_MAX: usize = 4_096;

/// How many jobs may wait for the writer; more wait at its door.
const JOBS_WAITING_MAX: usize = 4_096;

/// How long the writer lingers for company, when nobody in the batch is in a hurry.
const LINGER: Duration = Duration::from_millis(1);

/// How long after a failed opening the next is tried.
const REOPEN_AFTER: Duration = Duration::from_millis(250);

/// What a writer writes to.
pub(crate) trait Database: Send + 'static {
    /// An open connection.
    type Connection: Send + 'static;
    /// What can go wrong on it.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Opens a connection, ready to be written on.
    fn open(&self) -> std::result::Result<Self::Connection, Self::Error>;
    /// Begins a transaction; where this fails, nothing was written.
    fn begin(connection: &mut Self::Connection) -> std::result::Result<(), Self::Error>;
    /// Commits it, synced; where this fails, nobody knows.
    fn commit(connection: &mut Self::Connection) -> std::result::Result<(), Self::Error>;
    /// What the work came to, undone where it failed; an error of its own leaves its neighbours alone, one
    /// of the savepoint does not.
    fn in_savepoint<T>(
        connection: &mut Self::Connection,
        work: impl FnOnce(&mut Self::Connection) -> std::result::Result<T, Self::Error>,
    ) -> std::result::Result<std::result::Result<T, Self::Error>, Self::Error>;
    /// Takes leave of a connection in good order.
    fn close(connection: Self::Connection);
}

pub(crate) struct Writer<D: Database> {
    jobs: Mutex<Option<SyncSender<Box<dyn Job<D>>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Whether a caller waits on this write to answer somebody outside.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    Now,
    InCompany,
}

trait Job<D: Database>: Send {
    fn rows(&self) -> usize;
    fn urgency(&self) -> Urgency;
    /// Runs the job; an error means that the batch can not go on.
    fn run(&mut self, connection: &mut D::Connection) -> std::result::Result<(), D::Error>;
    fn settle(self: Box<Self>, kept: Kept);
}

/// What became of the batch that a job was in.
#[derive(Clone, Copy)]
enum Kept {
    Yes,
    No,
    Unknown,
}

struct Typed<D: Database, T, F, S> {
    what: &'static str,
    rows: usize,
    urgency: Urgency,
    work: Option<F>,
    result: Option<std::result::Result<T, D::Error>>,
    settled: S,
    answer: oneshot::Sender<Result<T>>,
}

impl<D, T, F, S> Job<D> for Typed<D, T, F, S>
where
    D: Database,
    T: Send + 'static,
    F: FnOnce(&mut D::Connection) -> std::result::Result<T, D::Error> + Send + 'static,
    S: FnOnce(&T) + Send + 'static,
{
    fn rows(&self) -> usize {
        self.rows
    }

    fn urgency(&self) -> Urgency {
        self.urgency
    }

    fn run(&mut self, connection: &mut D::Connection) -> std::result::Result<(), D::Error> {
        if let Some(work) = self.work.take() {
            self.result = Some(D::in_savepoint(connection, work)?);
        }
        Ok(())
    }

    fn settle(self: Box<Self>, kept: Kept) {
        let what = self.what;
        let answer = match (kept, self.result) {
            (Kept::Yes, Some(Ok(value))) => {
                (self.settled)(&value);
                Ok(value)
            }
            (Kept::Yes, Some(Err(source))) => Err(StoreError::Unavailable { what, source: Box::new(source) }),
            (Kept::No, _) => {
                Err(StoreError::Unavailable { what, source: "the database cannot be reached".into() })
            }
            (Kept::Unknown, _) | (Kept::Yes, None) => Err(StoreError::Unconfirmed),
        };
        let _ = self.answer.send(answer); // whoever asked may have gone
    }
}

impl<D: Database> Writer<D> {
    pub(crate) fn start(database: D, connection: D::Connection) -> Self {
        let (jobs, waiting) = sync_channel(JOBS_WAITING_MAX);
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || write_until_closed(&database, connection, &waiting))
            .map_err(|error| error!(%error, "Cannot start the store's writer"))
            .ok();
        Self { jobs: Mutex::new(Some(jobs)), thread: Mutex::new(thread) }
    }

    /// Runs `work` in the next batch; ends when that is synced.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        what: &'static str,
        rows: usize,
        urgency: Urgency,
        work: impl FnOnce(&mut D::Connection) -> std::result::Result<T, D::Error> + Send + 'static,
    ) -> Result<T> {
        self.write_then(what, rows, urgency, work, |_| {}).await
    }

    /// The same; `settled` sees the result when it is synced, before that of any later job is known.
    pub(crate) async fn write_then<T: Send + 'static>(
        &self,
        what: &'static str,
        rows: usize,
        urgency: Urgency,
        work: impl FnOnce(&mut D::Connection) -> std::result::Result<T, D::Error> + Send + 'static,
        settled: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T> {
        let closed = || StoreError::Unavailable { what, source: "the store is closing".into() };
        let (answer, answered) = oneshot::channel();
        let job: Box<dyn Job<D>> =
            Box::new(Typed { what, rows, urgency, work: Some(work), result: None, settled, answer });
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(closed)?;
        match jobs.try_send(job) {
            // Whoever waits for an answer must not keep the channel open: a stop waits for its end.
            Ok(()) => drop(jobs),
            Err(TrySendError::Disconnected(_)) => return Err(closed()),
            Err(TrySendError::Full(job)) => {
                let waiting = tokio::task::spawn_blocking(move || jobs.send(job).is_ok());
                if !waiting.await.unwrap_or(false) {
                    return Err(closed());
                }
            }
        }
        answered.await.unwrap_or(Err(StoreError::Unconfirmed))
    }

    pub(crate) fn stop(&self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The last holder of a store may be what its own writer has just settled.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

impl<D: Database> Drop for Writer<D> {
    fn drop(&mut self) {
        self.stop();
    }
}

fn write_until_closed<D: Database>(
    database: &D,
    connection: D::Connection,
    waiting: &Receiver<Box<dyn Job<D>>>,
) {
    let mut connection = Some(connection);
    let mut company_before = false;
    while let Ok(first) = waiting.recv() {
        let (mut batch, company) = gather(first, waiting, company_before);
        company_before = company;
        let kept = match begun(database, connection.take()) {
            Some(open) => {
                connection = commit::<D>(open, &mut batch);
                if connection.is_some() { Kept::Yes } else { Kept::Unknown }
            }
            None => Kept::No,
        };
        batch.into_iter().for_each(|job| job.settle(kept));
        if matches!(kept, Kept::No) {
            pause();
        }
    }
    if let Some(connection) = connection {
        D::close(connection);
    }
}

/// A connection on which a transaction has begun: the one that there was, or a new one where that is dead.
fn begun<D: Database>(database: &D, kept: Option<D::Connection>) -> Option<D::Connection> {
    if let Some(mut connection) = kept {
        match D::begin(&mut connection) {
            Ok(()) => return Some(connection),
            Err(error) => warn!(error = %Chain(&error), "Cannot begin to write; opening the database anew"),
        }
    }
    let opened = database.open().and_then(|mut connection| D::begin(&mut connection).map(|()| connection));
    match opened {
        Ok(connection) => {
            info!("Opened the database anew");
            Some(connection)
        }
        Err(error) => {
            error!(error = %Chain(&error), "Cannot open the database; what waits is told so");
            None
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the writer's own thread waits for the disk, not for a time")]
fn pause() {
    std::thread::sleep(REOPEN_AFTER);
}

/// What is committed together, and whether it found company: then the next batch lingers for more.
fn gather<D: Database>(
    first: Box<dyn Job<D>>,
    waiting: &Receiver<Box<dyn Job<D>>>,
    company_before: bool,
) -> (Vec<Box<dyn Job<D>>>, bool) {
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

/// Runs and commits the batch; the connection, where all of it is on disk for certain.
fn commit<D: Database>(
    mut connection: D::Connection,
    batch: &mut [Box<dyn Job<D>>],
) -> Option<D::Connection> {
    let run = batch.iter_mut().try_for_each(|job| job.run(&mut connection));
    match run.and_then(|()| D::commit(&mut connection)) {
        Ok(()) => Some(connection),
        Err(error) => {
            error!(error = %Chain(&error), "A commit was not confirmed; reading back what is there");
            None
        }
    }
}

/// An error with its causes, for the log.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
