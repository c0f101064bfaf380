//! The fleet: found, imported and shown.

use super::Sqlite;
use super::codes::{self, optional_id, read_at, read_id, read_network, read_state};
use super::requests::{PROFILE, read_profile};
use super::writer::Urgency;
use crate::{
    DeviceKey, FleetProblem, FleetRow, HistoryView, Imported, Inventory, OwnedProfile, ProfileFilter,
    ProfileKey, Result, Target,
};
use async_trait::async_trait;
use reveille_domain::{AccountName, Action, Iccid, Imei, Imsi, Msisdn, Network};
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

#[async_trait]
impl Inventory for Sqlite {
    async fn resolve(&self, account: &AccountName, iccids: Vec<Iccid>) -> Result<Vec<Option<Target>>> {
        let account = account.clone();
        self.readers.read("find profiles", move |db| resolve(db, &account, &iccids)).await
    }

    async fn check_fleet(&self, rows: Vec<FleetRow>) -> Result<Vec<FleetProblem>> {
        let check = move |db: &Connection| {
            let problems = rows.iter().map(|row| problem(db, row)).collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(problems.into_iter().flatten().collect())
        };
        self.readers.read("check a fleet file", check).await
    }

    async fn import(&self, rows: Vec<FleetRow>) -> Result<Imported> {
        self.writer.write("import a fleet", rows.len(), Urgency::InCompany, move |db| import(db, &rows)).await
    }

    async fn fleet(&self, filter: ProfileFilter) -> Result<Vec<OwnedProfile>> {
        self.readers.read("list profiles", move |db| fleet(db, &filter)).await
    }

    async fn profile(&self, iccid: &Iccid) -> Result<Option<OwnedProfile>> {
        let iccid = iccid.clone();
        self.readers.read("read a profile", move |db| profile(db, &iccid)).await
    }

    async fn history(&self, iccid: &Iccid, limit: usize) -> Result<Vec<HistoryView>> {
        let iccid = iccid.clone();
        self.readers.read("read a profile's history", move |db| history(db, &iccid, limit)).await
    }
}

fn resolve(
    db: &Connection,
    account: &AccountName,
    iccids: &[Iccid],
) -> rusqlite::Result<Vec<Option<Target>>> {
    let mut select =
        db.prepare_cached("SELECT number, device, network FROM profile WHERE iccid = ? AND account = ?")?;
    let mut find =
        |iccid: &Iccid| select.query_row([iccid.as_str(), account.as_str()], read_target).optional();
    iccids.iter().map(&mut find).collect()
}

fn read_target(row: &Row<'_>) -> rusqlite::Result<Target> {
    Ok(Target {
        profile: ProfileKey(row.get(0)?),
        device: DeviceKey(row.get(1)?),
        network: read_network(row, 2)?,
    })
}

/// What keeps a row from being imported, if anything does.
fn problem(db: &Connection, row: &FleetRow) -> rusqlite::Result<Option<FleetProblem>> {
    let said = |problem: String| Ok(Some(FleetProblem { line: row.line, problem }));
    let text = |sql: &str, key: &str| -> rusqlite::Result<Option<String>> {
        db.prepare_cached(sql)?.query_row([key], |row| row.get(0)).optional()
    };
    let account = row.account.as_str();
    if text("SELECT name FROM account WHERE name = ?", account)?.is_none() {
        return said(format!("account {account} does not exist; declare it with `reveille apply` first"));
    }
    let owner = text("SELECT account FROM device WHERE eid = ?", row.eid.as_str())?;
    if owner.is_some_and(|owner| owner != account) {
        return said("this EID belongs to another account".into());
    }
    let on = text(
        "SELECT d.eid FROM profile AS p JOIN device AS d ON d.number = p.device WHERE p.iccid = ?",
        row.iccid.as_str(),
    )?;
    if on.is_some_and(|eid| eid != row.eid.as_str()) {
        return said("this ICCID is already on another EID".into());
    }
    let network = text("SELECT network FROM profile WHERE iccid = ?", row.iccid.as_str())?;
    match network {
        Some(network) if network != row.network.name() => {
            said(format!("this ICCID is already known, on network {network}"))
        }
        _ => Ok(None),
    }
}

fn import(db: &Connection, rows: &[FleetRow]) -> rusqlite::Result<Imported> {
    let mut imported = Imported::default();
    for row in rows {
        let devices = db
            .prepare_cached("INSERT OR IGNORE INTO device (account, eid, imei) VALUES (?, ?, ?)")?
            .execute(params![row.account.as_str(), row.eid.as_str(), row.imei.as_ref().map(Imei::as_str)])?;
        imported.devices_new += devices;
        if devices == 0 && row.imei.is_some() {
            db.prepare_cached(
                "UPDATE device SET imei = ?1 WHERE eid = ?2 AND account = ?3 AND imei IS NOT ?1",
            )?
            .execute(params![
                row.imei.as_ref().map(Imei::as_str),
                row.eid.as_str(),
                row.account.as_str()
            ])?;
        }
        match import_profile(db, row)? {
            0 => imported.profiles_known += 1,
            _ => imported.profiles_new += 1,
        }
    }
    Ok(imported)
}

/// How many profiles are new: one or none.
fn import_profile(db: &Connection, row: &FleetRow) -> rusqlite::Result<usize> {
    let mut insert = db.prepare_cached(
        "INSERT OR IGNORE INTO profile
             (account, iccid, device, msisdn, imsi, network, role, state, status, service_plan)
         SELECT account, :iccid, number, :msisdn, :imsi, :network, :role, :state, :status, :plan
         FROM device WHERE eid = :eid AND account = :account",
    )?;
    let new = insert.execute(named_params! {
        ":iccid": row.iccid.as_str(), ":msisdn": row.msisdn.as_ref().map(Msisdn::as_str),
        ":imsi": row.imsi.as_ref().map(Imsi::as_str), ":network": row.network.name(),
        ":role": codes::role(row.role), ":state": codes::state(row.state), ":status": codes::status(row.status),
        ":plan": row.service_plan, ":eid": row.eid.as_str(), ":account": row.account.as_str(),
    })?;
    if new == 0 {
        let mut complete = db.prepare_cached(
            "UPDATE profile SET msisdn = coalesce(:msisdn, msisdn), imsi = coalesce(:imsi, imsi),
                 service_plan = coalesce(:plan, service_plan)
             WHERE iccid = :iccid AND account = :account",
        )?;
        complete.execute(named_params! {
            ":msisdn": row.msisdn.as_ref().map(Msisdn::as_str),
            ":imsi": row.imsi.as_ref().map(Imsi::as_str), ":plan": row.service_plan,
            ":iccid": row.iccid.as_str(), ":account": row.account.as_str(),
        })?;
    }
    Ok(new)
}

fn fleet(db: &Connection, filter: &ProfileFilter) -> rusqlite::Result<Vec<OwnedProfile>> {
    let states: Vec<&str> = filter.states.iter().map(|state| codes::state(*state)).collect();
    let states = (!states.is_empty()).then(|| format!(",{},", states.join(",")));
    // Two statements, so that each follows an index.
    let of_account = if filter.account.is_some() { "p.account = :account" } else { ":account IS NULL" };
    let mut select = db.prepare_cached(&format!(
        "SELECT {PROFILE}, p.account FROM profile AS p JOIN device AS d ON d.number = p.device
         WHERE {of_account} AND p.iccid > :after AND (:network IS NULL OR p.network = :network)
           AND (:states IS NULL OR instr(:states, ',' || p.state || ',') > 0)
         ORDER BY p.iccid LIMIT :limit"
    ))?;
    let bounds = named_params! {
        ":account": filter.account.as_ref().map(AccountName::as_str),
        ":after": filter.after.as_ref().map_or("", |iccid| iccid.as_str()),
        ":network": filter.network.map(Network::name), ":states": states, ":limit": filter.limit,
    };
    select.query_map(bounds, read_owned)?.collect()
}

fn read_owned(row: &Row<'_>) -> rusqlite::Result<OwnedProfile> {
    Ok(OwnedProfile { account: read_id(row, "account")?, profile: read_profile(row)? })
}

fn profile(db: &Connection, iccid: &Iccid) -> rusqlite::Result<Option<OwnedProfile>> {
    let mut select = db.prepare_cached(&format!(
        "SELECT {PROFILE}, p.account FROM profile AS p JOIN device AS d ON d.number = p.device WHERE p.iccid = ?"
    ))?;
    select.query_row([iccid.as_str()], read_owned).optional()
}

fn history(db: &Connection, iccid: &Iccid, limit: usize) -> rusqlite::Result<Vec<HistoryView>> {
    let mut select = db.prepare_cached(
        "SELECT h.number, h.at, h.from_state, h.to_state, h.in_doubt, r.request_id, r.action
         FROM profile AS p JOIN history AS h ON h.profile = p.number LEFT JOIN request AS r USING (sequence)
         WHERE p.iccid = ? ORDER BY h.sequence DESC, h.number DESC LIMIT ?",
    )?;
    let read = |row: &Row<'_>| {
        let action = row.get::<_, Option<String>>("action")?.and_then(|name| Action::named(&name));
        Ok(HistoryView {
            at: read_at(row, "at")?,
            request: optional_id(row, "request_id")?.zip(action),
            number: row.get("number")?,
            from: read_state(row, "from_state")?,
            to: read_state(row, "to_state")?,
            in_doubt: row.get("in_doubt")?,
        })
    };
    let latest_first = select.query_map(params![iccid.as_str(), limit], read)?;
    let mut history = latest_first.collect::<rusqlite::Result<Vec<_>>>()?;
    history.reverse();
    Ok(history)
}
