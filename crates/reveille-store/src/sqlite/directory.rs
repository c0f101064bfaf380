//! Accounts, plans, clients, users, sessions, listeners, holds.

use super::Sqlite;
use super::codes::{optional_at, read_at, read_id, read_listener, read_network};
use crate::writer::Urgency;
use crate::{
    Applied, Client, ClientDeclaration, Declaration, Directory, Listener, LoginFailure, Result, Session,
    User, UserDeclaration,
};
use async_trait::async_trait;
use reveille_domain::{AccountName, ListenerName, Network, Timestamp};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

#[async_trait]
impl Directory for Sqlite {
    async fn apply(&self, declaration: Declaration, at: Timestamp) -> Result<Applied> {
        self.write("apply a declaration", 1, Urgency::Now, move |db| apply(db, &declaration, at)).await
    }

    async fn takes_key(&self, fingerprint: [u8; 32]) -> Result<bool> {
        let take = move |db: &Connection| {
            let insert = "INSERT OR IGNORE INTO server_key (only_row, fingerprint) VALUES (1, ?)";
            db.execute(insert, [fingerprint])?;
            let is_its_own = "SELECT fingerprint = ? FROM server_key";
            db.query_row(is_its_own, [fingerprint], |row| row.get(0))
        };
        self.write("see whose key it is", 1, Urgency::Now, take).await
    }

    async fn client(&self, key: &str) -> Result<Option<Client>> {
        let key = key.to_owned();
        self.readers.read("read a client", move |db| client_where(db, "key", &key)).await
    }

    async fn client_numbered(&self, number: u32) -> Result<Option<Client>> {
        self.readers.read("read a client", move |db| client_where(db, "number", &number)).await
    }

    async fn issue_token(
        &self,
        client: u32,
        at: Timestamp,
        not_before: Timestamp,
    ) -> Result<Option<Timestamp>> {
        let issue = move |db: &Connection| issue_token(db, client, at, not_before);
        self.write("issue a token", 1, Urgency::Now, issue).await
    }

    async fn revoke_token(&self, client: u32) -> Result<()> {
        let revoke = move |db: &Connection| {
            db.execute("UPDATE client SET token_revoked = 1 WHERE number = ?", [client]).map(drop)
        };
        self.write("revoke a token", 1, Urgency::Now, revoke).await
    }

    async fn user(&self, name: &str) -> Result<Option<User>> {
        let name = name.to_owned();
        self.readers.read("read a user", move |db| user(db, &name)).await
    }

    async fn users(&self) -> Result<Vec<(Box<str>, bool)>> {
        let all = |db: &Connection| {
            let mut select =
                db.prepare_cached("SELECT name, locked_at IS NOT NULL FROM user ORDER BY name")?;
            select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        self.readers.read("list users", all).await
    }

    async fn login_failed(&self, user: &str, at: Timestamp, failures_max: u32) -> Result<LoginFailure> {
        let name = user.to_owned();
        let count = move |db: &Connection| login_failed(db, &name, at, failures_max);
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
        let end = move |db: &Connection| {
            let end = "UPDATE session SET ended_at = ? WHERE token_digest = ? AND ended_at IS NULL";
            db.execute(end, params![at.0, token_digest]).map(drop)
        };
        self.write("end a session", 1, Urgency::Now, end).await
    }

    async fn set_password(&self, user: &str, password_hash: String) -> Result<bool> {
        let name = user.to_owned();
        let set = move |db: &Connection| {
            db.execute("UPDATE user SET password_hash = ? WHERE name = ?", params![password_hash, name])
                .map(|changed| changed == 1)
        };
        self.write("set a password", 1, Urgency::Now, set).await
    }

    async fn unlock(&self, user: &str) -> Result<bool> {
        let name = user.to_owned();
        let unlock = move |db: &Connection| {
            let changed =
                db.execute("UPDATE user SET failed_logins = 0, locked_at = NULL WHERE name = ?", [name])?;
            Ok(changed == 1)
        };
        self.write("unlock a user", 1, Urgency::Now, unlock).await
    }

    async fn register(&self, account: &AccountName, listener: Listener) -> Result<()> {
        let account = account.clone();
        let register = move |db: &Connection| set_listener(db, &account, &listener).map(drop);
        self.write("register a listener", 1, Urgency::Now, register).await
    }

    async fn deregister(&self, account: &AccountName, service: &str, name: ListenerName) -> Result<bool> {
        let (account, service) = (account.clone(), service.to_owned());
        let remove = move |db: &Connection| {
            let account = account.as_str();
            let removed = if name.is_own() {
                let delete = "DELETE FROM listener WHERE account = ? AND service = ?";
                db.execute(delete, params![account, service])?
            } else {
                let delete = "DELETE FROM further_listener WHERE account = ? AND service = ? AND name = ?";
                db.execute(delete, params![account, service, name.as_str()])?
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
        let plans = move |db: &Connection| {
            let select = "SELECT network, name FROM service_plan WHERE account = ? ORDER BY network, name";
            let mut select = db.prepare_cached(select)?;
            let read = |row: &Row<'_>| Ok((read_network(row, "network")?, row.get("name")?));
            select.query_map([account.as_str()], read)?.collect()
        };
        self.readers.read("read service plans", plans).await
    }

    async fn account_exists(&self, account: &AccountName) -> Result<bool> {
        let account = account.clone();
        let exists = move |db: &Connection| {
            let mut select = db.prepare_cached("SELECT EXISTS (SELECT 1 FROM account WHERE name = ?)")?;
            select.query_row([account.as_str()], |row| row.get(0))
        };
        self.readers.read("read an account", exists).await
    }

    async fn holds(&self) -> Result<Vec<Network>> {
        let holds = |db: &Connection| {
            let mut select = db.prepare_cached("SELECT network FROM carrier_hold ORDER BY network")?;
            select.query_map([], |row| read_network(row, "network"))?.collect()
        };
        self.readers.read("read held carriers", holds).await
    }

    async fn set_hold(&self, network: Network, held_at: Option<Timestamp>) -> Result<()> {
        let set = move |db: &Connection| {
            let changed = match held_at {
                Some(at) => db.execute(
                    "INSERT OR IGNORE INTO carrier_hold (network, held_at) VALUES (?, ?)",
                    params![network.name(), at.0],
                ),
                None => db.execute("DELETE FROM carrier_hold WHERE network = ?", [network.name()]),
            };
            changed.map(drop)
        };
        self.write("hold or release a carrier", 1, Urgency::Now, set).await
    }
}

fn apply(db: &Connection, declaration: &Declaration, at: Timestamp) -> rusqlite::Result<Applied> {
    let mut applied = Applied::default();
    for account in &declaration.accounts {
        let insert = "INSERT OR IGNORE INTO account (name) VALUES (?)";
        applied.accounts_new += db.prepare_cached(insert)?.execute([account.as_str()])?;
    }
    for (account, network, name) in &declaration.service_plans {
        let insert = "INSERT OR IGNORE INTO service_plan (account, network, name) VALUES (?, ?, ?)";
        let row = params![account.as_str(), network.name(), name];
        applied.service_plans_new += db.prepare_cached(insert)?.execute(row)?;
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

fn apply_client(db: &Connection, client: &ClientDeclaration, applied: &mut Applied) -> rusqlite::Result<()> {
    let insert = "INSERT OR IGNORE INTO client (key, secret_digest) VALUES (?, ?)";
    let key = &client.key;
    if db.prepare_cached(insert)?.execute(params![key, client.secret_digest])? == 1 {
        applied.clients_new.push(key.clone());
    } else if client.given {
        let rotate =
            "UPDATE client SET secret_digest = ?1, token_revoked = 1 WHERE key = ?2 AND secret_digest <> ?1";
        if db.prepare_cached(rotate)?.execute(params![client.secret_digest, key])? == 1 {
            applied.clients_rotated.push(key.clone());
        }
    }
    Ok(())
}

fn apply_user(db: &Connection, user: &UserDeclaration, applied: &mut Applied) -> rusqlite::Result<()> {
    let insert = "INSERT OR IGNORE INTO user (name, password_hash) VALUES (?, ?)";
    if db.prepare_cached(insert)?.execute(params![user.name, user.password_hash])? == 1 {
        applied.users_new.push(user.name.clone());
    }
    db.prepare_cached("UPDATE user SET operator = coalesce(?, operator) WHERE name = ?")?
        .execute(params![user.operator, user.name])?;
    for account in &user.accounts {
        let insert = "INSERT OR IGNORE INTO user_account (user, account) VALUES (?, ?)";
        db.prepare_cached(insert)?.execute(params![user.name, account.as_str()])?;
    }
    Ok(())
}

/// Whether anything changed.
fn set_listener(db: &Connection, account: &AccountName, listener: &Listener) -> rusqlite::Result<bool> {
    let Listener { service, name, url, username, password, registered_at } = listener;
    let at = registered_at.0;
    let changed = if name.is_own() {
        db.prepare_cached(
            "INSERT INTO listener (account, service, url, username, password, registered_at)
             VALUES (?, ?, ?, ?, ?, ?)
             ON CONFLICT (account, service) DO UPDATE SET url = excluded.url, username = excluded.username,
                 password = excluded.password, registered_at = excluded.registered_at
             WHERE (url, username, password) IS NOT (excluded.url, excluded.username, excluded.password)",
        )?
        .execute(params![account.as_str(), service, url, username, password, at])?
    } else {
        db.prepare_cached(
            "INSERT INTO further_listener (account, service, name, url, username, password, registered_at)
             VALUES (?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (account, service, name) DO UPDATE SET url = excluded.url, username = excluded.username,
                 password = excluded.password, registered_at = excluded.registered_at
             WHERE (url, username, password) IS NOT (excluded.url, excluded.username, excluded.password)",
        )?
        .execute(params![account.as_str(), service, name.as_str(), url, username, password, at])?
    };
    Ok(changed == 1)
}

fn client_where(
    db: &Connection,
    column: &str,
    value: &dyn rusqlite::ToSql,
) -> rusqlite::Result<Option<Client>> {
    let mut select = db.prepare_cached(&format!(
        "SELECT number, secret_digest, CASE WHEN token_revoked THEN NULL ELSE token_issued_at END AS issued_at
         FROM client WHERE {column} = ?"
    ))?;
    let read = |row: &Row<'_>| {
        Ok(Client {
            number: row.get("number")?,
            secret_digest: read_digest(row, "secret_digest")?,
            token_issued_at: optional_at(row, "issued_at")?,
        })
    };
    select.query_row([value], read).optional()
}

fn read_digest(row: &Row<'_>, column: &str) -> rusqlite::Result<[u8; 32]> {
    let bytes: Vec<u8> = row.get(column)?;
    bytes.try_into().map_err(|_| {
        rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, format!("{column} is no digest").into())
    })
}

fn issue_token(
    db: &Connection,
    client: u32,
    at: Timestamp,
    not_before: Timestamp,
) -> rusqlite::Result<Option<Timestamp>> {
    let mut update = db.prepare_cached(
        "UPDATE client SET token_issued_at = max(?1, coalesce(token_issued_at, 0) + 1), token_revoked = 0
         WHERE number = ?2 AND (token_revoked OR token_issued_at IS NULL OR token_issued_at <= ?3)",
    )?;
    update.execute(params![at.0, client, not_before.0])?;
    let mut select = db.prepare_cached("SELECT token_issued_at FROM client WHERE number = ?")?;
    select.query_row([client], |row| read_at(row, "token_issued_at")).optional()
}

fn user(db: &Connection, name: &str) -> rusqlite::Result<Option<User>> {
    let mut select = db.prepare_cached(
        "SELECT name, password_hash, operator, locked_at IS NOT NULL FROM user WHERE name = ?",
    )?;
    let read = |row: &Row<'_>| {
        Ok(User {
            name: row.get(0)?,
            password_hash: row.get(1)?,
            operator: row.get(2)?,
            locked: row.get(3)?,
            accounts: Vec::new(),
        })
    };
    let Some(mut user) = select.query_row([name], read).optional()? else { return Ok(None) };
    let mut accounts =
        db.prepare_cached("SELECT account FROM user_account WHERE user = ? ORDER BY account")?;
    user.accounts =
        accounts.query_map([name], |row| read_id(row, "account"))?.collect::<rusqlite::Result<_>>()?;
    Ok(Some(user))
}

fn login_failed(
    db: &Connection,
    name: &str,
    at: Timestamp,
    failures_max: u32,
) -> rusqlite::Result<LoginFailure> {
    let mut update = db.prepare_cached(
        "UPDATE user SET failed_logins = failed_logins + 1,
             locked_at = CASE WHEN failed_logins + 1 >= ?1 THEN coalesce(locked_at, ?2) ELSE locked_at END
         WHERE name = ?3 RETURNING locked_at IS NOT NULL",
    )?;
    let locked =
        update.query_row(params![failures_max, at.0, name], |row| row.get::<_, bool>(0)).optional()?;
    Ok(match locked {
        None => LoginFailure::NoUser,
        Some(true) => LoginFailure::Locked,
        Some(false) => LoginFailure::Counted,
    })
}

fn open_session(db: &Connection, session: &Session) -> rusqlite::Result<bool> {
    let unlocked = "UPDATE user SET failed_logins = 0 WHERE name = ? AND locked_at IS NULL";
    if db.prepare_cached(unlocked)?.execute([&session.user])? == 0 {
        return Ok(false);
    }
    db.prepare_cached("INSERT INTO session (token_digest, user, client, last_used_at) VALUES (?, ?, ?, ?)")?
        .execute(params![session.token_digest, session.user, session.client, session.last_used_at.0])?;
    Ok(true)
}

fn session(db: &Connection, token_digest: [u8; 32]) -> rusqlite::Result<Option<Session>> {
    let mut select =
        db.prepare_cached("SELECT user, client, last_used_at, ended_at FROM session WHERE token_digest = ?")?;
    let read = |row: &Row<'_>| {
        Ok(Session {
            token_digest,
            user: row.get("user")?,
            client: row.get("client")?,
            last_used_at: read_at(row, "last_used_at")?,
            ended_at: optional_at(row, "ended_at")?,
        })
    };
    select.query_row([token_digest], read).optional()
}

fn touch(db: &Connection, uses: &[([u8; 32], Timestamp)]) -> rusqlite::Result<()> {
    let mut update =
        db.prepare_cached("UPDATE session SET last_used_at = max(last_used_at, ?) WHERE token_digest = ?")?;
    for (token_digest, at) in uses {
        update.execute(params![at.0, token_digest])?;
    }
    Ok(())
}

fn listeners(db: &Connection, account: &AccountName) -> rusqlite::Result<Vec<Listener>> {
    let mut select = db.prepare_cached(
        "SELECT service, '' AS name, url, username, password, registered_at FROM listener WHERE account = ?1
         UNION ALL
         SELECT service, name, url, username, password, registered_at FROM further_listener WHERE account = ?1
         ORDER BY service, name",
    )?;
    let read = |row: &Row<'_>| {
        Ok(Listener {
            service: row.get("service")?,
            name: read_listener(row, "name")?,
            url: row.get("url")?,
            username: row.get("username")?,
            password: row.get::<_, Option<Vec<u8>>>("password")?.map(Into::into),
            registered_at: read_at(row, "registered_at")?,
        })
    };
    select.query_map([account.as_str()], read)?.collect()
}
