//! `reveille resume`

use crate::client::{Access, Client, wait};
use crate::system::Dice;
use anyhow::{Context, Result, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use reveille_domain::{Iccid, RequestId};
use reveille_engine::Random;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How many profiles one request has at most.
const TARGETS_MAX: usize = 10_000;

/// How often progress is asked for.
const ASK_EVERY: Duration = Duration::from_millis(200);

#[derive(Args)]
pub(super) struct Arguments {
    /// ICCIDs.
    iccids: Vec<String>,
    /// A CSV file with a column iccid (or whose first column has them), of any length.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// A service plan of the account on the profiles' network.
    #[arg(long)]
    service_plan: Option<String>,
    /// Print the request ids and end, without waiting for outcomes.
    #[arg(long)]
    no_wait: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

pub(super) fn run(arguments: Arguments) -> Result<ExitCode> {
    let iccids = iccids(&arguments)?;
    let mut client = arguments.access.log_in()?;
    let requests = send(&mut client, &iccids, arguments.service_plan.as_deref())?;
    if arguments.no_wait {
        requests.iter().for_each(|request| println!("{request}"));
        return Ok(ExitCode::SUCCESS);
    }
    let bar = ProgressBar::new(u64::try_from(iccids.len())?).with_style(style()?);
    let ended = follow(&mut client, &requests, &bar)?;
    bar.finish_and_clear();
    let sum = Sum::of(&ended);
    if arguments.json {
        println!(
            "{}",
            json!({"succeeded": sum.succeeded, "failed": sum.failed, "faults": sum.faults, "requests": ended})
        );
    } else {
        println!("{} succeeded, {} failed", sum.succeeded, sum.failed);
        sum.faults.iter().for_each(|(fault, count)| println!("  {count:>6}  {fault}"));
        requests.iter().for_each(|request| println!("request {request}"));
    }
    Ok(if sum.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn style() -> Result<ProgressStyle> {
    Ok(ProgressStyle::with_template("{bar:40} {pos}/{len} profiles, {per_sec}")?)
}

/// The ICCIDs of the command line and the file, each checked, none twice.
fn iccids(arguments: &Arguments) -> Result<Vec<String>> {
    let mut all = arguments.iccids.clone();
    if let Some(path) = &arguments.csv {
        let mut reader =
            csv::ReaderBuilder::new().trim(csv::Trim::All).has_headers(false).flexible(true).from_path(path);
        let reader = reader.as_mut().map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        let mut column = 0;
        for (index, record) in reader.records().enumerate() {
            let record = record.with_context(|| path.display().to_string())?;
            let header = (index == 0)
                .then(|| record.iter().position(|name| name.eq_ignore_ascii_case("iccid")))
                .flatten();
            match header {
                Some(at) => column = at,
                None => all.push(record.get(column).unwrap_or_default().to_owned()),
            }
        }
    }
    ensure!(!all.is_empty(), "no ICCIDs: name them, or a file with --csv");
    for iccid in &all {
        iccid.parse::<Iccid>().with_context(|| format!("{iccid:?}"))?;
    }
    let mut seen = HashSet::new();
    all.retain(|iccid| seen.insert(iccid.clone()));
    Ok(all)
}

/// Sends as many requests as it takes; each is recognised when it has to be repeated.
pub(super) fn send(
    client: &mut Client,
    iccids: &[String],
    service_plan: Option<&str>,
) -> Result<Vec<String>> {
    let account = client.account()?.to_owned();
    let dice = Dice::default();
    let mut requests = Vec::new();
    for part in iccids.chunks(TARGETS_MAX) {
        let devices: Vec<Value> =
            part.iter().map(|iccid| json!({"deviceIds": [{"kind": "iccid", "id": iccid}]})).collect();
        let mut body = json!({"devices": devices, "accountName": account});
        if let Some(plan) = service_plan {
            body["servicePlan"] = plan.into();
        }
        let key = RequestId::from_random(dice.bits()).to_string();
        let answer = client.post_once("/api/m2m/v1/devices/profile/actions/profile_resume", &body, &key)?;
        let request = answer["requestId"].as_str().context("the server gave no requestId")?;
        requests.push(request.to_owned());
    }
    Ok(requests)
}

/// Asks until every request has ended; the requests as they ended.
pub(super) fn follow(client: &mut Client, requests: &[String], bar: &ProgressBar) -> Result<Vec<Value>> {
    let mut ended: Vec<Value> = Vec::new();
    let mut profiles = 0;
    for request in requests {
        loop {
            let view = client.get(&format!("/api/reveille/v1/requests/{request}"))?;
            let done = view["succeeded"].as_u64().unwrap_or(0) + view["failed"].as_u64().unwrap_or(0);
            bar.set_position(profiles + done);
            if view["state"] == "ended" {
                profiles += done;
                ended.push(view);
                break;
            }
            wait(ASK_EVERY);
        }
    }
    Ok(ended)
}

/// The counts of several requests together.
pub(super) struct Sum {
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) faults: BTreeMap<String, u64>,
}

impl Sum {
    pub(super) fn of(requests: &[Value]) -> Self {
        let count = |member: &str| requests.iter().filter_map(|request| request[member].as_u64()).sum();
        let mut faults = BTreeMap::new();
        let none = Map::new();
        for (fault, count) in
            requests.iter().flat_map(|request| request["faults"].as_object().unwrap_or(&none))
        {
            *faults.entry(fault.clone()).or_default() += count.as_u64().unwrap_or(0);
        }
        Self { succeeded: count("succeeded"), failed: count("failed"), faults }
    }
}
