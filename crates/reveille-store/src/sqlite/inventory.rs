//! The fleet: found, imported and shown.

use super::codes::{self, PROFILE, optional_at, optional_id, read_at, read_id, read_network};
use super::requests::read_profile;
use super::{Sqlite, history};
use crate::writer::Urgency;
use crate::{
    DeviceKey, DeviceTarget, FleetProblem, FleetRow, HistorySpan, HistoryView, Identifier, Imported,
    Inventory, OwnedProfile, ProfileFilter, ProfileKey, ProfileTarget, Result, Suspension, TimelineEntry,
};
use async_trait::async_trait;
use reveille_domain::{AccountName, Eid, Iccid, Imei, Imsi, Msisdn, Network, Position, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

#[async_trait]
impl Inventory for Sqlite {
    async fn resolve(&self, account: &AccountName, iccids: Vec<Iccid>) -> Result<Vec<Option<ProfileTarget>>> {
        let account = account.clone();
        self.readers.read("find profiles", move |db| resolve(db, &account, &iccids)).await
    }

    async fn resolve_devices(
        &self,
        account: &AccountName,
        eids: Vec<Eid>,
    ) -> Result<Vec<Option<DeviceTarget>>> {
        let account = account.clone();
        let find = move |db: &Connection| eids.iter().map(|eid| resolve_device(db, &account, eid)).collect();
        self.readers.read("find devices", find).await
    }

    async fn matching(&self, filter: ProfileFilter) -> Result<Vec<ProfileKey>> {
        let whole = ProfileFilter { after: None, limit: usize::MAX >> 1, ..filter };
        self.readers.read("find profiles that match", move |db| select(db, &whole, read_key)).await
    }

    async fn suspended(
        &self,
        before: Timestamp,
        after: Option<Iccid>,
        limit: usize,
    ) -> Result<Vec<Suspension>> {
        let read = move |db: &Connection| suspended(db, before, after.as_ref(), limit);
        self.readers.read("find long suspensions", read).await
    }

    async fn suspended_since(&self, profiles: Vec<ProfileKey>) -> Result<Vec<Option<Timestamp>>> {
        let since = move |db: &Connection| {
            let mut select = db.prepare_cached("SELECT suspended_at FROM profile WHERE number = ?")?;
            let mut since = |key: &ProfileKey| {
                let found = select.query_row([key.0], |row| optional_at(row, "suspended_at")).optional()?;
                Ok(found.flatten())
            };
            profiles.iter().map(&mut since).collect()
        };
        self.readers.read("see since when profiles are suspended", since).await
    }

    async fn check_fleet(&self, rows: Vec<FleetRow>) -> Result<Vec<FleetProblem>> {
        let check = move |db: &Connection| {
            let problems = rows.iter().map(|row| problem(db, row)).collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(problems.into_iter().flatten().collect())
        };
        self.readers.read("check a fleet file", check).await
    }

    async fn import(&self, rows: Vec<FleetRow>) -> Result<Imported> {
        self.write("import a fleet", rows.len(), Urgency::InCompany, move |db| import(db, &rows)).await
    }

    async fn fleet(&self, filter: ProfileFilter) -> Result<Vec<OwnedProfile>> {
        self.readers.read("list profiles", move |db| select(db, &filter, read_owned)).await
    }

    async fn profile(&self, iccid: &Iccid) -> Result<Option<OwnedProfile>> {
        let iccid = iccid.clone();
        self.readers.read("read a profile", move |db| profile(db, &iccid)).await
    }

    async fn history(&self, iccid: &Iccid, limit: usize) -> Result<Vec<HistoryView>> {
        let iccid = iccid.clone();
        self.readers.read("read a profile's history", move |db| history::history(db, &iccid, limit)).await
    }

    async fn history_span(&self, profile: ProfileKey, span: HistorySpan) -> Result<Vec<HistoryView>> {
        let read = move |db: &Connection| history::history_span(db, profile, span);
        self.readers.read("read a part of a profile's history", read).await
    }

    async fn timeline(&self, iccid: &Iccid, after: Position, limit: usize) -> Result<Vec<TimelineEntry>> {
        let iccid = iccid.clone();
        let read = move |db: &Connection| history::timeline(db, &iccid, after, limit);
        self.readers.read("read a profile's timeline", read).await
    }
}

fn resolve(
    db: &Connection,
    account: &AccountName,
    iccids: &[Iccid],
) -> rusqlite::Result<Vec<Option<ProfileTarget>>> {
    let mut select =
        db.prepare_cached("SELECT number, device, network FROM profile WHERE iccid = ? AND account = ?")?;
    let mut find =
        |iccid: &Iccid| select.query_row([iccid.as_str(), account.as_str()], read_target).optional();
    iccids.iter().map(&mut find).collect()
}

fn read_target(row: &Row<'_>) -> rusqlite::Result<ProfileTarget> {
    Ok(ProfileTarget {
        profile: ProfileKey(row.get(0)?),
        device: DeviceKey(row.get(1)?),
        network: read_network(row, 2)?,
    })
}

fn resolve_device(
    db: &Connection,
    account: &AccountName,
    eid: &Eid,
) -> rusqlite::Result<Option<DeviceTarget>> {
    let mut device = db.prepare_cached("SELECT number, imei FROM device WHERE eid = ? AND account = ?")?;
    let found = device.query_row([eid.as_str(), account.as_str()], |row| {
        Ok((DeviceKey(row.get(0)?), optional_id::<Imei>(row, 1)?))
    });
    let Some((device, imei)) = found.optional()? else { return Ok(None) };
    let mut on_it = db.prepare_cached(
        "SELECT number, device, network, iccid FROM profile WHERE device = ? ORDER BY number",
    )?;
    let named = |row: &Row<'_>| Ok((read_id(row, "iccid")?, read_target(row)?));
    let profiles = on_it.query_map([device.0], named)?.collect::<rusqlite::Result<_>>()?;
    Ok(Some(DeviceTarget { device, imei, profiles }))
}

fn suspended(
    db: &Connection,
    before: Timestamp,
    after: Option<&Iccid>,
    limit: usize,
) -> rusqlite::Result<Vec<Suspension>> {
    let mut select = db.prepare_cached(
        "SELECT account, iccid, suspended_at, noticed_at FROM profile
         WHERE iccid > ? AND suspended_at < ? ORDER BY iccid LIMIT ?",
    )?;
    let read = |row: &Row<'_>| {
        Ok(Suspension {
            account: read_id(row, "account")?,
            iccid: read_id(row, "iccid")?,
            since: read_at(row, "suspended_at")?,
            noticed: row.get::<_, Option<i64>>("noticed_at")?.is_some(),
        })
    };
    select.query_map(params![after.map_or("", Iccid::as_str), before.0, limit], read)?.collect()
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
        _ if has_anothers_imsi(db, row)? => said(crate::codes::ANOTHERS_IMSI.into()),
        _ => Ok(None),
    }
}

fn has_anothers_imsi(db: &Connection, row: &FleetRow) -> rusqlite::Result<bool> {
    let Some(imsi) = &row.imsi else { return Ok(false) };
    let exists = "SELECT EXISTS (SELECT 1 FROM profile WHERE network = ? AND imsi = ? AND iccid <> ?)";
    db.prepare_cached(exists)?
        .query_row(params![row.network.name(), imsi.as_str(), row.iccid.as_str()], |row| row.get(0))
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

/// Reads the profiles that a filter lets through, each as `read` does.
fn select<T>(
    db: &Connection,
    filter: &ProfileFilter,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    let states = list(filter.states.iter().map(|state| codes::state(*state)));
    let statuses = list(filter.statuses.iter().map(|status| codes::status(*status)));
    let named = if filter.identifiers.is_empty() { None } else { Some(identified(db, filter)?) };
    // A statement of its own for each way, so that each follows an index.
    let way = match (&named, &filter.account) {
        (Some(_), _) => {
            "p.number IN (SELECT value FROM json_each(:named)) AND (:account IS NULL OR p.account = :account)"
        }
        (None, Some(_)) => ":named IS NULL AND p.account = :account",
        (None, None) => ":named IS NULL AND :account IS NULL",
    };
    let mut select = db.prepare_cached(&format!(
        "SELECT {PROFILE}, p.account, p.number FROM profile AS p JOIN device AS d ON d.number = p.device
         WHERE {way} AND p.iccid > :after AND (:network IS NULL OR p.network = :network)
           AND (:states IS NULL OR instr(:states, ',' || p.state || ',') > 0)
           AND (:statuses IS NULL OR instr(:statuses, ',' || p.status || ',') > 0)
           AND (:role IS NULL OR p.role = :role) AND (:plan IS NULL OR p.service_plan = :plan)
           AND (:in_doubt IS NULL OR (p.in_doubt <> 0) = :in_doubt)
         ORDER BY p.iccid LIMIT :limit"
    ))?;
    let bounds = named_params! {
        ":account": filter.account.as_ref().map(AccountName::as_str), ":named": named,
        ":after": filter.after.as_ref().map_or("", |iccid| iccid.as_str()),
        ":network": filter.network.map(Network::name), ":states": states, ":statuses": statuses,
        ":role": filter.role.map(codes::role), ":plan": filter.service_plan, ":in_doubt": filter.in_doubt,
        ":limit": filter.limit,
    };
    select.query_map(bounds, read)?.collect()
}

/// Words between commas; nothing where there are none.
fn list<'a>(words: impl Iterator<Item = &'a str>) -> Option<String> {
    let words: Vec<&str> = words.collect();
    (!words.is_empty()).then(|| format!(",{},", words.join(",")))
}

/// The keys of the profiles that have one of the filter's identifiers, as a JSON list.
fn identified(db: &Connection, filter: &ProfileFilter) -> rusqlite::Result<String> {
    let account = filter.account.as_ref().map(AccountName::as_str);
    let mut keys: Vec<i64> = Vec::new();
    for identifier in &filter.identifiers {
        let (sql, id) = match identifier {
            Identifier::Iccid(iccid) => {
                ("SELECT number FROM profile WHERE ?1 IS ?1 AND iccid = ?2", iccid.as_str())
            }
            Identifier::Eid(eid) => (
                "SELECT p.number FROM device AS d JOIN profile AS p ON p.device = d.number
                 WHERE ?1 IS ?1 AND d.eid = ?2",
                eid.as_str(),
            ),
            Identifier::Imei(imei) => (
                "SELECT p.number FROM device AS d JOIN profile AS p ON p.device = d.number
                 WHERE d.account = ?1 AND d.imei = ?2",
                imei.as_str(),
            ),
            Identifier::Msisdn(msisdn) => {
                ("SELECT number FROM profile WHERE account = ?1 AND msisdn = ?2", msisdn.as_str())
            }
        };
        let mut select = db.prepare_cached(sql)?;
        let found = select.query_map(params![account, id], |row| row.get::<_, i64>(0))?;
        keys.extend(found.collect::<rusqlite::Result<Vec<_>>>()?);
    }
    let keys: Vec<String> = keys.iter().map(i64::to_string).collect();
    Ok(format!("[{}]", keys.join(",")))
}

fn read_key(row: &Row<'_>) -> rusqlite::Result<ProfileKey> {
    row.get("number").map(ProfileKey)
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
