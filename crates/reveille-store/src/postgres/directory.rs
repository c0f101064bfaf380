//! Accounts, plans, clients, users, sessions, listeners, holds.

use super::Postgres;
use super::codes::{
    get, int, optional_at, optional_text, read_at, read_id, read_listener, read_network, read_text, read_u32,
};
use super::connection::{Db, Sql, SqlError};
use crate::writer::Urgency;
use crate::{
    Applied, Client, ClientDeclaration, Declaration, Directory, Listener, LoginFailure, Result, Session,
    User, UserDeclaration,
};
use async_trait::async_trait;
use reveille_domain::{AccountName, ListenerName, Network, Timestamp};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

#[async_trait]
impl Directory for Postgres {
    async fn apply(&self, declaration: Declaration, at: Timestamp) -> Result<Applied> {
        self.write("apply a declaration", 1, Urgency::Now, move |db| apply(db, &declaration, at)).await
    }

    async fn takes_key(&self, fingerprint: [u8; 32]) -> Result<bool> {
        let take = move |db: &mut Db| {
            let insert =
                "INSERT INTO server_key (only_row, fingerprint) VALUES (1, $1) ON CONFLICT DO NOTHING";
            db.execute(insert, &[&&fingerprint[..]])?;
            let row = db.query_one("SELECT fingerprint FROM server_key", &[])?;
            Ok(get::<&[u8]>(&row, "fingerprint")? == fingerprint)
        };
        self.write("see whose key it is", 1, Urgency::Now, take).await
    }

    async fn client(&self, key: &str) -> Result<Option<Client>> {
        let key = key.to_owned();
        self.readers.read("read a client", move |db| client_where(db, "key", &key)).await
    }

    async fn client_numbered(&self, number: u32) -> Result<Option<Client>> {
        self.readers.read("read a client", move |db| client_where(db, "number", &int(number))).await
    }

    async fn issue_token(
        &self,
        client: u32,
        at: Timestamp,
        not_before: Timestamp,
    ) -> Result<Option<Timestamp>> {
        let issue = move |db: &mut Db| issue_token(db, client, at, not_before);
        self.write("issue a token", 1, Urgency::Now, issue).await
    }

    async fn revoke_token(&self, client: u32) -> Result<()> {
        let revoke = move |db: &mut Db| {
            db.execute("UPDATE client SET token_revoked = TRUE WHERE number = $1", &[&int(client)]).map(drop)
        };
        self.write("revoke a token", 1, Urgency::Now, revoke).await
    }

    async fn user(&self, name: &str) -> Result<Option<User>> {
        let name = name.to_owned();
        self.readers.read("read a user", move |db| user(db, &name)).await
    }

    async fn users(&self) -> Result<Vec<(Box<str>, bool)>> {
        let all = |db: &mut Db| {
            let select = "SELECT name, locked_at IS NOT NULL AS locked FROM \"user\" ORDER BY name";
            let read = |row: &Row| Ok((read_text(row, "name")?, get(row, "locked")?));
            db.query(select, &[])?.iter().map(read).collect()
        };
        self.readers.read("list users", all).await
    }

    async fn login_failed(&self, user: &str, at: Timestamp, failures_max: u32) -> Result<LoginFailure> {
        let name = user.to_owned();
        let count = move |db: &mut Db| login_failed(db, &name, at, failures_max);
        self.write("count a failed login", 1, Urgency::Now, count).await
    }

    async fn open_session(&self, session: Session) -> Result<bool> {
        self.write("open a session", 1, Urgency::Now, move |db| open_session(db, &session)).await
    }

    async fn session(&self, token_digest: [u8; 32]) -> Result<Option<Session>> {
        self.readers.read("read a session", move |db| session(db, token_digest)).await
    }

    async fn touch_sessions(&self, uses: Vec<([u8; 32], Timestamp)>) -> Result<()> {
        let rows = uses.len();
        self.write("note uses of sessions", rows, Urgency::InCompany, move |db| touch(db, &uses)).await
    }

    async fn end_session(&self, token_digest: [u8; 32], at: Timestamp) -> Result<()> {
        let end = move |db: &mut Db| {
            let end = "UPDATE session SET ended_at = $1 WHERE token_digest = $2 AND ended_at IS NULL";
            db.execute(end, &[&at.0, &token_digest.as_slice()]).map(drop)
        };
        self.write("end a session", 1, Urgency::Now, end).await
    }

    async fn set_password(&self, user: &str, password_hash: String) -> Result<bool> {
        let name = user.to_owned();
        let set = move |db: &mut Db| {
            let set = "UPDATE \"user\" SET password_hash = $1 WHERE name = $2";
            Ok(db.execute(set, &[&password_hash, &name])? == 1)
        };
        self.write("set a password", 1, Urgency::Now, set).await
    }

    async fn unlock(&self, user: &str) -> Result<bool> {
        let name = user.to_owned();
        let unlock = move |db: &mut Db| {
            let unlock = "UPDATE \"user\" SET failed_logins = 0, locked_at = NULL WHERE name = $1";
            Ok(db.execute(unlock, &[&name])? == 1)
        };
        self.write("unlock a user", 1, Urgency::Now, unlock).await
    }

    async fn register(&self, account: &AccountName, listener: Listener) -> Result<()> {
        let account = account.clone();
        let register = move |db: &mut Db| set_listener(db, &account, &listener).map(drop);
        self.write("register a listener", 1, Urgency::Now, register).await
    }

    async fn deregister(&self, account: &AccountName, service: &str, name: ListenerName) -> Result<bool> {
        let (account, service) = (account.clone(), service.to_owned());
        let remove = move |db: &mut Db| {
            let account = account.as_str();
            let removed = if name.is_own() {
                let delete = "DELETE FROM listener WHERE account = $1 AND service = $2";
                db.execute(delete, &[&account, &service])?
            } else {
                let delete = "DELETE FROM further_listener WHERE account = $1 AND service = $2 AND name = $3";
                db.execute(delete, &[&account, &service, &name.as_str()])?
            };
            Ok(removed == 1)
        };
        self.write("deregister a listener", 1, Urgency::Now, remove).await
    }

    async fn listeners(&self, account: &AccountName) -> Result<Vec<Listener>> {
        let account = account.clone();
        self.readers.read("read listeners", move |db| listeners(db, &account)).await
    }

    async fn service_plans(&self, account: &AccountName) -> Result<Vec<(Network, Box<str>)>> {
        let account = account.clone();
        let plans = move |db: &mut Db| {
            let select = "SELECT network, name FROM service_plan WHERE account = $1 ORDER BY network, name";
            let read = |row: &Row| Ok((read_network(row, "network")?, read_text(row, "name")?));
            db.query(select, &[&account.as_str()])?.iter().map(read).collect()
        };
        self.readers.read("read service plans", plans).await
    }

    async fn account_exists(&self, account: &AccountName) -> Result<bool> {
        let account = account.clone();
        let exists = move |db: &mut Db| {
            let select = "SELECT EXISTS (SELECT 1 FROM account WHERE name = $1) AS there";
            get(&db.query_one(select, &[&account.as_str()])?, "there")
        };
        self.readers.read("read an account", exists).await
    }

    async fn holds(&self) -> Result<Vec<Network>> {
        let holds = |db: &mut Db| {
            let rows = db.query("SELECT network FROM carrier_hold ORDER BY network", &[])?;
            rows.iter().map(|row| read_network(row, "network")).collect()
        };
        self.readers.read("read held carriers", holds).await
    }

    async fn set_hold(&self, network: Network, held_at: Option<Timestamp>) -> Result<()> {
        let set = move |db: &mut Db| {
            let changed = match held_at {
                Some(at) => db.execute(
                    "INSERT INTO carrier_hold (network, held_at) VALUES ($1, $2) ON CONFLICT (network) DO NOTHING",
                    &[&network.name(), &at.0],
                ),
                None => db.execute("DELETE FROM carrier_hold WHERE network = $1", &[&network.name()]),
            };
            changed.map(drop)
        };
        self.write("hold or release a carrier", 1, Urgency::Now, set).await
    }
}

fn apply(db: &mut Db, declaration: &Declaration, at: Timestamp) -> Sql<Applied> {
    let mut applied = Applied::default();
    for account in &declaration.accounts {
        let insert = "INSERT INTO account (name) VALUES ($1) ON CONFLICT (name) DO NOTHING";
        applied.accounts_new += db.execute(insert, &[&account.as_str()])?;
    }
    for (account, network, name) in &declaration.service_plans {
        let insert = "INSERT INTO service_plan (account, network, name) VALUES ($1, $2, $3)
                      ON CONFLICT (account, network, name) DO NOTHING";
        applied.service_plans_new += db.execute(insert, &[&account.as_str(), &network.name(), name])?;
    }
    for declared in &declaration.listeners {
        let listener = Listener { registered_at: at, ..declared.listener.clone() };
        applied.listeners_set += usize::from(set_listener(db, &declared.account, &listener)?);
    }
    for client in &declaration.clients {
        apply_client(db, client, &mut applied)?;
    }
    for user in &declaration.users {
        apply_user(db, user, &mut applied)?;
    }
    Ok(applied)
}

fn apply_client(db: &mut Db, client: &ClientDeclaration, applied: &mut Applied) -> Sql<()> {
    // Differs from SQLite: a number is drawn before the conflict is seen, so only a new client draws one.
    let insert = "INSERT INTO client (key, secret_digest)
                  SELECT $1, $2 WHERE NOT EXISTS (SELECT 1 FROM client WHERE key = $1)
                  ON CONFLICT (key) DO NOTHING";
    let (key, digest) = (&client.key, client.secret_digest.as_slice());
    if db.execute(insert, &[key, &digest])? == 1 {
        applied.clients_new.push(key.clone());
    } else if client.given {
        let rotate = "UPDATE client SET secret_digest = $1, token_revoked = TRUE
                      WHERE key = $2 AND secret_digest <> $1";
        if db.execute(rotate, &[&digest, key])? == 1 {
            applied.clients_rotated.push(key.clone());
        }
    }
    Ok(())
}

fn apply_user(db: &mut Db, user: &UserDeclaration, applied: &mut Applied) -> Sql<()> {
    let insert = "INSERT INTO \"user\" (name, password_hash) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
    if db.execute(insert, &[&user.name, &user.password_hash])? == 1 {
        applied.users_new.push(user.name.clone());
    }
    let appoint = "UPDATE \"user\" SET operator = coalesce($1, operator) WHERE name = $2";
    db.execute(appoint, &[&user.operator, &user.name])?;
    for account in &user.accounts {
        let insert = "INSERT INTO user_account (\"user\", account) VALUES ($1, $2)
                      ON CONFLICT (\"user\", account) DO NOTHING";
        db.execute(insert, &[&user.name, &account.as_str()])?;
    }
    Ok(())
}

/// Whether anything changed.
fn set_listener(db: &mut Db, account: &AccountName, listener: &Listener) -> Sql<bool> {
    let Listener { service, name, url, username, password, registered_at } = listener;
    let (account, password, at) = (account.as_str(), password.as_deref(), registered_at.0);
    let changed = if name.is_own() {
        db.execute(
            "INSERT INTO listener AS l (account, service, url, username, password, registered_at)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (account, service) DO UPDATE SET url = excluded.url, username = excluded.username,
                 password = excluded.password, registered_at = excluded.registered_at
             WHERE (l.url, l.username, l.password)
                 IS DISTINCT FROM (excluded.url, excluded.username, excluded.password)",
            &[&account, service, url, username, &password, &at],
        )?
    } else {
        db.execute(
            "INSERT INTO further_listener AS l (account, service, name, url, username, password, registered_at)
             VALUES ($1, $2, $7, $3, $4, $5, $6)
             ON CONFLICT (account, service, name) DO UPDATE SET url = excluded.url, username = excluded.username,
                 password = excluded.password, registered_at = excluded.registered_at
             WHERE (l.url, l.username, l.password)
                 IS DISTINCT FROM (excluded.url, excluded.username, excluded.password)",
            &[&account, service, url, username, &password, &at, &name.as_str()],
        )?
    };
    Ok(changed == 1)
}

fn client_where(db: &mut Db, column: &str, value: &(dyn ToSql + Sync)) -> Sql<Option<Client>> {
    let select = format!(
        "SELECT number, secret_digest, CASE WHEN NOT token_revoked THEN token_issued_at END AS issued_at
         FROM client WHERE {column} = $1"
    );
    let read = |row: &Row| {
        Ok(Client {
            number: read_u32(row, "number")?,
            secret_digest: read_digest(row, "secret_digest")?,
            token_issued_at: optional_at(row, "issued_at")?,
        })
    };
    db.query_opt(&select, &[value])?.as_ref().map(read).transpose()
}

fn read_digest(row: &Row, column: &'static str) -> Sql<[u8; 32]> {
    let bytes: &[u8] = get(row, column)?;
    bytes.try_into().map_err(|_| SqlError::Corrupt { column, text: format!("{} bytes", bytes.len()) })
}

/// Of nodes that issue at the same time one does; the others wait for its commit, and read what it issued.
fn issue_token(db: &mut Db, client: u32, at: Timestamp, not_before: Timestamp) -> Sql<Option<Timestamp>> {
    let issued = db.query_opt(
        "UPDATE client SET token_issued_at = greatest($1, coalesce(token_issued_at, 0) + 1), token_revoked = FALSE
         WHERE number = $2 AND (token_revoked OR token_issued_at IS NULL OR token_issued_at <= $3)
         RETURNING token_issued_at",
        &[&at.0, &int(client), &not_before.0],
    )?;
    let row = match issued {
        Some(row) => Some(row),
        None => db.query_opt("SELECT token_issued_at FROM client WHERE number = $1", &[&int(client)])?,
    };
    row.map(|row| read_at(&row, "token_issued_at")).transpose()
}

fn user(db: &mut Db, name: &str) -> Sql<Option<User>> {
    let select =
        "SELECT name, password_hash, operator, locked_at IS NOT NULL AS locked FROM \"user\" WHERE name = $1";
    let Some(row) = db.query_opt(select, &[&name])? else { return Ok(None) };
    let accounts = "SELECT account FROM user_account WHERE \"user\" = $1 ORDER BY account";
    let accounts = db.query(accounts, &[&name])?;
    Ok(Some(User {
        name: read_text(&row, "name")?,
        password_hash: get(&row, "password_hash")?,
        operator: get(&row, "operator")?,
        locked: get(&row, "locked")?,
        accounts: accounts.iter().map(|row| read_id(row, "account")).collect::<Sql<_>>()?,
    }))
}

fn login_failed(db: &mut Db, name: &str, at: Timestamp, failures_max: u32) -> Sql<LoginFailure> {
    let counted = db.query_opt(
        "UPDATE \"user\" SET failed_logins = failed_logins + 1,
             locked_at = CASE WHEN failed_logins + 1 >= $1 THEN coalesce(locked_at, $2) ELSE locked_at END
         WHERE name = $3 RETURNING locked_at IS NOT NULL AS locked",
        &[&int(failures_max), &at.0, &name],
    )?;
    Ok(match counted.map(|row| get(&row, "locked")).transpose()? {
        None => LoginFailure::NoUser,
        Some(true) => LoginFailure::Locked,
        Some(false) => LoginFailure::Counted,
    })
}

fn open_session(db: &mut Db, session: &Session) -> Sql<bool> {
    let unlocked = "UPDATE \"user\" SET failed_logins = 0 WHERE name = $1 AND locked_at IS NULL";
    if db.execute(unlocked, &[&session.user])? == 0 {
        return Ok(false);
    }
    db.execute(
        "INSERT INTO session (token_digest, \"user\", client, last_used_at) VALUES ($1, $2, $3, $4)",
        &[&session.token_digest.as_slice(), &session.user, &int(session.client), &session.last_used_at.0],
    )?;
    Ok(true)
}

fn session(db: &mut Db, token_digest: [u8; 32]) -> Sql<Option<Session>> {
    let select = "SELECT \"user\", client, last_used_at, ended_at FROM session WHERE token_digest = $1";
    let read = |row: &Row| {
        Ok(Session {
            token_digest,
            user: read_text(row, "user")?,
            client: read_u32(row, "client")?,
            last_used_at: read_at(row, "last_used_at")?,
            ended_at: optional_at(row, "ended_at")?,
        })
    };
    db.query_opt(select, &[&token_digest.as_slice()])?.as_ref().map(read).transpose()
}

/// Differs from SQLite: rows are locked in one order, so that no two nodes wait for each other.
fn touch(db: &mut Db, uses: &[([u8; 32], Timestamp)]) -> Sql<()> {
    let digests: Vec<&[u8]> = uses.iter().map(|(digest, _)| digest.as_slice()).collect();
    let instants: Vec<i64> = uses.iter().map(|(_, at)| at.0).collect();
    db.execute(
        "WITH locked AS (SELECT token_digest FROM session WHERE token_digest = ANY ($1)
                         ORDER BY token_digest FOR NO KEY UPDATE),
              used AS (SELECT token_digest, max(at) AS at
                       FROM unnest($1::BYTEA[], $2::BIGINT[]) AS used (token_digest, at) GROUP BY token_digest)
         UPDATE session AS s SET last_used_at = greatest(s.last_used_at, used.at)
         FROM locked JOIN used USING (token_digest) WHERE s.token_digest = locked.token_digest",
        &[&digests, &instants],
    )?;
    Ok(())
}

fn listeners(db: &mut Db, account: &AccountName) -> Sql<Vec<Listener>> {
    let rows = db.query(
        "SELECT service, '' AS name, url, username, password, registered_at FROM listener WHERE account = $1
         UNION ALL
         SELECT service, name, url, username, password, registered_at FROM further_listener WHERE account = $1
         ORDER BY service, name",
        &[&account.as_str()],
    )?;
    let read = |row: &Row| {
        Ok(Listener {
            service: read_text(row, "service")?,
            name: read_listener(row, "name")?,
            url: read_text(row, "url")?,
            username: optional_text(row, "username")?,
            password: get::<Option<Vec<u8>>>(row, "password")?.map(Into::into),
            registered_at: read_at(row, "registered_at")?,
        })
    };
    rows.iter().map(read).collect()
}
