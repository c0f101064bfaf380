//! The database: looking subscribers up and changing one at a time, and what it means when that fails.
//!
//! The driver connects with the first thing to ask, keeps its connections, and finds the primary of a replica set
//! again by itself. It repeats nothing by itself here: whether what was sent was done is for this adapter to say.

use super::config::Open5gsConfig;
use super::subscriber::{self, Found, Subscriber};
use crate::Trouble;
use mongodb::bson::{Document, doc};
use mongodb::error::{Error, ErrorKind, WriteFailure};
use mongodb::options::{
    Acknowledgment, ClientOptions, ConnectionString, ReadConcern, ReadPreference, SelectionCriteria,
    ServerMonitoringMode, WriteConcern,
};
use mongodb::{Client, Collection};
use reveille_domain::Imsi;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::OnceCell;
use tracing::warn;

/// How long it may take to connect to a server, where the URL does not say.
const CONNECTED_WITHIN: Duration = Duration::from_secs(3);

/// How long a primary may be looked for, likewise: shorter than the engine waits for a word when it asks how the
/// carrier is. What is not found now is tried again later anyway.
const FOUND_WITHIN: Duration = Duration::from_millis(1_500);

/// How many documents there are at most for a subscriber, and one more.
const FORMS: usize = 2;

/// What a server says of itself that is not the primary, before it does anything of a write. Source: MongoDB, "Error
/// Codes".
const NOT_PRIMARY: [i32; 3] = [10107, 13435, 13436];

/// What it says to someone who may not do that, or whom it does not know.
const NOT_ALLOWED: [i32; 2] = [13, 18];

/// Where the subscribers are.
pub(super) struct Database {
    config: Open5gsConfig,
    connections: u32,
    subscribers: OnceCell<Collection<Document>>,
}

/// What became of a change that was not told to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Undone {
    /// It was not sent.
    Unsent(Trouble),
    /// It was refused, and nothing of it done.
    Refused,
    /// Nobody knows.
    Doubtful,
}

impl Database {
    /// With at most so many connections, where the URL does not say how many.
    pub(super) fn new(config: Open5gsConfig, connections: u32) -> Self {
        Self { config, connections, subscribers: OnceCell::new() }
    }

    /// How each subscriber is, in the order asked.
    pub(super) async fn look_up(&self, imsis: &[&Imsi]) -> Result<Vec<Found>, Trouble> {
        let found = self.find(imsis).await.map_err(|error| self.trouble(&error))?;
        let documents = |form: String| found.get(&form).cloned().unwrap_or_default();
        let one = |imsi: &&Imsi| Found::of(subscriber::forms(imsi).into_iter().flat_map(documents).collect());
        Ok(imsis.iter().map(one).collect())
    }

    async fn find(&self, imsis: &[&Imsi]) -> Result<HashMap<String, Vec<Document>>, Error> {
        let forms: Vec<String> = imsis.iter().copied().flat_map(subscriber::forms).collect();
        let mut found: HashMap<String, Vec<Document>> = HashMap::with_capacity(imsis.len());
        let asked = self.subscribers().await?.find(doc! { "imsi": { "$in": forms } });
        let mut cursor = asked.projection(subscriber::fields()).await?;
        while cursor.advance().await? {
            let document = cursor.deserialize_current()?;
            let Ok(form) = document.get_str("imsi") else { continue };
            let same = found.entry(form.into()).or_default();
            if same.len() < FORMS {
                same.push(document);
            }
        }
        Ok(found)
    }

    /// Changes a subscriber that is still as it was found; whether it was.
    pub(super) async fn change(&self, of: &Subscriber, change: Document) -> Result<bool, Undone> {
        let subscribers = self.subscribers().await.map_err(|error| Undone::Unsent(self.trouble(&error)))?;
        let updated = subscribers.update_one(of.unchanged(), change).await;
        updated.map(|updated| updated.matched_count == 1).map_err(|error| self.undone(&error))
    }

    /// Whether it can be asked as it is asked for each operation.
    pub(super) async fn ask(&self) -> Result<(), Trouble> {
        let asking = async { self.subscribers().await?.find_one(doc! { "imsi": "" }).await };
        asking.await.map(drop).map_err(|error| self.trouble(&error))
    }

    async fn subscribers(&self) -> Result<&Collection<Document>, Error> {
        self.subscribers.get_or_try_init(|| self.set_up()).await
    }

    async fn set_up(&self) -> Result<Collection<Document>, Error> {
        let mut options = ClientOptions::parse(ConnectionString::parse(&self.config.url)?).await?;
        options.app_name.get_or_insert_with(|| "reveille".into());
        options.connect_timeout.get_or_insert(CONNECTED_WITHIN);
        options.server_selection_timeout.get_or_insert(FOUND_WITHIN);
        options.max_pool_size.get_or_insert(self.connections);
        // One that streams looks at a server again only after 10 s, once it was refused there.
        options.server_monitoring_mode.get_or_insert(ServerMonitoringMode::Poll);
        options.retry_reads = Some(false);
        options.retry_writes = Some(false);
        options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        options.read_concern.get_or_insert_with(ReadConcern::majority);
        options
            .write_concern
            .get_or_insert_with(|| WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build());
        let client = Client::with_options(options)?;
        Ok(client.database(&self.config.database).collection(&self.config.collection))
    }

    fn undone(&self, error: &Error) -> Undone {
        let code = code_of(error);
        match *error.kind {
            ErrorKind::ServerSelection { .. } | ErrorKind::Authentication { .. } => {
                Undone::Unsent(self.trouble(error))
            }
            _ if code.is_some_and(|code| NOT_PRIMARY.contains(&code) || NOT_ALLOWED.contains(&code)) => {
                Undone::Unsent(self.trouble(error))
            }
            ErrorKind::Write(WriteFailure::WriteError(ref refused)) => {
                warn!(
                    mongodb.code = refused.code,
                    "The database of subscribers refuses a change: error {}", refused.code
                );
                Undone::Refused
            }
            _ => Undone::Doubtful,
        }
    }

    /// In words for the operator. The driver's are of addresses and errors, never of names, passwords or documents.
    fn trouble(&self, error: &Error) -> Trouble {
        let at = self.hosts();
        let Open5gsConfig { database, collection, .. } = &self.config;
        match *error.kind {
            ErrorKind::Authentication { .. } => Trouble::Credentials(
                format!("The database at {at} does not accept the name and the password in `url`: correct them there, or give it that user").into(),
            ),
            _ if code_of(error).is_some_and(|code| NOT_ALLOWED.contains(&code)) => Trouble::Credentials(
                format!("The database at {at} does not let us read and write {database}.{collection}: give the user of `url` the role readWrite on {database}").into(),
            ),
            ErrorKind::ServerSelection { ref message, .. } => Trouble::Transport(
                format!("The database at {at} cannot be used ({}): start MongoDB, or correct `url`", why_none(message)).into(),
            ),
            ErrorKind::Io(ref why) => Trouble::Transport(
                format!("The connection to the database at {at} was lost ({why}): see whether MongoDB runs, and its log").into(),
            ),
            _ => Trouble::Transport(
                format!("The database at {at} cannot be asked for {database}.{collection} ({}): see its log", in_short(error)).into(),
            ),
        }
    }

    /// Host and port of each server, without what else the URL holds.
    fn hosts(&self) -> String {
        let hosts = ConnectionString::parse(&self.config.url).map(|url| url.host_info);
        match hosts {
            Ok(mongodb::options::HostInfo::HostIdentifiers(hosts)) => {
                let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
                hosts.join(",")
            }
            _ => "an address that is none".into(),
        }
    }
}

fn code_of(error: &Error) -> Option<i32> {
    match *error.kind {
        ErrorKind::Command(ref command) => Some(command.code),
        ErrorKind::Write(WriteFailure::WriteError(ref write)) => Some(write.code),
        _ => None,
    }
}

/// Why none of the servers serves, out of the driver's description of all of them: what is wrong with the first.
fn why_none(message: &str) -> &str {
    let first = message.split_once("Error: Kind: ").and_then(|(_, rest)| rest.split_once(", labels: "));
    first.map_or("none of its servers is the primary", |(why, _)| why)
}

/// The kind of an error, of which the driver's text may hold what was asked.
fn in_short(error: &Error) -> String {
    match *error.kind {
        ErrorKind::Command(ref command) => format!("error {} {}", command.code, command.code_name),
        ErrorKind::ConnectionPoolCleared { .. } => "its connections were cut off".into(),
        ErrorKind::IncompatibleServer { ref message, .. } => message.clone(),
        ErrorKind::InvalidTlsConfig { ref message, .. } => message.clone(),
        _ => "it does not answer as a MongoDB does".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_no_server_serves_is_said_in_short() {
        let refused = "Server selection timeout: No available servers. Topology: { Type: Unknown, Servers: \
                       [ { Address: 127.0.0.1:1, Type: Unknown, Error: Kind: I/O error: Connection refused (os \
                       error 111), labels: {}, source: None, server response: None } ] }";
        assert_eq!(why_none(refused), "I/O error: Connection refused (os error 111)");
        let headless = "Server selection timeout: None of the available servers suitable. Topology: { Type: \
                        ReplicaSetNoPrimary, Servers: [ { Address: h:1, Type: RsSecondary } ] }";
        assert_eq!(why_none(headless), "none of its servers is the primary");
    }
}
