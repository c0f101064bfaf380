//! The whole program in the test's own process: a real server, store and sockets, in virtual time.

use crate::caller::{Answer, Caller};
use crate::fleet;
use crate::folder::Folder;
use crate::listener::Listener;
use crate::real_time::Patience;
use hyper::Method;
use reveille::config::Config;
use reveille::declaration::{self, Keeping};
use reveille::server::{Given, Server, open_store, read_secrets};
use reveille_domain::clock::ManualClock;
use reveille_domain::{AccountName, Clock, Timestamp};
use reveille_engine::{Engine, Random};
use reveille_store::{RequestFilter, Store};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// The account that a test has where it says nothing else, and another one.
pub(crate) const ACCOUNT: &str = "0000123456-00001";
pub(crate) const OTHER_ACCOUNT: &str = "0000123456-00002";

/// What `reveille apply` would be given first. The listener is registered where the app's own listens.
const DECLARED: &str = r#"
[[account]]
name = "0000123456-00001"
[[account.service_plan]]
name = "Verizon IoT 5MB"
network = "verizon-us"
[[account.service_plan]]
name = "Global IoT 5MB"
network = "global"
[[account.service_plan]]
name = "Global IoT 50MB"
network = "global"
[[account]]
name = "0000123456-00002"
[[client]]
key = "demo-key"
secret = "demo-secret"
[[client]]
key = "other-key"
secret = "other-secret"
[[user]]
username = "demo"
password = "demo-password"
accounts = ["0000123456-00001"]
operator = true
[[user]]
username = "other"
password = "other-password"
accounts = ["0000123456-00002"]
"#;

/// 2026-01-01T00:00:00Z, when every test begins.
const BEGIN: Timestamp = Timestamp(1_767_225_600_000);

/// How often in a row nothing must move before all is taken to have settled.
const CALM_POLLS: u32 = 3;

/// A server with a fleet, a listener that the test scripts, and a clock that the test moves. Dropping it
/// fails the test if anything accepted is still without outcome or callback.
pub(crate) struct App {
    pub(crate) listener: Listener,
    pub(crate) clock: ManualClock,
    listeners: Mutex<Vec<Listener>>,
    caller: Mutex<Option<Caller>>,
    server: Option<Server>,
    config: Config,
    random: Arc<Seeded>,
    folder: Folder,
}

impl App {
    /// The defaults, but for carriers that answer at once, and this fleet; see `fleet`.
    pub(crate) async fn with_fleet(fleet: &str) -> Self {
        Self::configured([], fleet).await
    }

    /// The same with other configuration, as in the environment but without `REVEILLE_`.
    pub(crate) async fn configured<const N: usize>(keys: [(&str, &str); N], fleet: &str) -> Self {
        let folder = Folder::new();
        let clock = ManualClock::new(BEGIN);
        let listener = Listener::start(&clock).await;
        let config = config(&folder, &keys);
        let random = Arc::new(Seeded(Mutex::new(7)));
        let server = Some(start(&config, &clock, &random).await);
        let listeners = Mutex::new(vec![listener.clone()]);
        let caller = Mutex::default();
        let app = Self { listener, clock, listeners, caller, server, config, random, folder };
        app.declare(DECLARED).await;
        app.register(ACCOUNT, &app.listener).await;
        app.import(fleet).await;
        app
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs but while it is started again")
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.server().engine()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server().address())
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        self.engine().store()
    }

    /// The same files through connections of their own, as another process would open them.
    pub(crate) fn second_store(&self) -> Arc<dyn Store> {
        open_store(&self.config).unwrap()
    }

    /// What `reveille apply` does.
    pub(crate) async fn declare(&self, text: &str) {
        let secrets = read_secrets(&self.config, self.random.as_ref()).unwrap();
        let guard = self.config.guard();
        let keeping = Keeping { secrets: &secrets, random: self.random.as_ref(), guard: &guard };
        let declared = declaration::read(text, &keeping).unwrap();
        self.store().apply(declared.declaration, self.clock.now()).await.unwrap();
        self.engine().listener_changed();
    }

    /// What `reveille fleet import` does.
    pub(crate) async fn import(&self, fleet: &str) {
        let csv = fleet::csv(fleet);
        let rows = reveille::fleet::read(csv.as_bytes()).unwrap();
        for batch in rows.chunks(2_000) {
            assert_eq!(self.store().check_fleet(batch.to_vec()).await.unwrap(), []);
            self.store().import(batch.to_vec()).await.unwrap();
        }
    }

    /// Registers a listener of an account as `apply` does.
    pub(crate) async fn register(&self, account: &str, listener: &Listener) {
        self.register_for("DeviceProfileService", account, listener).await;
    }

    /// The same for another callback service.
    pub(crate) async fn register_for(&self, service: &str, account: &str, listener: &Listener) {
        let url = listener.url();
        let text = format!(
            "[[account]]\nname = {account:?}\n[[account.listener]]\nservice = {service:?}\nurl = {url:?}\n"
        );
        self.declare(&text).await;
    }

    /// One more listener, registered nowhere yet.
    pub(crate) async fn another_listener(&self) -> Listener {
        let listener = Listener::start(&self.clock).await;
        self.listeners.lock().unwrap().push(listener.clone());
        listener
    }

    /// Somebody with a token and a session, who is not logged in again when they expire.
    pub(crate) async fn log_in(&self, username: &str, password: &str) -> Caller {
        let mut caller = self.stranger();
        caller.get_token("demo-key", "demo-secret").await;
        caller.log_in(username, password).await;
        caller
    }

    /// Somebody with nothing.
    pub(crate) fn stranger(&self) -> Caller {
        Caller::new(self.server().address())
    }

    /// A call by `demo`, who logs in as often as it takes.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let known = self.caller.lock().unwrap().clone();
        if let Some(caller) = known {
            let answer = caller.call(method.clone(), path, body).await;
            if answer.status != 401 {
                return answer;
            }
        }
        let caller = self.log_in("demo", "demo-password").await;
        *self.caller.lock().unwrap() = Some(caller.clone());
        caller.call(method, path, body).await
    }

    pub(crate) async fn metrics(&self) -> String {
        self.engine().metrics_text().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.call(Method::GET, path, None).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.body
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let answer = self.call(Method::POST, path, Some(&body)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.body
    }

    /// Resumes the profiles of ICCIDs with blanks between them; the request's id.
    pub(crate) async fn resume(&self, iccids: &str) -> String {
        self.resume_with(iccids, json!({})).await
    }

    /// The same with more members in the body.
    pub(crate) async fn resume_with(&self, iccids: &str, more: Value) -> String {
        let mut body = resume_body(ACCOUNT, iccids);
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = self.post(RESUME, body).await;
        answer["requestId"].as_str().expect("an accepted request has an id").to_owned()
    }

    /// Asks for an action on profiles, or on devices by their EIDs, with more members in the body; its id.
    pub(crate) async fn act(&self, action: &str, targets: &str, more: Value) -> String {
        let answer = self.post(&action_path(action), action_body(targets, more)).await;
        answer["requestId"].as_str().expect("an accepted request has an id").to_owned()
    }

    /// What the callbacks of a request said, in the order of their arrival.
    pub(crate) fn told_of(&self, request: &str) -> Vec<Value> {
        let bodies = self.listener.bodies();
        bodies.into_iter().filter(|body| body["requestId"] == request).collect()
    }

    pub(crate) async fn request(&self, request: &str) -> Value {
        self.get(&format!("/api/reveille/v1/requests/{request}")).await
    }

    /// Every subrequest of a request, in order.
    pub(crate) async fn subrequests(&self, request: &str) -> Vec<Value> {
        let mut all: Vec<Value> = Vec::new();
        loop {
            let after = all.len();
            let path = format!("/api/reveille/v1/requests/{request}/subrequests?limit=1000&after={after}");
            let page = self.get(&path).await;
            all.extend(page["subrequests"].as_array().unwrap().iter().cloned());
            if page["next"].is_null() {
                return all;
            }
        }
    }

    pub(crate) async fn profile(&self, iccid: &str) -> Value {
        self.get(&format!("/api/reveille/v1/profiles/{iccid}")).await
    }

    /// Its one callback, with every attempt.
    pub(crate) async fn callback(&self, request: &str) -> Value {
        self.get(&format!("/api/reveille/v1/callbacks/{request}.1")).await
    }

    pub(crate) async fn hold(&self, network: &str) {
        self.post(&format!("/api/reveille/v1/carriers/{network}/hold"), json!({})).await;
    }

    pub(crate) async fn release(&self, network: &str) {
        self.post(&format!("/api/reveille/v1/carriers/{network}/release"), json!({})).await;
    }

    pub(crate) async fn carrier(&self, network: &str) -> Value {
        let carriers = self.get("/api/reveille/v1/carriers").await;
        let found = carriers["carriers"].as_array().unwrap().iter().find(|one| one["network"] == network);
        found.expect("both networks are listed").clone()
    }

    /// Waits until nothing goes on before the clock moves; the clock stands still.
    pub(crate) async fn settle(&self) {
        let mut patience = Patience::default();
        let mut calm = 0;
        while calm < CALM_POLLS {
            tokio::task::yield_now().await;
            if self.is_calm() {
                calm += 1;
            } else {
                calm = 0;
                patience.wait("something moves for longer than it may").await;
            }
        }
    }

    /// Lets virtual time pass, from each instant that somebody waits for to the next.
    pub(crate) async fn settle_for(&self, duration: &str) {
        let until = self.clock.now().plus(humantime::parse_duration(duration).unwrap());
        self.settle().await;
        while let Some(at) = self.clock.next_wake().filter(|at| *at <= until) {
            self.clock.move_to(at);
            self.settle().await;
        }
        self.clock.move_to(until);
        self.settle().await;
    }

    /// Stops the server as a signal does, and starts it again on the same folder.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.start_again().await;
    }

    /// Stops the server as a signal does; time passes meanwhile, as far as it waits for something.
    pub(crate) async fn stop(&mut self) {
        let server = self.server.take().expect("it runs but while it is started again");
        let stop = server.stop();
        tokio::pin!(stop);
        let mut patience = Patience::default();
        loop {
            tokio::select! {
                biased;
                () = &mut stop => return,
                () = patience.wait("the server does not stop") => {}
            }
            if let Some(at) = self.clock.next_wake() {
                self.clock.move_to(at);
            }
        }
    }

    pub(crate) async fn start_again(&mut self) {
        *self.caller.lock().unwrap() = None; // it listens on another port now
        self.server = Some(start(&self.config, &self.clock, &self.random).await);
    }

    fn is_calm(&self) -> bool {
        let hanging: usize = self.listeners.lock().unwrap().iter().map(Listener::hanging).sum();
        !self.engine().is_moving() && self.engine().attempts_under_way() == hanging
    }
}

/// The path of an action.
pub(crate) fn action_path(action: &str) -> String {
    format!("/api/m2m/v1/devices/profile/actions/{action}")
}

/// The body that asks for an action on those: EIDs have 32 digits.
pub(crate) fn action_body(targets: &str, more: Value) -> Value {
    let kind = |id: &str| if id.len() == 32 { "eid" } else { "iccid" };
    let device = |id: &str| json!({"deviceIds": [{"kind": kind(id), "id": id}]});
    let devices: Vec<Value> = targets.split_whitespace().map(device).collect();
    let mut body = json!({"devices": devices, "accountName": ACCOUNT});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

pub(crate) const RESUME: &str = "/api/m2m/v1/devices/profile/actions/profile_resume";

/// The body that resumes those ICCIDs.
pub(crate) fn resume_body(account: &str, iccids: &str) -> Value {
    let device = |iccid: &str| json!({"deviceIds": [{"kind": "iccid", "id": iccid}]});
    let devices: Vec<Value> = iccids.split_whitespace().map(device).collect();
    json!({"devices": devices, "accountName": account})
}

fn config(folder: &Folder, keys: &[(&str, &str)]) -> Config {
    let carrier = "kind = \"simulated\"\nscripted = true\nlatency = \"0ms\"\njitter = \"0ms\"\n";
    let text = format!(
        "listen = \"127.0.0.1:0\"\ndatabase = \"sqlite:{}\"\ndatabase_synchronous = \"off\"\n\
         [carriers.verizon-us]\n{carrier}[carriers.global]\n{carrier}",
        folder.database().display()
    );
    let environment: BTreeMap<_, _> =
        keys.iter().map(|(key, value)| (format!("REVEILLE_{key}"), (*value).to_owned())).collect();
    Config::from_text(Some(&text), environment).unwrap()
}

async fn start(config: &Config, clock: &ManualClock, random: &Arc<Seeded>) -> Server {
    let clock = Arc::new(clock.clone());
    let given = Given { clock, random: Arc::clone(random) as Arc<dyn Random> };
    Server::start(config, given).await.unwrap()
}

/// Randomness that is the same in each run. Source: SplitMix64.
struct Seeded(Mutex<u64>);

impl Random for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.0.lock().unwrap();
        for chunk in bytes.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let config = self.config.clone();
        let checked = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(all_ended_and_told(&config));
        });
        assert!(checked.join().is_ok(), "what was accepted has not all ended and been told");
    }
}

/// Fails where anything that was accepted is without outcome, or its callback neither delivered nor archived.
async fn all_ended_and_told(config: &Config) {
    let store = open_store(config).unwrap();
    let backlog = store.backlog().await.unwrap();
    assert_eq!((backlog.waiting, backlog.untold), (0, 0), "subrequests and callbacks that wait");
    for account in [ACCOUNT, OTHER_ACCOUNT] {
        let account: AccountName = account.parse().unwrap();
        let filter = RequestFilter { account, ended: None, after: None, limit: 1_000 };
        for view in store.requests(filter).await.unwrap() {
            assert!(view.ended_at.is_some());
            assert_eq!(view.succeeded + view.failed, view.subrequests);
            assert_eq!(view.callbacks_delivered + view.callbacks_archived, view.subrequests);
        }
    }
    store.close();
}
