//! Which service is a profile's, and how it is.

use super::door::Failed;
use super::said::{self, Service, Verdict, verdict};
use super::template::{Known, Name, Template};
use super::{RETRY, Tmf640, refused, rejected};
use crate::Reply;
use serde_json::Value;

/// How a profile's service is found.
pub(super) enum By {
    Id(Template),
    Query(Template),
}

/// A service that was found.
pub(super) struct Found {
    pub(super) id: Box<str>,
    pub(super) state: Box<str>,
    pub(super) etag: Option<Box<str>>,
}

/// Why a service was not found.
pub(super) enum Unread {
    NoSuch(String),
    Is(Reply),
}

impl Tmf640 {
    /// Finds a profile's service.
    pub(super) async fn read(&self, known: &Known<'_>) -> Result<Found, Unread> {
        let (By::Id(template) | By::Query(template)) = &self.by;
        let name = template.of(known).map_err(|name| Unread::Is(rejected(missing(name))))?;
        match self.by {
            By::Id(_) => {
                let (value, etag) = self.get(self.service(&name)).await?;
                let Some(state) = Service::of(&value).state else { return Err(RETRY.into()) };
                Ok(Found { id: name.into(), state, etag: etag.filter(|etag| is_strong(etag)) })
            }
            By::Query(_) => self.look_up(&name, &template.names(known)).await,
        }
    }

    /// The one service that a query finds. One that names the profile nowhere is somebody else's: a server may pass over
    /// queries that it does not know, and show whatever it has.
    async fn look_up(&self, query: &str, names: &[&str]) -> Result<Found, Unread> {
        let list = self.get(self.door.path(&format!("/service?{query}"))).await?.0;
        let mut one = match list.as_array().ok_or(RETRY)?.as_slice() {
            [one] => one.clone(),
            [] => return Err(Unread::NoSuch("The network has no service of the profile".into())),
            _ => return Err(rejected("The network finds more than one service by tmf640.lookup").into()),
        };
        let id = Service::of(&one).id.ok_or(RETRY)?;
        let is_whole = |one: &Value| Service::of(one).state.is_some() && says_one_of(one, names);
        if !is_whole(&one) {
            one = self.get(self.service(&id)).await?.0; // a list may say little of each
        }
        if !says_one_of(&one, names) {
            return Err(rejected(
                "The network finds a service by tmf640.lookup that does not name the profile",
            )
            .into());
        }
        let state = Service::of(&one).state.ok_or(RETRY)?;
        Ok(Found { id, state, etag: None })
    }

    async fn get(&self, path: String) -> Result<(Value, Option<Box<str>>), Unread> {
        let answer = self.calls.read(path.clone()).await.map_err(not_read)?;
        match verdict(answer.status) {
            Verdict::Taken => {
                let value = said::json(&answer.body).ok_or(RETRY)?;
                Ok((value, answer.etag))
            }
            Verdict::NoSuch => Err(self.believed(answer.status, &path, &said::words(&answer.body)).await),
            Verdict::Refused => Err(rejected(&refused(answer.status, &said::words(&answer.body))).into()),
            _ => Err(Reply::RetryLater { after: answer.retry_after }.into()),
        }
    }

    /// What it means that nothing is there: that the profile has no service, where the server knows its own paths;
    /// else that the paths are wrong, which is no profile's fault.
    async fn believed(&self, status: u16, path: &str, words: &str) -> Unread {
        match self.calls.read(self.door.path(&self.probe)).await {
            Ok(answer) if verdict(answer.status) == Verdict::Taken => Unread::NoSuch(
                format!("The network has no service of the profile: {words}").trim_end_matches(": ").into(),
            ),
            Ok(answer) if verdict(answer.status) == Verdict::NoSuch => {
                not_read(self.door.not_it(status, path)).into()
            }
            Ok(_) => RETRY.into(),
            Err(failed) => not_read(failed).into(),
        }
    }
}

impl From<Reply> for Unread {
    fn from(reply: Reply) -> Self {
        Self::Is(reply)
    }
}

impl From<Unread> for Reply {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::NoSuch(words) => rejected(&words),
            Unread::Is(reply) => reply,
        }
    }
}

/// What a reading comes to that was not answered: nothing was changed by it.
pub(super) fn not_read(failed: Failed) -> Reply {
    match failed {
        Failed::Trouble(trouble) => Reply::Unavailable(trouble),
        Failed::Lost => RETRY,
    }
}

/// Whether one of the names stands in a text of it, at any depth.
fn says_one_of(value: &Value, names: &[&str]) -> bool {
    match value {
        Value::String(text) => names.iter().any(|name| text.contains(name)),
        Value::Number(number) => names.contains(&number.to_string().as_str()),
        Value::Array(all) => all.iter().any(|one| says_one_of(one, names)),
        Value::Object(all) => all.values().any(|one| says_one_of(one, names)),
        Value::Null | Value::Bool(_) => false,
    }
}

/// A weak entity tag matches nothing. Source: RFC 9110 §13.1.1.
fn is_strong(etag: &str) -> bool {
    !etag.starts_with("W/")
}

fn missing(name: Name) -> &'static str {
    match name {
        Name::Imsi => "The profile's IMSI is not in the inventory, and this network knows profiles by it",
        Name::Msisdn => {
            "The profile's phone number is not in the inventory, and this network knows profiles by it"
        }
        Name::Iccid | Name::Eid => "The profile is not named as this network needs it",
    }
}
