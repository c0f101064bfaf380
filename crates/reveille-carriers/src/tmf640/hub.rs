//! Events: that the server sends them to our door, and of what they are a hint. An event settles nothing, as nobody
//! signs it and none is certain to come: it wakes whoever waits, who then asks.

use super::door::Door;
use super::said::{self, Event, Handle, Verdict, verdict};
use super::template::Template;
use super::{Tmf640Config, said::AcceptedAs};
use crate::http::Call;
use crate::{Notice, Unheard};
use ipnet::IpNet;
use reveille_domain::{Clock, Iccid, Timestamp};
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::{info, warn};

/// When a registration is tried again that failed.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Of how many services is remembered who waits; of older ones events are not understood, and it is asked in time.
const REMEMBERED_MAX: usize = 100_000;

/// The longest id of a monitor that is kept, of which nobody here knows whether there is one.
const ID_BYTES_MAX: usize = 255;

/// Who sends events, and who waits for them.
pub(super) struct Hub {
    callback: Option<String>,
    query: String,
    from: Vec<IpNet>,
    service_id: Option<Template>,
    clock: Arc<dyn Clock>,
    registered: tokio::sync::Mutex<Registered>,
    trouble: Mutex<Option<Box<str>>>,
    waiting: Mutex<Waiting>,
}

#[derive(Clone, Copy)]
enum Registered {
    Yes,
    NotBefore(Timestamp),
}

/// Who waits, by the id of the service.
#[derive(Default)]
struct Waiting {
    who: HashMap<Box<str>, (Box<str>, Iccid)>,
    came: VecDeque<Box<str>>,
}

impl Hub {
    pub(super) fn new(config: &Tmf640Config, service_id: Option<Template>, clock: Arc<dyn Clock>) -> Self {
        Self {
            callback: config.callback_url.clone(),
            query: config.callback_query.clone(),
            from: config.callback_from.clone(),
            service_id,
            registered: tokio::sync::Mutex::new(Registered::NotBefore(clock.now())),
            clock,
            trouble: Mutex::default(),
            waiting: Mutex::default(),
        }
    }

    /// Sees to it that events come to us: once, and again after a while where it fails.
    pub(super) async fn see_to(&self, door: &Door) {
        let Some(callback) = &self.callback else { return };
        let mut registered = self.registered.lock().await;
        match *registered {
            Registered::NotBefore(at) if at <= self.clock.now() => {}
            Registered::Yes | Registered::NotBefore(_) => return,
        }
        let trouble = self.register(door, callback).await.err();
        *registered = match &trouble {
            None => Registered::Yes,
            Some(_) => Registered::NotBefore(self.clock.now().plus(AGAIN_AFTER)),
        };
        if let Some(words) = &trouble {
            warn!("Events are not registered, so outcomes are asked for: {words}");
        }
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble.map(Into::into);
    }

    /// Registers our door where it is not: a list of registrations is no part of TMF640, but where there is one, a
    /// restart adds no second.
    async fn register(&self, door: &Door, callback: &str) -> Result<(), String> {
        let path = door.path("/hub");
        let listed = door.call(Call::get(path.clone())).await;
        let listed = listed.ok().filter(|answer| verdict(answer.status) == Verdict::Taken);
        let is_ours = |one: &Value| one["callback"].as_str() == Some(callback);
        if let Some(Value::Array(all)) = listed.and_then(|answer| said::json(&answer.body))
            && all.iter().any(is_ours)
        {
            return Ok(());
        }
        let mut body = json!({ "callback": callback });
        if !self.query.is_empty() {
            body["query"] = self.query.as_str().into();
        }
        let call = Call::post(path, super::MEDIA, body.to_string().into_bytes());
        let not = |why: &str| format!("{} {why}", door.origin());
        let answer = door.call(call).await.map_err(|_| not("does not take the registration"))?;
        match verdict(answer.status) {
            Verdict::Taken => {
                info!(origin = door.origin(), "Registered for events at {}", door.origin());
                Ok(())
            }
            Verdict::Conflict => Ok(()), // it is there already
            _ => Err(not(&format!("answers {} ({})", answer.status, said::words(&answer.body)))),
        }
    }

    /// Why events may not come.
    pub(super) fn trouble(&self) -> Option<Box<str>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers who waits for events about a service.
    pub(super) fn waits(&self, handle: &Handle, iccid: &Iccid) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let who = (handle.name().into(), iccid.clone());
        if waiting.who.insert(handle.service.clone(), who).is_none() {
            waiting.came.push_back(handle.service.clone());
        }
        while waiting.came.len() > REMEMBERED_MAX {
            if let Some(oldest) = waiting.came.pop_front() {
                waiting.who.remove(&oldest);
            }
        }
    }

    /// Nobody waits any more.
    pub(super) fn settled(&self, service: &str) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).who.remove(service);
    }

    pub(super) fn hear(&self, from: IpAddr, body: &[u8]) -> Result<Vec<Notice>, Unheard> {
        if self.callback.is_none() {
            return Err(Unheard::NotExpected);
        }
        if !self.from.iter().any(|network| network.contains(&from)) {
            return Err(Unheard::Stranger);
        }
        let event = Event::of(body).ok_or(Unheard::Unreadable)?;
        Ok(self.who_waits_for(event).into_iter().collect())
    }

    /// By the service, where this process waits; else by the monitor, so that another node or an earlier process may
    /// be the one who does.
    fn who_waits_for(&self, event: Event) -> Option<Notice> {
        let hint = |name, iccid| Some(Notice { name, iccid, text: "look".into() });
        let service = event.service.as_deref();
        let known = service.and_then(|service| {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.who.get(service).cloned()
        });
        if let Some((name, iccid)) = known {
            return hint(name, iccid);
        }
        let told = || self.service_id.as_ref()?.iccid_in(service?);
        let iccid = event.iccid.or_else(told)?;
        let monitor = event.monitor.filter(|id| id.len() <= ID_BYTES_MAX)?;
        let accepted_as = AcceptedAs::Monitor(monitor);
        let handle = Handle { accepted_as, hints: 0, service: Box::default() };
        hint(handle.name().into(), iccid)
    }
}
