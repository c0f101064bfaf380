//! `reveille resume|suspend|activate|…`: the actions, on as many profiles or devices as one likes.

use crate::client::{Access, Client, wait};
use crate::system::Dice;
use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use reveille_domain::{Action, Eid, Iccid, RequestId, Targets};
use reveille_engine::Random;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How many profiles or devices one request has at most.
const TARGETS_MAX: usize = 10_000;

/// How often progress is asked for.
const ASK_EVERY: Duration = Duration::from_millis(200);

#[derive(Subcommand)]
pub(super) enum Command {
    /// Resume suspended profiles.
    Resume(Arguments),
    /// Suspend Global profiles.
    Suspend(Arguments),
    /// Activate profiles, for the first time or again.
    Activate(Activation),
    /// Activate profiles and enable them on their cards.
    ActivateEnable(Activation),
    /// Deactivate profiles.
    Deactivate(Deactivation),
    /// Enable profiles on their cards; what was enabled there is disabled.
    Enable(Arguments),
    /// Disable Global profiles on their cards; what the card falls back to is enabled.
    Disable(Arguments),
    /// Download Global profiles to their cards.
    Download(Arguments),
    /// Download Global profiles to their cards and enable them.
    DownloadEnable(Arguments),
    /// Download Global profiles to their cards and leave them disabled.
    DownloadDisable(Arguments),
    /// Delete deactivated Global profiles from their cards.
    Delete(Arguments),
    /// Make profiles what their cards fall back to.
    SetFallback(Arguments),
    /// Move profiles to the service plan that --service-plan names.
    ServicePlan(Arguments),
    /// Suspend devices: every active profile on them.
    DeviceSuspend(Arguments),
    /// Resume devices: what was suspended with them.
    DeviceResume(Arguments),
}

#[derive(Args)]
pub(super) struct Arguments {
    /// ICCIDs; of device-suspend and device-resume, EIDs.
    targets: Vec<String>,
    /// A CSV file with a column iccid or eid (or whose first column has them), of any length.
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

#[derive(Args)]
pub(super) struct Activation {
    /// The five digits of the area where a number is wanted.
    #[arg(long)]
    mdn_zip_code: Option<String>,
    #[command(flatten)]
    common: Arguments,
}

#[derive(Args)]
pub(super) struct Deactivation {
    /// Why: two characters.
    #[arg(long)]
    reason_code: Option<String>,
    /// Waive the fee for an early end.
    #[arg(long)]
    etf_waiver: bool,
    /// Leave profiles alone that their cards fall back to.
    #[arg(long)]
    check_fallback_profile: bool,
    #[command(flatten)]
    common: Arguments,
}

pub(super) fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Resume(of) => act(Action::ProfileResume, of, json!({})),
        Command::Suspend(of) => act(Action::ProfileSuspend, of, json!({})),
        Command::Activate(of) => act(Action::Activate, of.common, json!({"mdnZipCode": of.mdn_zip_code})),
        Command::ActivateEnable(of) => {
            act(Action::ActivateEnable, of.common, json!({"mdnZipCode": of.mdn_zip_code}))
        }
        Command::Deactivate(of) => {
            let more = json!({
                "reasonCode": of.reason_code,
                "etfWaiver": of.etf_waiver,
                "checkFallbackProfile": of.check_fallback_profile,
            });
            act(Action::Deactivate, of.common, more)
        }
        Command::Enable(of) => act(Action::Enable, of, json!({})),
        Command::Disable(of) => act(Action::Disable, of, json!({})),
        Command::Download(of) => act(Action::Download, of, json!({})),
        Command::DownloadEnable(of) => act(Action::DownloadEnable, of, json!({})),
        Command::DownloadDisable(of) => act(Action::DownloadDisable, of, json!({})),
        Command::Delete(of) => act(Action::Delete, of, json!({})),
        Command::SetFallback(of) => act(Action::SetFallback, of, json!({})),
        Command::ServicePlan(of) => {
            ensure!(of.service_plan.is_some(), "--service-plan is missing: the plan that they move to");
            act(Action::ServicePlan, of, json!({}))
        }
        Command::DeviceSuspend(of) => act(Action::DeviceSuspend, of, json!({})),
        Command::DeviceResume(of) => act(Action::DeviceResume, of, json!({})),
    }
}

/// What is asked of each target: an action, and what its body says beside the targets.
pub(super) struct Ask {
    action: Action,
    more: Map<String, Value>,
}

impl Ask {
    /// An action; of `more`, what is not null.
    pub(super) fn new(action: Action, more: Value) -> Self {
        let more = more.as_object().cloned().unwrap_or_default();
        Self { action, more: more.into_iter().filter(|(_, value)| !value.is_null()).collect() }
    }

    /// The kind of identifier that names its targets.
    fn kind(&self) -> &'static str {
        if self.action.targets() == Targets::Devices { "eid" } else { "iccid" }
    }
}

fn act(action: Action, arguments: Arguments, mut more: Value) -> Result<ExitCode> {
    more["servicePlan"] = arguments.service_plan.clone().into();
    let ask = Ask::new(action, more);
    let targets = targets(&arguments, ask.kind())?;
    let mut client = arguments.access.log_in()?;
    let requests = send(&mut client, &ask, &targets)?;
    if arguments.no_wait {
        requests.iter().for_each(|request| println!("{request}"));
        return Ok(ExitCode::SUCCESS);
    }
    let bar = ProgressBar::new(u64::try_from(targets.len())?).with_style(style()?);
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
    Ok(ProgressStyle::with_template("{bar:40} {pos}/{len}, {per_sec}")?)
}

/// The targets of the command line and the file, each checked, none twice.
fn targets(arguments: &Arguments, kind: &str) -> Result<Vec<String>> {
    let mut all = arguments.targets.clone();
    if let Some(path) = &arguments.csv {
        let mut reader =
            csv::ReaderBuilder::new().trim(csv::Trim::All).has_headers(false).flexible(true).from_path(path);
        let reader = reader.as_mut().map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        let mut column = 0;
        for (index, record) in reader.records().enumerate() {
            let record = record.with_context(|| path.display().to_string())?;
            let header = (index == 0)
                .then(|| record.iter().position(|name| name.eq_ignore_ascii_case(kind)))
                .flatten();
            match header {
                Some(at) => column = at,
                None => all.push(record.get(column).unwrap_or_default().to_owned()),
            }
        }
    }
    let name = kind.to_ascii_uppercase();
    ensure!(!all.is_empty(), "no {name}s: name them, or a file with --csv");
    for target in &all {
        match kind {
            "eid" => target.parse::<Eid>().map(drop),
            _ => target.parse::<Iccid>().map(drop),
        }
        .with_context(|| format!("{target:?}"))?;
    }
    let mut seen = HashSet::new();
    all.retain(|target| seen.insert(target.clone()));
    Ok(all)
}

/// Sends as many requests as it takes; each is recognised when it has to be repeated.
pub(super) fn send(client: &mut Client, ask: &Ask, targets: &[String]) -> Result<Vec<String>> {
    let account = client.account()?.to_owned();
    let dice = Dice::default();
    let path = format!("/api/m2m/v1/devices/profile/actions/{}", ask.action.name());
    let mut requests = Vec::new();
    for part in targets.chunks(TARGETS_MAX) {
        let device = |id: &String| json!({"deviceIds": [{"kind": ask.kind(), "id": id}]});
        let devices: Vec<Value> = part.iter().map(device).collect();
        let mut body = json!({"devices": devices, "accountName": account});
        if let Some(body) = body.as_object_mut() {
            body.extend(ask.more.clone());
        }
        let key = RequestId::from_random(dice.bits()).to_string();
        let answer = client.post_once(&path, &body, &key)?;
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
            let subrequests = view["subrequests"].as_u64().unwrap_or(0);
            bar.set_length(bar.length().unwrap_or(0).max(profiles + subrequests));
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
