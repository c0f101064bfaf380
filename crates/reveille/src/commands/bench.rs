//! `reveille bench`: the main job beside the same callbacks posted without a server, in one run.
//!
//! This process is the listener and the client; the server, and the sender of the raw POSTs, are processes
//! of their own. Rounds alternate, so that what slows the machine slows both sides.

use super::block_on;
use super::listen::{Heard, listen};
use crate::client::{Access, Client};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use reveille_callbacks::{Connection, Guard, Loopback, Tls};
use reveille_domain::{Left, LeftAs, ProfileState, ProfileStatus, RequestId, Role, Subject, Told};
use reveille_wire::CallbackBody;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

const ACCOUNT: &str = "0000123456-00001";

/// Connections of the raw sender, and of the server to the listener.
const CONNECTIONS: usize = 8;

/// Connections of the single-profile requests.
const SINGLES_CONNECTIONS: usize = 64;

/// How long single-profile requests are sent.
const SINGLES_FOR: Duration = Duration::from_secs(3);

/// No round takes longer.
const ROUND_MAX: Duration = Duration::from_secs(60);

#[derive(Args)]
pub(super) struct Arguments {
    /// Profiles in one request.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    profiles: u32,
    /// Rounds of each kind.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Send that many raw POSTs to this URL, print the seconds, and end (what each raw round runs).
    #[arg(long, value_name = "URL", hide = true)]
    raw: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if let Some(url) = &arguments.raw {
        println!("{}", block_on(send_raw(url, arguments.profiles))?.as_secs_f64());
        return Ok(ExitCode::SUCCESS);
    }
    let folder = Folder::new()?;
    let figures = block_on(measure(&folder.0, arguments.profiles, arguments.rounds))?;
    print!("{figures}");
    Ok(ExitCode::SUCCESS)
}

/// A temporary folder that goes with its value.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new() -> Result<Self> {
        let bits = reveille_engine::Random::bits(&crate::system::Dice::default());
        let path = std::env::temp_dir().join(format!("reveille-{:016x}", bits >> 64));
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn start() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a benchmark waits in real time")]
async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Minimum, median and maximum of several measurements.
struct Figure(Vec<f64>);

impl Figure {
    fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn show(&self, unit: &str, scale: f64, digits: usize) -> String {
        let low = self.0.iter().copied().fold(f64::INFINITY, f64::min) * scale;
        let high = self.0.iter().copied().fold(0.0, f64::max) * scale;
        let median = self.median() * scale;
        format!("{median:.digits$} {unit} ({low:.digits$} to {high:.digits$})")
    }
}

async fn measure(folder: &Path, profiles: u32, rounds: u32) -> Result<String> {
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&heard);
    let count: Heard = Arc::new(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    let listener = listen(0, StatusCode::OK, count).await?;
    let url = format!("http://{listener}/callbacks");
    prepare(folder, &url, profiles * (rounds + 1))?;
    let mut starts = Vec::new();
    for _ in 0..5 {
        starts.push(ServerProcess::start(folder)?.1);
    }
    let (server, _) = ServerProcess::start(folder)?;
    let client = server.client().log_in()?;
    let (bearer, session) = client.tokens();
    let mut caller = Caller::connect(server.address, bearer, session).await?;
    let (mut raw, mut whole, mut accept, mut ratio) = (vec![], vec![], vec![], vec![]);
    for round in 0..=rounds {
        let sent = raw_round(&url, profiles)?;
        heard.store(0, Ordering::Relaxed);
        let (accepted, told) = round_of(&mut caller, &heard, round, profiles).await?;
        if round > 0 {
            raw.push(sent);
            whole.push(told);
            accept.push(accepted);
            ratio.push(told / sent);
        }
    }
    let singles = singles(&server, &client, profiles).await?;
    let memory = server.peak_memory()?;
    let mut text = String::new();
    let n = profiles;
    writeln!(
        text,
        "{n} callbacks, raw POSTs over {CONNECTIONS} connections   {}",
        Figure(raw).show("ms", 1e3, 0)
    )?;
    writeln!(text, "{n} profiles, POST to last callback            {}", Figure(whole).show("ms", 1e3, 0))?;
    writeln!(text, "the second divided by the first, round by round {}", Figure(ratio).show("", 1.0, 2))?;
    writeln!(text, "a request for {n} profiles accepted in         {}", Figure(accept).show("ms", 1e3, 1))?;
    writeln!(
        text,
        "single-profile requests, {SINGLES_CONNECTIONS} connections       {singles:.0} per second, each durable"
    )?;
    writeln!(text, "peak memory of the server                       {memory:.1} MiB")?;
    writeln!(text, "from start to first answer                      {}", Figure(starts).show("ms", 1e3, 0))?;
    Ok(text)
}

fn program() -> Result<PathBuf> {
    std::env::current_exe().context("cannot find this program")
}

/// A configuration, an account with its listener, and enough suspended profiles for every round.
fn prepare(folder: &Path, url: &str, profiles: u32) -> Result<()> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let database = folder.join("reveille.db");
    std::fs::write(
        folder.join("reveille.toml"),
        format!(
            "listen = \"127.0.0.1:{port}\"\ndatabase = \"sqlite:{}\"\n\
             [carriers.verizon-us]\nkind = \"simulated\"\nlatency = \"0ms\"\njitter = \"0ms\"\n\
             [carriers.global]\nkind = \"simulated\"\nlatency = \"0ms\"\njitter = \"0ms\"\n",
            database.display()
        ),
    )?;
    std::fs::write(
        folder.join("apply.toml"),
        format!(
            "[[account]]\nname = \"{ACCOUNT}\"\n[[account.listener]]\nservice = \"DeviceProfileService\"\n\
             url = \"{url}\"\n[[client]]\nkey = \"bench\"\nsecret = \"bench\"\n\
             [[user]]\nusername = \"bench\"\npassword = \"bench\"\naccounts = [\"{ACCOUNT}\"]\n"
        ),
    )?;
    let mut csv = String::from("account,eid,imei,iccid,msisdn,network,state\n");
    for n in 0..profiles {
        let network = if n % 2 == 0 { "verizon-us" } else { "global" };
        writeln!(csv, "{ACCOUNT},{},{},{},{},{network},SUSPEND", eid(n), imei(n), iccid(n), msisdn(n))?;
    }
    std::fs::write(folder.join("fleet.csv"), csv)?;
    run_here(folder, &["apply", "apply.toml"])?;
    run_here(folder, &["fleet", "import", "fleet.csv"])
}

fn eid(n: u32) -> String {
    format!("89049032{n:024}")
}

fn imei(n: u32) -> String {
    format!("35{n:013}")
}

fn iccid(n: u32) -> String {
    format!("8914800000{n:010}")
}

fn msisdn(n: u32) -> String {
    format!("1555{n:07}")
}

fn run_here(folder: &Path, arguments: &[&str]) -> Result<()> {
    let status =
        Command::new(program()?).args(arguments).current_dir(folder).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "reveille {} failed", arguments.join(" "));
    Ok(())
}

/// A server of its own process, ended with its value.
struct ServerProcess {
    child: Child,
    address: SocketAddr,
}

impl ServerProcess {
    /// Starts it, and says how many seconds went by until its first answer.
    fn start(folder: &Path) -> Result<(Self, f64)> {
        let text = std::fs::read_to_string(folder.join("reveille.toml"))?;
        let address = text.split('"').nth(1).context("listen stands first")?.parse()?;
        let began = start();
        let child =
            Command::new(program()?).arg("serve").current_dir(folder).stderr(Stdio::null()).spawn()?;
        let server = Self { child, address };
        while !is_alive(address) {
            ensure!(began.elapsed() < ROUND_MAX, "the server does not answer");
            std::thread::yield_now();
        }
        Ok((server, began.elapsed().as_secs_f64()))
    }

    fn client(&self) -> Access {
        Access::of(format!("http://{}", self.address), ACCOUNT, "bench", "bench", "bench", "bench")
    }

    fn peak_memory(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next());
        Ok(peak.context("the kernel does not say")?.parse::<f64>()? / 1024.0)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_alive(address: SocketAddr) -> bool {
    use std::io::Write;
    let Ok(mut stream) = std::net::TcpStream::connect(address) else { return false };
    let asked = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: reveille\r\nConnection: close\r\n\r\n");
    let mut line = String::new();
    asked.is_ok() && BufReader::new(stream).read_line(&mut line).is_ok() && line.contains("200")
}

fn raw_round(url: &str, profiles: u32) -> Result<f64> {
    let output = Command::new(program()?)
        .args(["bench", "--raw", url, "--profiles", &profiles.to_string()])
        .output()?;
    ensure!(output.status.success(), "the raw sender failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// The same bodies, over the same kind of connections, without engine and store.
async fn send_raw(url: &str, profiles: u32) -> Result<Duration> {
    let guard = Guard::new(Vec::new(), Loopback::Allowed);
    let url = guard.check(url)?;
    let tls = Tls::system();
    let request = RequestId::from_random(1);
    let mut shares: Vec<Vec<Bytes>> = vec![Vec::new(); CONNECTIONS];
    for n in 0..profiles {
        let told = Told {
            subject: Subject::Profile(iccid(n).parse()?),
            eid: Some(eid(n).parse()?),
            imei: Some(imei(n).parse()?),
            msisdn: Some(msisdn(n).parse()?),
            result: Ok(Left::Profile(LeftAs {
                state: ProfileState::Active,
                status: ProfileStatus::Enable,
                role: Role::Local,
            })),
        };
        let share = usize::try_from(n)? % CONNECTIONS;
        shares[share].push(CallbackBody::new(request, &told, None, 1, 4).to_bytes().into());
    }
    let began = start();
    let mut senders = tokio::task::JoinSet::new();
    for share in shares {
        let (url, guard, tls) = (url.clone(), guard.clone(), tls.clone());
        senders.spawn(async move {
            let mut connection = Connection::open(&url, &guard, &tls).await?;
            for body in share {
                connection.post(body).await?;
            }
            Ok::<_, reveille_callbacks::AttemptFailed>(())
        });
    }
    while let Some(sent) = senders.join_next().await {
        sent??;
    }
    Ok(began.elapsed())
}

/// One request, and how long it took to be accepted, and to be told to the last profile.
async fn round_of(caller: &mut Caller, heard: &AtomicUsize, round: u32, profiles: u32) -> Result<(f64, f64)> {
    let body = body_of(round * profiles..(round + 1) * profiles);
    let began = start();
    caller.resume(body).await?;
    let accepted = began.elapsed().as_secs_f64();
    let all = usize::try_from(profiles)?;
    while heard.load(Ordering::Relaxed) < all {
        ensure!(began.elapsed() < ROUND_MAX, "only {} callbacks came", heard.load(Ordering::Relaxed));
        pause(Duration::from_micros(500)).await;
    }
    Ok((accepted, began.elapsed().as_secs_f64()))
}

fn body_of(numbers: std::ops::Range<u32>) -> Bytes {
    let device = |n| format!("{{\"deviceIds\":[{{\"kind\":\"iccid\",\"id\":\"{}\"}}]}}", iccid(n));
    let devices: Vec<String> = numbers.map(device).collect();
    format!("{{\"devices\":[{}],\"accountName\":\"{ACCOUNT}\"}}", devices.join(",")).into()
}

/// One connection of a customer.
struct Caller {
    sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
    bearer: String,
    session: String,
}

impl Caller {
    async fn connect(address: SocketAddr, bearer: &str, session: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, bearer: format!("Bearer {bearer}"), session: session.to_owned() })
    }

    async fn resume(&mut self, body: Bytes) -> Result<()> {
        let request = Request::post("/api/m2m/v1/devices/profile/actions/profile_resume")
            .header("Host", "reveille")
            .header("Authorization", &self.bearer)
            .header("VZ-M2M-Token", &self.session)
            .header("Content-Type", "application/json")
            .body(Full::new(body))?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        let text = answer.into_body().collect().await?.to_bytes();
        ensure!(status == StatusCode::OK, "a request got {status}: {}", String::from_utf8_lossy(&text));
        Ok(())
    }
}

/// Requests for one profile each, as many as can be accepted durably, per second.
async fn singles(server: &ServerProcess, client: &Client, profiles: u32) -> Result<f64> {
    let (bearer, session) = client.tokens();
    let mut senders = tokio::task::JoinSet::new();
    let began = start();
    for first in 0..u32::try_from(SINGLES_CONNECTIONS)? {
        let mut caller = Caller::connect(server.address, bearer, session).await?;
        senders.spawn(async move {
            let mut accepted: u32 = 0;
            while began.elapsed() < SINGLES_FOR {
                let n = (first + accepted * 64) % profiles;
                caller.resume(body_of(n..n + 1)).await?;
                accepted += 1;
            }
            Ok::<_, anyhow::Error>(accepted)
        });
    }
    let mut accepted = 0;
    while let Some(sent) = senders.join_next().await {
        accepted += sent??;
    }
    Ok(f64::from(accepted) / began.elapsed().as_secs_f64())
}
