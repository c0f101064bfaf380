//! The fleet file: CSV with a header, any column order, values spelled as on the wire.

use reveille_domain::{Iccid, Imsi, Network, ProfileState, ProfileStatus, Role, SuspendedBy};
use reveille_store::{FleetProblem, FleetRow, OwnedProfile};
use reveille_wire::spelling;
use std::collections::HashMap;
use std::io::Read;
use std::str::FromStr;

/// Every column, in the order of an export.
pub const COLUMNS: [&str; 12] = [
    "account",
    "eid",
    "imei",
    "iccid",
    "msisdn",
    "imsi",
    "network",
    "role",
    "state",
    "suspended_by",
    "profile_status",
    "service_plan",
];

/// The columns without which there is no profile.
const REQUIRED: [&str; 4] = ["account", "eid", "iccid", "network"];

/// How many problems are collected before reading stops.
pub const PROBLEMS_MAX: usize = 100;

/// The longest name of a service plan.
const PLAN_CHARS_MAX: usize = 256;

/// Reads a whole fleet file. Either every row, or the problems, each with its line.
pub fn read(input: impl Read) -> Result<Vec<FleetRow>, Vec<FleetProblem>> {
    let mut reader =
        csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(false).from_reader(WithoutReturns(input));
    let columns = columns(&mut reader).map_err(|problem| vec![problem])?;
    let mut rows = Vec::new();
    let mut problems = Vec::new();
    let mut seen = Seen::default();
    for record in reader.records() {
        if problems.len() >= PROBLEMS_MAX {
            break;
        }
        let row = record.map_err(|error| csv_problem(&error)).and_then(|record| row(&columns, &record));
        match row.and_then(|row| once(&mut seen, row)) {
            Ok(row) => rows.push(row),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(rows) } else { Err(problems) }
}

/// The input without carriage returns, which end lines on some systems and would be counted amiss.
struct WithoutReturns<R>(R);

impl<R: Read> Read for WithoutReturns<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let read = self.0.read(buffer)?;
            let mut kept = 0;
            for index in 0..read {
                if buffer[index] != b'\r' {
                    buffer[kept] = buffer[index];
                    kept += 1;
                }
            }
            if kept > 0 || read == 0 {
                return Ok(kept);
            }
        }
    }
}

type Columns = HashMap<&'static str, usize>;

fn columns<R: Read>(reader: &mut csv::Reader<R>) -> Result<Columns, FleetProblem> {
    let header = reader.headers().map_err(|error| csv_problem(&error))?;
    let said = |problem: String| FleetProblem { line: 1, problem };
    let mut columns = Columns::new();
    for (index, name) in header.iter().enumerate() {
        let name = name.trim_start_matches('\u{feff}');
        let known = COLUMNS.iter().find(|known| known.eq_ignore_ascii_case(name));
        let Some(known) = known else {
            return Err(said(format!("there is no column {name:?}; there are {}", COLUMNS.join(", "))));
        };
        if columns.insert(*known, index).is_some() {
            return Err(said(format!("column {known} stands twice in the header")));
        }
    }
    match REQUIRED.iter().find(|name| !columns.contains_key(**name)) {
        Some(missing) => Err(said(format!("column {missing} is missing from the header"))),
        None => Ok(columns),
    }
}

fn csv_problem(error: &csv::Error) -> FleetProblem {
    let line = error.position().map_or(0, csv::Position::line);
    let problem = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} fields, where the header has {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "not UTF-8".into(),
        _ => error.to_string(),
    };
    FleetProblem { line, problem }
}

/// One record, with what its fields are called.
struct Fields<'a> {
    columns: &'a Columns,
    record: &'a csv::StringRecord,
    line: u64,
}

impl<'a> Fields<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        let index = *self.columns.get(name)?;
        self.record.get(index).filter(|text| !text.is_empty())
    }

    fn problem(&self, problem: impl Into<String>) -> FleetProblem {
        FleetProblem { line: self.line, problem: problem.into() }
    }

    fn optional<T: FromStr<Err: std::fmt::Display>>(&self, name: &str) -> Result<Option<T>, FleetProblem> {
        let parsed = self.text(name).map(str::parse).transpose();
        parsed.map_err(|error| self.problem(format!("{name}: {error}")))
    }

    fn required<T: FromStr<Err: std::fmt::Display>>(&self, name: &str) -> Result<T, FleetProblem> {
        self.optional(name)?.ok_or_else(|| self.problem(format!("{name} is missing")))
    }

    fn word<T>(
        &self,
        name: &str,
        known: &str,
        find: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, FleetProblem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        find(text).map(Some).ok_or_else(|| self.problem(format!("{name} {text:?} is none of {known}")))
    }
}

fn row(columns: &Columns, record: &csv::StringRecord) -> Result<FleetRow, FleetProblem> {
    let line = record.position().map_or(0, csv::Position::line);
    let fields = Fields { columns, record, line };
    let network = fields.word("network", "verizon-us, global", Network::named)?;
    let network = network.ok_or_else(|| fields.problem("network is missing"))?;
    let usual = if network == Network::VerizonUs { Role::Lead } else { Role::Local };
    let role = fields.word("role", "LEAD, LOCAL, DEFAULT", spelling::role_named)?.unwrap_or(usual);
    let service_plan = fields.text("service_plan");
    if service_plan.is_some_and(|plan| plan.chars().count() > PLAN_CHARS_MAX) {
        return Err(fields.problem(format!("service_plan has more than {PLAN_CHARS_MAX} characters")));
    }
    Ok(FleetRow {
        line,
        account: fields.required("account")?,
        eid: fields.required("eid")?,
        imei: fields.optional("imei")?,
        iccid: iccid(&fields)?,
        msisdn: fields.optional("msisdn")?,
        imsi: fields.optional("imsi")?,
        network,
        role,
        state: state(&fields, role)?,
        status: status(&fields)?,
        service_plan: service_plan.map(Into::into),
    })
}

/// An ICCID; the `F` that pads an odd one to twenty is taken off. Source: contract §12 Q15.
fn iccid(fields: &Fields<'_>) -> Result<reveille_domain::Iccid, FleetProblem> {
    let text = fields.text("iccid").ok_or_else(|| fields.problem("iccid is missing"))?;
    let digits = text.strip_suffix(['F', 'f']).filter(|_| text.len() == 20).unwrap_or(text);
    digits.parse().map_err(|error| fields.problem(format!("iccid: {error}")))
}

fn state(fields: &Fields<'_>, role: Role) -> Result<ProfileState, FleetProblem> {
    // A LEAD profile can be suspended with its device only.
    let usual = if role == Role::Lead { SuspendedBy::Device } else { SuspendedBy::Profile };
    let by = fields.word("suspended_by", "profile, device", spelling::suspended_by_named)?;
    let known = "PRE_ACTIVE, ACTIVE, SUSPEND, DEACTIVE";
    let state = fields.word("state", known, |word| spelling::state_named(word, by.unwrap_or(usual)))?;
    let state = state.unwrap_or(ProfileState::Active);
    if by.is_some() && !matches!(state, ProfileState::Suspended(_)) {
        return Err(fields.problem("suspended_by is for profiles in state SUSPEND"));
    }
    Ok(state)
}

fn status(fields: &Fields<'_>) -> Result<ProfileStatus, FleetProblem> {
    let known = spelling::STATUSES.map(spelling::status).join(", ");
    Ok(fields.word("profile_status", &known, spelling::status_named)?.unwrap_or(ProfileStatus::Enable))
}

/// What stood on lines before.
#[derive(Default)]
struct Seen {
    iccids: HashMap<Iccid, u64>,
    imsis: HashMap<(Network, Imsi), u64>,
}

fn once(seen: &mut Seen, row: FleetRow) -> Result<FleetRow, FleetProblem> {
    let line = row.line;
    let again =
        |what: &str, first| FleetProblem { line, problem: format!("this {what} stands on line {first} too") };
    if let Some(first) = seen.iccids.insert(row.iccid.clone(), line) {
        return Err(again("ICCID", first));
    }
    let imsi = row.imsi.clone().map(|imsi| (row.network, imsi));
    match imsi.and_then(|imsi| seen.imsis.insert(imsi, line)) {
        Some(first) => Err(again("IMSI", first)),
        None => Ok(row),
    }
}

/// One profile as the fields of an export, in the order of `COLUMNS`.
pub fn fields(owned: &OwnedProfile) -> [&str; 12] {
    let profile = &owned.profile;
    let suspended_by = match profile.state {
        ProfileState::Suspended(by) => spelling::suspended_by(by),
        _ => "",
    };
    [
        owned.account.as_str(),
        profile.eid.as_str(),
        profile.imei.as_ref().map_or("", |imei| imei.as_str()),
        profile.iccid.as_str(),
        profile.msisdn.as_ref().map_or("", |msisdn| msisdn.as_str()),
        profile.imsi.as_ref().map_or("", |imsi| imsi.as_str()),
        profile.network.name(),
        spelling::role(profile.role),
        spelling::state(profile.state),
        suspended_by,
        spelling::status(profile.status),
        profile.service_plan.as_deref().unwrap_or(""),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "account,eid,iccid,network,role,state,suspended_by\n";
    const EID: &str = "89049032000001000000000000000001";

    fn one(fields: &str) -> Result<FleetRow, String> {
        let read = read(format!("{HEADER}{fields}\n").as_bytes());
        read.map(|mut rows| rows.remove(0)).map_err(|problems| problems[0].problem.clone())
    }

    #[test]
    fn what_suspended_a_profile_follows_from_its_role_where_nothing_is_said() {
        let lead = one(&format!("acc-1,{EID},89148000000800139708,verizon-us,,SUSPEND,")).unwrap();
        assert_eq!((lead.role, lead.state), (Role::Lead, ProfileState::Suspended(SuspendedBy::Device)));
        let local = one(&format!("acc-1,{EID},89148000000800139708,global,,SUSPEND,")).unwrap();
        assert_eq!((local.role, local.state), (Role::Local, ProfileState::Suspended(SuspendedBy::Profile)));
        let said = one(&format!("acc-1,{EID},89148000000800139708,global,,SUSPEND,device")).unwrap();
        assert_eq!(said.state, ProfileState::Suspended(SuspendedBy::Device));
    }

    #[test]
    fn a_padded_iccid_loses_its_f() {
        let row = one(&format!("acc-1,{EID},8914800000080013970F,global,,,")).unwrap();
        assert_eq!(row.iccid.as_str(), "8914800000080013970");
    }

    #[test]
    fn each_bad_line_is_named_with_what_is_wrong() {
        let file = format!(
            "{HEADER}acc-1,{EID},89148000000800139708,verizon-us,,,\nacc-1,{EID},12,verizon-us,,,\n\
             acc-1,{EID},89148000000800139709,mars,,,\nacc-1,{EID},89148000000800139708,global,,,\nacc-1\n"
        );
        let problems = read(file.as_bytes()).unwrap_err();
        let lines: Vec<_> = problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [3, 4, 5, 6]);
        assert!(problems[0].problem.contains("19 or 20 digits"));
        assert!(problems[1].problem.contains("none of verizon-us, global"));
        assert!(problems[2].problem.contains("line 2"));
        assert!(problems[3].problem.contains("fields"));
    }

    #[test]
    fn lines_that_end_as_on_windows_are_counted_alike() {
        let file =
            format!("{HEADER}acc-1,{EID},89148000000800139708,verizon-us,,,\nacc-1,{EID},12,global,,,\n");
        let problems = read(file.replace('\n', "\r\n").as_bytes()).unwrap_err();
        assert_eq!(problems[0].line, 3);
    }

    #[test]
    fn an_unknown_or_missing_column_is_named() {
        assert!(read("account,colour\n".as_bytes()).unwrap_err()[0].problem.contains("colour"));
        assert!(
            read("account,eid,iccid\n".as_bytes()).unwrap_err()[0].problem.contains("network is missing")
        );
        assert!(read("".as_bytes()).unwrap_err()[0].problem.contains("missing"));
    }

    #[test]
    fn an_imsi_stands_once_for_each_network() {
        let row = |number: u32, network: &str, imsi: &str| {
            format!("0000123456-00001,{number:032},89148{number:015},{network},{imsi}\n")
        };
        let file = |network: &str, imsi: &str| {
            let rows = [row(1, "global", "001010000000001"), row(2, network, imsi), row(3, "global", "")];
            format!("account,eid,iccid,network,imsi\n{}", rows.concat())
        };
        assert_eq!(read(file("global", "001010000000002").as_bytes()).unwrap().len(), 3);
        assert_eq!(read(file("verizon-us", "001010000000001").as_bytes()).unwrap().len(), 3);
        let problems = read(file("global", "001010000000001").as_bytes()).unwrap_err();
        assert_eq!(problems, [FleetProblem { line: 3, problem: "this IMSI stands on line 2 too".into() }]);
    }
}
