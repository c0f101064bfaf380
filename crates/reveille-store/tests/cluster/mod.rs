//! A PostgreSQL cluster of the tests' own: one for each test process, started by the first that asks.
//!
//! `tests/cluster.sh` keeps it. This process holds a pipe to that script and never lets go of it, so the cluster
//! goes when the process does: at its end, after a panic, at Ctrl-C, under `kill -9`.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// From whichever crate includes this.
const KEEPER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/cluster.sh");

/// A running cluster.
pub(crate) struct Cluster {
    port: u16,
    psql: PathBuf,
    databases: AtomicU32,
    /// Holds the pipe.
    _keeper: Child,
}

impl Cluster {
    /// The one of this process.
    ///
    /// # Panics
    /// Where PostgreSQL's programs are missing, or do not start.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: LazyLock<Result<Cluster, String>> = LazyLock::new(|| Cluster::start(&[]));
        SHARED.as_ref().unwrap_or_else(|why| panic!("there is no PostgreSQL for this test: {why}"))
    }

    /// The URL of an empty database that nobody else has. Blocks for a tenth of a second or more: it is 300 files.
    pub(crate) fn fresh_database(&self) -> String {
        let name = format!("fresh_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        // From template0, which nobody can be connected to: a database in use cannot be copied.
        self.psql(&format!("CREATE DATABASE {name} TEMPLATE template0"));
        self.url(&name)
    }

    /// What `psql` prints of a statement's answer.
    pub(crate) fn psql(&self, sql: &str) -> String {
        let mut psql = Command::new(&self.psql);
        psql.args([
            "--no-psqlrc",
            "--quiet",
            "--csv",
            "--tuples-only",
            "--command",
            sql,
            &self.url("postgres"),
        ]);
        let said = psql.env_clear().output().expect("psql starts");
        assert!(said.status.success(), "{sql}: {}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8_lossy(&said.stdout).into_owned()
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// One more, with lines of postgresql.conf of its own.
    pub(crate) fn start(settings: &[&str]) -> Result<Self, String> {
        let mut script = Command::new(KEEPER);
        script.args(settings);
        script.stdin(Stdio::piped()).stdout(Stdio::piped());
        script.process_group(0); // Ctrl-C must not end it before it has cleaned up
        let mut keeper = script.spawn().expect("the script starts");
        let mut said = BufReader::new(keeper.stdout.take().expect("it is piped"));
        let mut first = String::new();
        said.read_line(&mut first).expect("the script prints text");
        let Some((port, psql)) = ready(&first) else {
            said.read_to_string(&mut first).expect("the script prints text");
            keeper.wait().expect("it has ended");
            return Err(first);
        };
        Ok(Self { port, psql, databases: AtomicU32::new(0), _keeper: keeper })
    }
}

/// Where it listens and which `psql` belongs to it, out of "ready PORT FOLDER PROGRAMS".
fn ready(line: &str) -> Option<(u16, PathBuf)> {
    let mut words = line.strip_prefix("ready ")?.trim_end().split(' ');
    let port = words.next()?.parse().ok()?;
    Some((port, PathBuf::from(words.nth(1)?).join("psql")))
}
