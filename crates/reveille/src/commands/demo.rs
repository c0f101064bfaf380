//! `reveille demo`: the main job on a laptop, through the same HTTP API that customers call.

use super::actions::{Ask, Sum, follow, send, style};
use super::bench::Folder;
use super::fleet::write;
use super::listen::{Heard, listen};
use super::{apply, asked_to_stop, block_on};
use crate::client::{Access, Client};
use crate::config::Config;
use crate::declaration::{self, Keeping};
use crate::server::{Given, Server, open_store, read_secrets};
use crate::system::Dice;
use crate::{fleet, telemetry};
use anyhow::{Context, Result, ensure};
use clap::Args;
use hyper::StatusCode;
use indicatif::ProgressBar;
use reveille_domain::Action;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const ACCOUNT: &str = "0000123456-00001";

/// How many devices the sample fleet has; each has a Verizon US profile, every second a Global one.
const DEVICES: u32 = 1_000;

/// Every so many devices are suspended.
const SUSPENDED_EVERY: u32 = 4;

/// How long the last callbacks are waited for.
const CALLBACKS_WITHIN: Duration = Duration::from_secs(60);

#[derive(Args)]
pub(super) struct Arguments {
    /// Where the API listens; any free port where this one is taken.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// End after the summary.
    #[arg(long)]
    once: bool,
}

/// What the demo's listener has heard.
#[derive(Default)]
struct Callbacks {
    count: AtomicUsize,
    success: Mutex<Option<String>>,
}

impl Callbacks {
    fn hear(&self, body: &[u8]) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut kept = self.success.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_none() && body.windows(9).any(|part| part == b"\"SUCCESS\"") {
            *kept = Some(String::from_utf8_lossy(body).into_owned());
        }
    }
}

pub(super) fn run(arguments: Arguments) -> Result<ExitCode> {
    telemetry::start("warn,reveille=error", "text")?;
    let folder = Folder::new()?;
    block_on(async {
        let heard = Arc::new(Callbacks::default());
        let hearing = Arc::clone(&heard);
        let hear: Heard = Arc::new(move |body| hearing.hear(body));
        let listener = listen(0, StatusCode::OK, hear).await?;
        let config = config(&folder.0, free(arguments.listen)?)?;
        let iccids = prepare(&config, listener).await?;
        let server = Server::start(&config, Given::default()).await?;
        say(&format!(
            "Reveille listens on http://{}: {DEVICES} devices on two simulated networks, {} profiles to resume.\n",
            server.address(),
            iccids.len()
        ));
        let mut client = access(server.address()).log_in()?;
        let told = tokio::task::block_in_place(|| resume(&mut client, &iccids, &heard))?;
        say(&told);
        say(&how_to_go_on(server.address(), &client));
        if !arguments.once {
            say("Serving until Ctrl-C.\n");
            asked_to_stop().await?;
        }
        server.stop().await;
        Ok(ExitCode::SUCCESS)
    })
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush()); // nobody may be reading
}

/// The address, or another port where that one is taken.
fn free(wanted: SocketAddr) -> Result<SocketAddr> {
    match std::net::TcpListener::bind(wanted) {
        Ok(_) => Ok(wanted),
        Err(_) => Ok(SocketAddr::new(wanted.ip(), 0)),
    }
}

fn config(folder: &Path, listen: SocketAddr) -> Result<Config> {
    let environment = BTreeMap::from([
        ("REVEILLE_LISTEN".to_owned(), listen.to_string()),
        ("REVEILLE_DATABASE".to_owned(), format!("sqlite:{}", folder.join("reveille.db").display())),
        // The networks take their time, so that there is something to see.
        ("REVEILLE_CARRIERS_VERIZON_US_CONCURRENCY".to_owned(), "20".to_owned()),
        ("REVEILLE_CARRIERS_VERIZON_US_LATENCY".to_owned(), "80ms".to_owned()),
        ("REVEILLE_CARRIERS_VERIZON_US_JITTER".to_owned(), "120ms".to_owned()),
        ("REVEILLE_CARRIERS_GLOBAL_CONCURRENCY".to_owned(), "20".to_owned()),
        ("REVEILLE_CARRIERS_GLOBAL_LATENCY".to_owned(), "120ms".to_owned()),
        ("REVEILLE_CARRIERS_GLOBAL_JITTER".to_owned(), "160ms".to_owned()),
    ]);
    Config::from_text(None, environment)
}

/// An account with its plans, listener, client and user, and the sample fleet; the profiles to be resumed.
async fn prepare(config: &Config, listener: SocketAddr) -> Result<Vec<String>> {
    let random = Dice::default();
    let secrets = read_secrets(config, &random)?;
    let guard = config.guard();
    let keeping = Keeping { secrets: &secrets, random: &random, guard: &guard };
    let declared = declaration::read(&declaration_of(listener), &keeping)?;
    let store = open_store(config)?;
    apply::apply(&*store, declared).await?;
    let (csv, iccids) = sample_fleet()?;
    let rows =
        fleet::read(csv.as_bytes()).map_err(|problems| anyhow::anyhow!("the sample fleet: {problems:?}"))?;
    let written = write(&*store, rows, &ProgressBar::hidden()).await?;
    ensure!(written.is_ok(), "the sample fleet was not imported: {written:?}");
    store.close();
    Ok(iccids)
}

fn declaration_of(listener: SocketAddr) -> String {
    format!(
        r#"
[[account]]
name = "{ACCOUNT}"
[[account.service_plan]]
name = "Verizon IoT 5MB"
network = "verizon-us"
[[account.service_plan]]
name = "Global IoT 5MB"
network = "global"
[[account.listener]]
service = "DeviceProfileService"
url = "http://{listener}/callbacks"
[[client]]
key = "demo-key"
secret = "demo-secret"
[[user]]
username = "demo"
password = "demo-password"
accounts = ["{ACCOUNT}"]
operator = true
"#
    )
}

/// The sample fleet, and the ICCIDs that are resumed: the suspended ones, and a handful that must fail.
fn sample_fleet() -> Result<(String, Vec<String>)> {
    let mut csv = fleet::COLUMNS.join(",") + "\n";
    let mut iccids = Vec::new();
    for n in 0..DEVICES {
        let suspended = n % SUSPENDED_EVERY == 0;
        let state = if suspended { "SUSPEND" } else { "ACTIVE" };
        let lead = format!("8914800000{n:010}");
        let device = format!("{ACCOUNT},89049032{n:024},35{n:013}");
        writeln!(
            csv,
            "{device},{lead},1555{n:07},31148{n:010},verizon-us,LEAD,{state},,ENABLE,Verizon IoT 5MB"
        )?;
        iccids.extend(suspended.then_some(lead));
        if n % 2 == 0 {
            let local = format!("8935100000{n:010}");
            writeln!(
                csv,
                "{device},{local},35366{n:07},27201{n:010},global,LOCAL,{state},,DISABLE,Global IoT 5MB"
            )?;
            iccids.extend(suspended.then_some(local));
        }
    }
    for (iccid, state) in [
        ("89351000009000000001", "ACTIVE"),     // is resumed already
        ("89351000009000000002", "PRE_ACTIVE"), // was never activated
        ("89000001000000000001", "SUSPEND"),    // its network refuses
        ("89000001000000000002", "SUSPEND"),
        ("89000002000000000001", "SUSPEND"), // its network asks to come again, twice, and then does it
    ] {
        writeln!(
            csv,
            "{ACCOUNT},89049032{DEVICES:024},,{iccid},,,global,LOCAL,{state},,DISABLE,Global IoT 5MB"
        )?;
        iccids.push(iccid.into());
    }
    iccids.push("89351000009999999999".into()); // is nobody's
    Ok((csv, iccids))
}

fn access(server: SocketAddr) -> Access {
    Access::of(format!("http://{server}"), ACCOUNT, "demo-key", "demo-secret", "demo", "demo-password")
}

#[expect(clippy::disallowed_methods, reason = "a person waits in real time")]
fn now() -> Instant {
    Instant::now()
}

/// Resumes through the API, shows progress, and sums up.
fn resume(client: &mut Client, iccids: &[String], heard: &Callbacks) -> Result<String> {
    let total = u64::try_from(iccids.len())?;
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(total) } else { ProgressBar::hidden() };
    let bar = bar.with_style(style()?);
    let began = now();
    let requests = send(client, &Ask::new(Action::ProfileResume, json!({})), iccids)?;
    let accepted = began.elapsed();
    let ended = follow(client, &requests, &bar)?;
    let took = began.elapsed();
    bar.finish_and_clear();
    wait_for_callbacks(heard, iccids.len())?;
    let told = began.elapsed();
    let sum = Sum::of(&ended);
    let mut text = String::new();
    let request = requests.first().context("no request was sent")?;
    writeln!(text, "\nRequest {request}: {total} profiles, accepted in {:.0} ms", millis(accepted))?;
    writeln!(text, "  succeeded   {:>6}", sum.succeeded)?;
    writeln!(text, "  failed      {:>6}", sum.failed)?;
    for (fault, count) in &sum.faults {
        writeln!(text, "      {count:>3}  {fault}")?;
    }
    writeln!(text, "  callbacks   {:>6} delivered", heard.count.load(Ordering::Relaxed))?;
    let rate = f64::from(u32::try_from(iccids.len())?) / told.as_secs_f64();
    writeln!(
        text,
        "  time        {:>6.2} s to the last outcome, {:.2} s to the last callback",
        took.as_secs_f64(),
        told.as_secs_f64()
    )?;
    writeln!(
        text,
        "  rate        {rate:>6.0} profiles per second, which is what the simulated networks' latency allows"
    )?;
    let success = heard.success.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let callback = success.context("no success was told")?;
    writeln!(text, "\nOne callback, as the listener received it:\n\n{callback}")?;
    Ok(text)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn wait_for_callbacks(heard: &Callbacks, expected: usize) -> Result<()> {
    let began = now();
    while heard.count.load(Ordering::Relaxed) < expected {
        let count = heard.count.load(Ordering::Relaxed);
        ensure!(began.elapsed() < CALLBACKS_WITHIN, "only {count} of {expected} callbacks came");
        crate::client::wait(Duration::from_millis(5));
    }
    Ok(())
}

fn how_to_go_on(server: SocketAddr, client: &Client) -> String {
    let (bearer, session) = client.tokens();
    format!(
        "\nCredentials: account {ACCOUNT}, client demo-key / demo-secret, user demo / demo-password.\n\
         Call it yourself (the tokens live an hour, and 20 minutes without use):\n\n\
         curl http://{server}/api/m2m/v1//devices/profile/actions/profile_resume \\\n  \
           -H 'Authorization: Bearer {bearer}' -H 'VZ-M2M-Token: {session}' \\\n  \
           -H 'Content-Type: application/json' \\\n  \
           -d '{{\"devices\":[{{\"deviceIds\":[{{\"kind\":\"iccid\",\"id\":\"89148000000000000001\"}}]}}],\"accountName\":\"{ACCOUNT}\"}}'\n\n"
    )
}
