//! The fleet: found, imported and shown.

use super::codes::{
    self, PROFILE, get, optional_id, optional_text, read_at, read_id, read_network, read_profile,
};
use super::connection::{Db, Sql};
use super::{Postgres, history};
use crate::writer::Urgency;
use crate::{
    DeviceKey, DeviceTarget, FleetProblem, FleetRow, HistorySpan, HistoryView, Identifier, Imported,
    Inventory, OwnedProfile, ProfileFilter, ProfileKey, ProfileTarget, Result, Suspension, TimelineEntry,
};
use async_trait::async_trait;
use reveille_domain::{AccountName, Eid, Iccid, Imei, Imsi, Msisdn, Network, Position, Timestamp};
use std::collections::HashMap;
use tokio_postgres::Row;

#[async_trait]
impl Inventory for Postgres {
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
        self.readers.read("find devices", move |db| resolve_devices(db, &account, &eids)).await
    }

    async fn matching(&self, filter: ProfileFilter) -> Result<Vec<ProfileKey>> {
        let whole = ProfileFilter { after: None, limit: usize::MAX, ..filter };
        self.readers.read("find profiles that match", move |db| select(db, &whole, KEY, read_key)).await
    }

    async fn suspended(
        &self,
        before: Timestamp,
        after: Option<Iccid>,
        limit: usize,
    ) -> Result<Vec<Suspension>> {
        let read = move |db: &mut Db| suspended(db, before, after.as_ref(), limit);
        self.readers.read("find long suspensions", read).await
    }

    async fn suspended_since(&self, profiles: Vec<ProfileKey>) -> Result<Vec<Option<Timestamp>>> {
        let read = move |db: &mut Db| suspended_since(db, &profiles);
        self.readers.read("see since when profiles are suspended", read).await
    }

    async fn check_fleet(&self, rows: Vec<FleetRow>) -> Result<Vec<FleetProblem>> {
        self.readers.read("check a fleet file", move |db| check_fleet(db, &rows)).await
    }

    async fn import(&self, rows: Vec<FleetRow>) -> Result<Imported> {
        self.write("import a fleet", rows.len(), Urgency::InCompany, move |db| import(db, &rows)).await
    }

    async fn fleet(&self, filter: ProfileFilter) -> Result<Vec<OwnedProfile>> {
        self.readers.read("list profiles", move |db| select(db, &filter, &owned(), read_owned)).await
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
        let read = move |db: &mut Db| history::history_span(db, profile, span);
        self.readers.read("read a part of a profile's history", read).await
    }

    async fn timeline(&self, iccid: &Iccid, after: Position, limit: usize) -> Result<Vec<TimelineEntry>> {
        let iccid = iccid.clone();
        let read = move |db: &mut Db| history::timeline(db, &iccid, after, limit);
        self.readers.read("read a profile's timeline", read).await
    }
}

fn resolve(db: &mut Db, account: &AccountName, iccids: &[Iccid]) -> Sql<Vec<Option<ProfileTarget>>> {
    let iccids: Vec<&str> = iccids.iter().map(Iccid::as_str).collect();
    let rows = db.query(
        "SELECT p.number, p.device, p.network
         FROM unnest($1::TEXT[]) WITH ORDINALITY AS asked (iccid, place)
             LEFT JOIN profile AS p ON p.iccid = asked.iccid AND p.account = $2
         ORDER BY asked.place",
        &[&iccids, &account.as_str()],
    )?;
    rows.iter().map(read_target).collect()
}

/// The profile of a row that may have none.
fn read_target(row: &Row) -> Sql<Option<ProfileTarget>> {
    let Some(number) = get(row, "number")? else { return Ok(None) };
    Ok(Some(ProfileTarget {
        profile: ProfileKey(number),
        device: DeviceKey(get(row, "device")?),
        network: read_network(row, "network")?,
    }))
}

fn resolve_devices(db: &mut Db, account: &AccountName, eids: &[Eid]) -> Sql<Vec<Option<DeviceTarget>>> {
    let texts: Vec<&str> = eids.iter().map(Eid::as_str).collect();
    let rows = db.query(
        "SELECT asked.place, d.number AS device, d.imei, p.number, p.network, p.iccid
         FROM unnest($1::TEXT[]) WITH ORDINALITY AS asked (eid, place)
             LEFT JOIN device AS d ON d.eid = asked.eid AND d.account = $2
             LEFT JOIN profile AS p ON p.device = d.number
         ORDER BY asked.place, p.number",
        &[&texts, &account.as_str()],
    )?;
    let mut found: Vec<Option<DeviceTarget>> = Vec::with_capacity(eids.len());
    let mut last = None;
    for row in &rows {
        let place: i64 = get(row, "place")?;
        if last.replace(place) != Some(place) {
            found.push(read_device(row)?);
        }
        if let (Some(Some(device)), Some(target)) = (found.last_mut(), read_target(row)?) {
            device.profiles.push((read_id(row, "iccid")?, target));
        }
    }
    Ok(found)
}

/// The device of a row that may have none, as yet without profiles.
fn read_device(row: &Row) -> Sql<Option<DeviceTarget>> {
    let Some(number) = get(row, "device")? else { return Ok(None) };
    let imei = optional_id(row, "imei")?;
    Ok(Some(DeviceTarget { device: DeviceKey(number), imei, profiles: Vec::new() }))
}

fn suspended_since(db: &mut Db, profiles: &[ProfileKey]) -> Sql<Vec<Option<Timestamp>>> {
    let keys: Vec<i64> = profiles.iter().map(|key| key.0).collect();
    let rows = db.query(
        "SELECT p.suspended_at FROM unnest($1::BIGINT[]) WITH ORDINALITY AS k (profile, place)
         LEFT JOIN profile AS p ON p.number = k.profile ORDER BY k.place",
        &[&keys],
    )?;
    rows.iter().map(|row| codes::optional_at(row, "suspended_at")).collect()
}

fn suspended(db: &mut Db, before: Timestamp, after: Option<&Iccid>, limit: usize) -> Sql<Vec<Suspension>> {
    let rows = db.query(
        "SELECT account, iccid, suspended_at, noticed_at IS NOT NULL AS noticed FROM profile
         WHERE iccid > $1 AND suspended_at < $2 ORDER BY iccid LIMIT $3",
        &[&after.map_or("", Iccid::as_str), &before.0, &codes::limit(limit)],
    )?;
    let read = |row: &Row| {
        Ok(Suspension {
            account: read_id(row, "account")?,
            iccid: read_id(row, "iccid")?,
            since: read_at(row, "suspended_at")?,
            noticed: get(row, "noticed")?,
        })
    };
    rows.iter().map(read).collect()
}

fn check_fleet(db: &mut Db, rows: &[FleetRow]) -> Sql<Vec<FleetProblem>> {
    let known = db.query(
        "SELECT a.name IS NOT NULL AS has_account, e.account AS owner, d.eid AS is_on, p.network,
                EXISTS (SELECT 1 FROM profile AS o WHERE o.network = given.network AND o.imsi = given.imsi
                        AND o.iccid <> given.iccid) AS has_anothers_imsi
         FROM unnest($1::TEXT[], $2::TEXT[], $3::TEXT[], $4::TEXT[], $5::TEXT[]) WITH ORDINALITY
                  AS given (account, eid, iccid, network, imsi, place)
             LEFT JOIN account AS a ON a.name = given.account
             LEFT JOIN device AS e ON e.eid = given.eid
             LEFT JOIN profile AS p ON p.iccid = given.iccid
             LEFT JOIN device AS d ON d.number = p.device
         ORDER BY given.place",
        &[
            &column(rows, |row| row.account.as_str()),
            &column(rows, |row| row.eid.as_str()),
            &column(rows, |row| row.iccid.as_str()),
            &column(rows, |row| row.network.name()),
            &column(rows, |row| row.imsi.as_ref().map(Imsi::as_str)),
        ],
    )?;
    let mut problems = Vec::new();
    for (row, known) in rows.iter().zip(&known) {
        problems.extend(problem(row, known)?.map(|problem| FleetProblem { line: row.line, problem }));
    }
    Ok(problems)
}

/// What keeps a row from being imported, if anything does.
fn problem(row: &FleetRow, known: &Row) -> Sql<Option<String>> {
    let account = row.account.as_str();
    if !get::<bool>(known, "has_account")? {
        let problem = format!("account {account} does not exist; declare it with `reveille apply` first");
        return Ok(Some(problem));
    }
    let another = |text: Option<&str>, own: &str| text.is_some_and(|text| text != own);
    if another(get(known, "owner")?, account) {
        return Ok(Some("this EID belongs to another account".into()));
    }
    if another(get(known, "is_on")?, row.eid.as_str()) {
        return Ok(Some("this ICCID is already on another EID".into()));
    }
    let network = optional_text(known, "network")?.filter(|network| **network != *row.network.name());
    if let Some(network) = network {
        return Ok(Some(format!("this ICCID is already known, on network {network}")));
    }
    let has_anothers_imsi: bool = get(known, "has_anothers_imsi")?;
    Ok(has_anothers_imsi.then(|| crate::codes::ANOTHERS_IMSI.into()))
}

/// One column of a fleet file, as a statement takes it.
fn column<'a, T>(rows: impl IntoIterator<Item = &'a FleetRow>, read: impl Fn(&'a FleetRow) -> T) -> Vec<T> {
    rows.into_iter().map(read).collect()
}

/// Differs from SQLite: the rows are written in statements, not one by one. All that a row does to its device
/// is the same whether profiles were imported before or not, so the devices come first.
fn import(db: &mut Db, rows: &[FleetRow]) -> Sql<Imported> {
    let mut imported = Imported { devices_new: import_devices(db, rows)?, ..Imported::default() };
    for turn in in_turns(rows) {
        let new = import_profiles(db, &turn)?;
        imported.profiles_new += new;
        imported.profiles_known += turn.len() - new;
    }
    Ok(imported)
}

/// How many devices are new. The first row of an EID says whose it is, the last one of its owner's its IMEI.
fn import_devices(db: &mut Db, rows: &[FleetRow]) -> Sql<usize> {
    let accounts = column(rows, |row| row.account.as_str());
    let eids = column(rows, |row| row.eid.as_str());
    let imeis = column(rows, |row| row.imei.as_ref().map(Imei::as_str));
    let new = db.execute(
        "INSERT INTO device (account, eid, imei)
         SELECT DISTINCT ON (given.eid) given.account, given.eid, given.imei
         FROM unnest($1::TEXT[], $2::TEXT[], $3::TEXT[]) WITH ORDINALITY AS given (account, eid, imei, place)
         ORDER BY given.eid, given.place
         ON CONFLICT (eid) DO NOTHING",
        &[&accounts, &eids, &imeis],
    )?;
    db.execute(
        "UPDATE device AS d SET imei = last.imei
         FROM (SELECT DISTINCT ON (given.account, given.eid) given.account, given.eid, given.imei
               FROM unnest($1::TEXT[], $2::TEXT[], $3::TEXT[]) WITH ORDINALITY AS given (account, eid, imei, place)
               WHERE given.imei IS NOT NULL
               ORDER BY given.account, given.eid, given.place DESC) AS last
         WHERE d.eid = last.eid AND d.account = last.account AND d.imei IS DISTINCT FROM last.imei",
        &[&accounts, &eids, &imeis],
    )?;
    Ok(new)
}

/// The rows in their order, in turns in which no ICCID comes twice: where none does in the file, one turn.
fn in_turns(rows: &[FleetRow]) -> Vec<Vec<&FleetRow>> {
    let mut came: HashMap<&Iccid, usize> = HashMap::with_capacity(rows.len());
    let mut turns: Vec<Vec<&FleetRow>> = Vec::new();
    for row in rows {
        let turn = came.entry(&row.iccid).or_default();
        if *turn == turns.len() {
            turns.push(Vec::new());
        }
        turns[*turn].push(row);
        *turn += 1;
    }
    turns
}

/// How many profiles are new, of rows with as many ICCIDs; what is known of the others is completed.
fn import_profiles(db: &mut Db, turn: &[&FleetRow]) -> Sql<usize> {
    let rows = || turn.iter().copied();
    let accounts = column(rows(), |row| row.account.as_str());
    let iccids = column(rows(), |row| row.iccid.as_str());
    let msisdns = column(rows(), |row| row.msisdn.as_ref().map(Msisdn::as_str));
    let imsis = column(rows(), |row| row.imsi.as_ref().map(Imsi::as_str));
    let plans = column(rows(), |row| row.service_plan.as_deref());
    let new = db.execute(
        "INSERT INTO profile (account, iccid, device, msisdn, imsi, network, role, state, status, service_plan)
         SELECT d.account, given.iccid, d.number, given.msisdn, given.imsi, given.network, given.role, given.state,
                given.status, given.service_plan
         FROM unnest($1::TEXT[], $2::TEXT[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::TEXT[], $8::TEXT[],
                     $9::TEXT[], $10::TEXT[]) WITH ORDINALITY
                  AS given (account, eid, iccid, msisdn, imsi, network, role, state, status, service_plan, place)
             JOIN device AS d ON d.eid = given.eid AND d.account = given.account
         ORDER BY given.place
         ON CONFLICT (iccid) DO NOTHING",
        &[
            &accounts,
            &column(rows(), |row| row.eid.as_str()),
            &iccids,
            &msisdns,
            &imsis,
            &column(rows(), |row| row.network.name()),
            &column(rows(), |row| codes::role(row.role)),
            &column(rows(), |row| codes::state(row.state)),
            &column(rows(), |row| codes::status(row.status)),
            &plans,
        ],
    )?;
    if new < turn.len() {
        complete(db, &[&accounts, &iccids], &[&msisdns, &imsis, &plans])?;
    }
    Ok(new)
}

/// Completes profiles of those accounts and ICCIDs; those that say the same already stay as they are.
fn complete(db: &mut Db, [accounts, iccids]: &[&Vec<&str>; 2], known: &[&Vec<Option<&str>>; 3]) -> Sql<()> {
    let [msisdns, imsis, plans] = known;
    db.execute(
        "UPDATE profile AS p SET msisdn = coalesce(given.msisdn, p.msisdn), imsi = coalesce(given.imsi, p.imsi),
             service_plan = coalesce(given.service_plan, p.service_plan)
         FROM unnest($1::TEXT[], $2::TEXT[], $3::TEXT[], $4::TEXT[], $5::TEXT[])
                  AS given (account, iccid, msisdn, imsi, service_plan)
         WHERE p.iccid = given.iccid AND p.account = given.account
           AND (p.msisdn, p.imsi, p.service_plan) IS DISTINCT FROM
               (coalesce(given.msisdn, p.msisdn), coalesce(given.imsi, p.imsi),
                coalesce(given.service_plan, p.service_plan))",
        &[accounts, iccids, msisdns, imsis, plans],
    )?;
    Ok(())
}

/// Reads the columns of the profiles that a filter lets through, each as `read` does.
fn select<T>(
    db: &mut Db,
    filter: &ProfileFilter,
    columns: &str,
    read: impl Fn(&Row) -> Sql<T>,
) -> Sql<Vec<T>> {
    let named = if filter.identifiers.is_empty() { None } else { Some(identified(db, filter)?) };
    // A statement of its own for each way, so that each follows an index.
    let way = match (&named, &filter.account) {
        (Some(_), _) => "p.number = ANY ($2) AND ($1::TEXT IS NULL OR p.account = $1)",
        (None, Some(_)) => "$2::BIGINT[] IS NULL AND p.account = $1",
        (None, None) => "$2::BIGINT[] IS NULL AND $1::TEXT IS NULL",
    };
    // Each profile has its device; by a LEFT JOIN it is left alone where none of its columns is read.
    let rows = db.query(
        &format!(
            "SELECT {columns} FROM profile AS p LEFT JOIN device AS d ON d.number = p.device
             WHERE {way} AND p.iccid > $3 AND ($4::TEXT IS NULL OR p.network = $4)
               AND ($5::TEXT[] IS NULL OR p.state = ANY ($5)) AND ($6::TEXT[] IS NULL OR p.status = ANY ($6))
               AND ($7::TEXT IS NULL OR p.role = $7) AND ($8::TEXT IS NULL OR p.service_plan = $8)
               AND ($9::BOOLEAN IS NULL OR (p.in_doubt <> 0) = $9)
             ORDER BY p.iccid LIMIT $10"
        ),
        &[
            &filter.account.as_ref().map(AccountName::as_str),
            &named,
            &filter.after.as_ref().map_or("", Iccid::as_str),
            &filter.network.map(Network::name),
            &any_of(filter.states.iter().map(|state| codes::state(*state))),
            &any_of(filter.statuses.iter().map(|status| codes::status(*status))),
            &filter.role.map(codes::role),
            &filter.service_plan,
            &filter.in_doubt,
            &codes::limit(filter.limit),
        ],
    )?;
    rows.iter().map(read).collect()
}

/// Words, one of which it must be; nothing where there are none.
fn any_of<'a>(words: impl Iterator<Item = &'a str>) -> Option<Vec<&'a str>> {
    let words: Vec<&str> = words.collect();
    (!words.is_empty()).then_some(words)
}

/// The keys of the profiles that have one of the filter's identifiers.
fn identified(db: &mut Db, filter: &ProfileFilter) -> Sql<Vec<i64>> {
    let (mut iccids, mut eids, mut imeis, mut msisdns) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for identifier in &filter.identifiers {
        match identifier {
            Identifier::Iccid(iccid) => iccids.push(iccid.as_str()),
            Identifier::Eid(eid) => eids.push(eid.as_str()),
            Identifier::Imei(imei) => imeis.push(imei.as_str()),
            Identifier::Msisdn(msisdn) => msisdns.push(msisdn.as_str()),
        }
    }
    let rows = db.query(
        "SELECT number FROM profile WHERE iccid = ANY ($2)
         UNION ALL
         SELECT p.number FROM device AS d JOIN profile AS p ON p.device = d.number WHERE d.eid = ANY ($3)
         UNION ALL
         SELECT p.number FROM device AS d JOIN profile AS p ON p.device = d.number
         WHERE d.account = $1 AND d.imei = ANY ($4)
         UNION ALL
         SELECT number FROM profile WHERE account = $1 AND msisdn = ANY ($5)",
        &[&filter.account.as_ref().map(AccountName::as_str), &iccids, &eids, &imeis, &msisdns],
    )?;
    rows.iter().map(|row| get(row, "number")).collect()
}

/// The column that `read_key` reads.
const KEY: &str = "p.number";

fn read_key(row: &Row) -> Sql<ProfileKey> {
    get(row, "number").map(ProfileKey)
}

/// The columns that `read_owned` reads.
fn owned() -> String {
    format!("{PROFILE}, p.account")
}

fn read_owned(row: &Row) -> Sql<OwnedProfile> {
    Ok(OwnedProfile { account: read_id(row, "account")?, profile: read_profile(row)? })
}

fn profile(db: &mut Db, iccid: &Iccid) -> Sql<Option<OwnedProfile>> {
    let sql = format!(
        "SELECT {} FROM profile AS p JOIN device AS d ON d.number = p.device WHERE p.iccid = $1",
        owned()
    );
    db.query_opt(&sql, &[&iccid.as_str()])?.as_ref().map(read_owned).transpose()
}
