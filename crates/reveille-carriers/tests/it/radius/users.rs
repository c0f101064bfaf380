//! A RADIUS server's users, as somebody else than the adapter puts them into its database.

use super::freeradius::{Cluster, FreeRadius, PASSWORD, schema};
use reveille_carriers::radius::RadiusDatabase;
use tokio_postgres::NoTls;

/// The database of a server's.
pub(crate) enum Users {
    /// In a cluster of its own, since it is stopped and frozen.
    Postgres { cluster: Cluster },
    /// In that file.
    Sqlite { file: String },
}

/// A database's name in its cluster.
pub(crate) const NAME: &str = "radius";

impl Users {
    /// A database without users, and a server on it.
    pub(crate) async fn on_postgres() -> (Self, FreeRadius) {
        let cluster = Cluster::start();
        let port = cluster.port;
        let users = Self::Postgres { cluster };
        run(&url(port, "postgres"), &format!("CREATE DATABASE {NAME} TEMPLATE template0")).await;
        run(&url(port, NAME), &schema("postgresql")).await;
        (users, FreeRadius::on_postgres(port, NAME))
    }

    /// Likewise, in a file.
    pub(crate) fn on_sqlite() -> (Self, FreeRadius) {
        let server = FreeRadius::on_sqlite();
        (Self::Sqlite { file: format!("{}/radius.db", server.folder) }, server)
    }

    /// What the adapter is told of it.
    pub(crate) fn configured(&self) -> RadiusDatabase {
        self.text().parse().unwrap()
    }

    fn text(&self) -> String {
        match self {
            Self::Postgres { cluster } => url(cluster.port, NAME),
            Self::Sqlite { file } => format!("sqlite:{file}"),
        }
    }

    /// Runs statements, as they are.
    pub(crate) async fn run(&self, sql: &str) {
        match self {
            Self::Postgres { cluster } => run(&url(cluster.port, NAME), sql).await,
            Self::Sqlite { file } => {
                let db = rusqlite::Connection::open(file).unwrap();
                db.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
                db.execute_batch(sql).unwrap();
            }
        }
    }

    /// Makes users who have a password.
    pub(crate) async fn create(&self, names: &[String]) {
        for names in names.chunks(1000) {
            let row = |name: &String| format!("('{name}', 'Cleartext-Password', ':=', '{PASSWORD}')");
            let rows: Vec<String> = names.iter().map(row).collect();
            self.run(&format!(
                "INSERT INTO radcheck (username, attribute, op, value) VALUES {}",
                rows.join(", ")
            ))
            .await;
        }
    }

    /// How many rows a user has in radcheck.
    pub(crate) async fn rows(&self, user: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM radcheck WHERE username = '{user}'");
        match self {
            Self::Postgres { cluster } => {
                let client = connect(&url(cluster.port, NAME)).await;
                client.query_one(&sql, &[]).await.unwrap().get(0)
            }
            Self::Sqlite { file } => {
                rusqlite::Connection::open(file).unwrap().query_row(&sql, [], |row| row.get(0)).unwrap()
            }
        }
    }
}

pub(crate) fn url(port: u16, name: &str) -> String {
    format!("postgres://postgres@127.0.0.1:{port}/{name}")
}

/// A connection, which lasts as long as this.
pub(crate) async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn run(url: &str, sql: &str) {
    connect(url).await.batch_execute(sql).await.unwrap();
}
