//! ThingSpace's adapter by the suite of all adapters, with a whole server in the place of ThingSpace.
//!
//! Its callbacks come to a listener, which the adapter is told of when it asks. Left out are the parts that drop a call
//! (what others have added to a request goes on), those on a card (a server like ours refuses what is not legal), and
//! those that stop a peer: for all of them there is `tests/outside/gateway.py`. It cannot observe.

use crate::app::{ACCOUNT, App};
use async_trait::async_trait;
use reveille_carriers::conformance::{self, Bench, Subscription};
use reveille_carriers::thingspace::{Session, ThingSpace, ThingSpaceConfig};
use reveille_carriers::{Carrier, LoginEnded, Logins, MayLogIn};
use reveille_domain::{Clock, EndState, Iccid, ProfileState, RequestId};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A server, and the adapter before it.
struct Upstream {
    app: App,
    carrier: Arc<ThingSpace>,
    numbers: AtomicUsize,
    heard: Mutex<Heard>,
}

/// What callbacks said, by the name of what they are of, and how many came.
#[derive(Default)]
struct Heard {
    texts: HashMap<(Box<str>, Iccid), Box<str>>,
    callbacks: usize,
}

/// Nobody counts.
struct Uncounted;

#[async_trait]
impl Logins for Uncounted {
    async fn begin(&self, _login: &str, _credentials: &str) -> MayLogIn {
        MayLogIn::Now
    }

    async fn end(&self, _login: &str, _ended: LoginEnded) {}
}

impl Upstream {
    async fn start() -> Self {
        let app = App::with_fleet("").await;
        let url = app.listener.url();
        app.declare(&format!(
            "[[account]]\nname = {ACCOUNT:?}\n[[account.listener]]\nservice = \"DeviceProfileService\"\n\
             url = {url:?}\nusername = \"suite\"\npassword = \"suite\"\n"
        ))
        .await;
        let clock: Arc<dyn Clock> = Arc::new(app.clock.clone());
        let config = ThingSpaceConfig {
            url: app.url(),
            key: "demo-key".into(),
            secret: "demo-secret".into(),
            username: "demo".into(),
            password: "demo-password".into(),
            accounts: HashMap::new(),
            callback_url: url,
            callback_username: "suite".into(),
            callback_password: "suite".into(),
            callback_from: Vec::new(),
            ask_after: Duration::from_secs(1),
            gather: Duration::ZERO,
            calls_per_minute: None,
        };
        config.check().unwrap();
        let session = Arc::new(Session::new(&config, Arc::clone(&clock)).unwrap());
        let carrier = Arc::new(ThingSpace::new(&config, session, clock));
        carrier.count_logins_in(Arc::new(Uncounted));
        Self { app, carrier, numbers: AtomicUsize::new(1), heard: Mutex::default() }
    }
}

#[async_trait]
impl Bench for Upstream {
    fn carrier(&self) -> Arc<dyn Carrier> {
        Arc::clone(&self.carrier) as Arc<dyn Carrier>
    }

    fn request_id(&self) -> RequestId {
        RequestId::from_random(self.numbers.fetch_add(1, Ordering::Relaxed) as u128)
    }

    async fn fresh(&self, count: usize) -> Vec<Subscription> {
        let first = self.numbers.fetch_add(count, Ordering::Relaxed);
        let numbers = first..first + count;
        let row = |number| format!("{} global active\n", crate::fleet::iccid(number));
        self.app.import(&numbers.clone().map(row).collect::<String>()).await;
        numbers.map(subscription).collect()
    }

    async fn fresh_card(&self, _count: usize) -> Vec<Subscription> {
        unreachable!("no part of it is run")
    }

    async fn shows(&self, subscription: &Subscription, end: EndState) -> Option<bool> {
        let found = self.app.store().profile(&subscription.iccid).await.unwrap()?;
        let active = found.profile.state == ProfileState::Active;
        match end {
            EndState::InService => Some(active),
            EndState::Suspended => Some(!active),
            _ => None,
        }
    }

    async fn stranger(&self) -> Option<Subscription> {
        Some(subscription(self.numbers.fetch_add(1, Ordering::Relaxed)))
    }

    async fn waited(&self, _ask_after: Duration) {
        self.app.settle().await;
        let received = self.app.listener.received();
        let mut heard = self.heard.lock().unwrap();
        for one in &received[heard.callbacks..] {
            for notice in self.carrier.hear(Ipv4Addr::LOCALHOST.into(), one.body.as_bytes()).unwrap() {
                heard.texts.insert((notice.name, notice.iccid), notice.text);
            }
        }
        heard.callbacks = received.len();
    }

    fn heard(&self, name: &str, iccid: &Iccid) -> Option<Box<str>> {
        self.heard.lock().unwrap().texts.get(&(name.into(), iccid.clone())).cloned()
    }
}

fn subscription(number: usize) -> Subscription {
    Subscription {
        iccid: crate::fleet::iccid(number).parse().unwrap(),
        eid: crate::fleet::eid(number).parse().unwrap(),
        imsi: None,
        msisdn: None,
        card: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_in_the_place_of_thingspace_conforms() {
    let upstream = Upstream::start().await;
    conformance::an_empty_batch_has_no_replies(&upstream).await;
    conformance::repeating_an_operation_is_safe(&upstream).await;
    conformance::a_suspended_profile_is_resumed(&upstream).await;
    conformance::a_whole_request_is_settled_in_batches(&upstream).await;
    conformance::batches_run_side_by_side(&upstream).await;
    conformance::ends_that_are_not_known_are_rejected(&upstream).await;
    conformance::an_unknown_subscription_is_rejected_and_disturbs_none(&upstream).await;
    upstream.app.settle().await;
}
