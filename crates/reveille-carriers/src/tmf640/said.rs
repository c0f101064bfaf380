//! What a server says, and what that comes to. Source: TMF640 v4.0.0; v3.0.0 where it says so.

use super::template::{decoded, encoded};
use crate::http::Answer;
use reveille_domain::Iccid;
use serde_json::Value;

/// How many characters of a server's words are told on.
const WORDS_MAX: usize = 300;

/// What the status of an answer means for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was taken.
    Taken,
    /// Nothing is there.
    NoSuch,
    /// It is otherwise there than was thought.
    Conflict,
    /// Not now, and nothing was done.
    Later,
    /// Not now, and it may have been done all the same.
    PerhapsDone,
    /// Refused for good.
    Refused,
    /// That is no such server, or not its path.
    NotIt,
}

/// What that status means. 401 and 403 are seen to before.
pub(super) fn verdict(status: u16) -> Verdict {
    match status {
        200..=299 => Verdict::Taken,
        404 | 410 => Verdict::NoSuch,
        409 | 412 => Verdict::Conflict,
        423 | 425 | 429 => Verdict::Later,
        408 | 500..=599 => Verdict::PerhapsDone,
        400..=499 => Verdict::Refused,
        _ => Verdict::NotIt,
    }
}

/// A service, as far as it concerns us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) id: Option<Box<str>>,
    pub(super) state: Option<Box<str>>,
}

impl Service {
    pub(super) fn of(value: &Value) -> Self {
        Self { id: id_of(value), state: text(&value["state"]) }
    }
}

/// Where work that was accepted stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Work {
    UnderWay,
    Completed,
    InError {
        /// The status that the change would have been answered with, where it says so.
        status: Option<u16>,
        words: String,
    },
}

/// A monitor: the id of work that was accepted, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Monitor {
    pub(super) id: Option<Box<str>>,
    pub(super) work: Work,
}

impl Monitor {
    /// It; nothing where that is no monitor: a service has states of another spelling.
    pub(super) fn of(value: &Value) -> Option<Self> {
        let state = value["state"].as_str()?;
        let is = |name: &str| state.eq_ignore_ascii_case(name);
        let response = &value["response"];
        let status = number(&response["statusCode"]).and_then(|status| u16::try_from(status).ok());
        let failed = || Work::InError { status, words: words_in(&response["body"]) };
        let work = if is("InProgress") {
            Work::UnderWay
        } else if is("InError") || is("Completed") && status.is_some_and(|status| status >= 400) {
            failed()
        } else if is("Completed") {
            Work::Completed
        } else {
            return None;
        };
        Some(Self { id: id_of(value), work })
    }
}

/// The monitor that an answer of 202 names.
pub(super) fn monitor_in(answer: &Answer) -> Option<Box<str>> {
    let told = json(&answer.body).and_then(|value| Monitor::of(&value)?.id);
    told.or_else(|| {
        let (_, id) = answer.location.as_deref()?.split_once("/monitor/")?;
        last_segment(id)
    })
}

/// What an event is about: no more than a hint to look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) service: Option<Box<str>>,
    pub(super) monitor: Option<Box<str>>,
    pub(super) iccid: Option<Iccid>,
}

impl Event {
    /// It; nothing where that is no event. Of one that says that work is still under way there is nothing to know.
    pub(super) fn of(body: &[u8]) -> Option<Self> {
        let value = json(body)?;
        let event = value.get("event").filter(|event| event.is_object())?;
        let (service, monitor) = (&event["service"], &event["monitor"]);
        if Monitor::of(monitor).is_some_and(|monitor| monitor.work == Work::UnderWay) {
            return Some(Self::default());
        }
        let source = monitor["sourceHref"].as_str().and_then(last_segment);
        let named =
            |one: &&Value| one["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case("iccid"));
        let characteristics = service["serviceCharacteristic"].as_array();
        let iccid = characteristics.and_then(|all| text(&all.iter().find(named)?["value"]));
        Some(Self {
            service: id_of(service).or(source),
            monitor: id_of(monitor),
            iccid: iccid.and_then(|iccid| iccid.parse().ok()),
        })
    }
}

/// A server's words about a refusal, in whichever shape: `{code, reason, message}`, code a text or a number, or
/// `{detail}`. Nothing else of a body is told on.
pub(super) fn words(body: &[u8]) -> String {
    json(body).map(|value| words_in(&value)).unwrap_or_default()
}

fn words_in(value: &Value) -> String {
    if let Value::String(text) = value {
        return serde_json::from_str(text)
            .ok()
            .filter(Value::is_object)
            .map(|inner| words_in(&inner))
            .unwrap_or_default();
    }
    let detail = match &value["detail"] {
        Value::Array(all) => {
            let each: Vec<&str> = all.iter().filter_map(|one| one["msg"].as_str()).collect();
            not_empty(&each.join("; "))
        }
        detail => text(detail),
    };
    let said = [text(&value["code"]), text(&value["reason"]), text(&value["message"]), detail];
    let said = said.into_iter().flatten().collect::<Vec<_>>().join(" ");
    said.chars().filter(|letter| !letter.is_control()).take(WORDS_MAX).collect()
}

pub(super) fn json(body: &[u8]) -> Option<Value> {
    serde_json::from_slice(body).ok()
}

/// What something is called: its `id`, or what its `href` ends with.
fn id_of(value: &Value) -> Option<Box<str>> {
    text(&value["id"]).or_else(|| last_segment(value["href"].as_str()?))
}

fn last_segment(href: &str) -> Option<Box<str>> {
    let path = href.split(['?', '#']).next()?.trim_end_matches('/');
    not_empty(&decoded(path.rsplit('/').next()?)?)
}

/// A text that is not empty, or a number as text.
fn text(value: &Value) -> Option<Box<str>> {
    match value {
        Value::String(text) => not_empty(text),
        Value::Number(number) => Some(number.to_string().into()),
        _ => None,
    }
}

fn not_empty(text: &str) -> Option<Box<str>> {
    Some(text).filter(|text| !text.is_empty()).map(Into::into)
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// Under what work was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AcceptedAs {
    /// The id of its monitor.
    Monitor(Box<str>),
    /// Nothing that could be asked about: the operation's own id.
    Nothing(Box<str>),
}

/// What is kept of an operation that was accepted, and comes back with it. Its name, before the `#`, is another after
/// each hint that came too early: of one name, one hint is heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Handle {
    pub(super) accepted_as: AcceptedAs,
    pub(super) hints: u32,
    /// The id of the service.
    pub(super) service: Box<str>,
}

impl Handle {
    pub(super) fn name(&self) -> String {
        let of = match &self.accepted_as {
            AcceptedAs::Monitor(id) => encoded(id),
            AcceptedAs::Nothing(operation) => format!("={}", encoded(operation)),
        };
        if self.hints == 0 { of } else { format!("{of}~{}", self.hints) }
    }

    pub(super) fn text(&self) -> Box<str> {
        format!("{}#{}", self.name(), encoded(&self.service)).into()
    }

    /// What a handle of ours says; nothing where it is none of ours.
    pub(super) fn of(text: &str) -> Option<Self> {
        let (name, service) = text.split_once('#')?;
        let (of, hints) = name.split_once('~').unwrap_or((name, "0"));
        let accepted_as = match of.strip_prefix('=') {
            Some(operation) => AcceptedAs::Nothing(decoded(operation)?.into()),
            None => AcceptedAs::Monitor(decoded(of)?.into()),
        };
        Some(Self { accepted_as, hints: hints.parse().ok()?, service: decoded(service)?.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, location: Option<&str>, body: &str) -> Answer {
        let body = body.to_owned().into();
        Answer { status, retry_after: None, etag: None, location: location.map(Into::into), body }
    }

    #[test]
    fn refusals_of_every_shape_are_read() {
        for (body, expected) in [
            (
                r#"{"code":"22","reason":"Invalid body","message":"No enum match","status":"400"}"#,
                "22 Invalid body No enum match",
            ),
            (r#"{"code":60,"reason":"Resource not found"}"#, "60 Resource not found"),
            (r#"{"detail":"Service x not found"}"#, "Service x not found"),
            (
                r#"{"detail":[{"loc":["body"],"msg":"Field required"},{"msg":"and more"}]}"#,
                "Field required; and more",
            ),
            ("<html>secret</html>", ""),
            ("[]", ""),
            ("", ""),
        ] {
            assert_eq!(words(body.as_bytes()), expected, "{body}");
        }
        let long = format!(r#"{{"reason":"{}"}}"#, "x\\n".repeat(1_000));
        assert_eq!(words(long.as_bytes()), "x".repeat(WORDS_MAX));
    }

    #[test]
    fn statuses_mean_what_the_documents_say() {
        use Verdict::{Conflict, Later, NoSuch, NotIt, PerhapsDone, Refused, Taken};
        for (status, expected) in [
            (200, Taken),
            (201, Taken),
            (202, Taken),
            (204, Taken),
            (301, NotIt),
            (400, Refused),
            (404, NoSuch),
            (405, Refused),
            (408, PerhapsDone),
            (409, Conflict),
            (410, NoSuch),
            (412, Conflict),
            (422, Refused),
            (423, Later),
            (425, Later),
            (429, Later),
            (500, PerhapsDone),
            (503, PerhapsDone),
        ] {
            assert_eq!(verdict(status), expected, "{status}");
        }
    }

    #[test]
    fn a_monitor_says_where_work_stands() {
        let of = |text: &str| Monitor::of(&json(text.as_bytes()).unwrap()).map(|monitor| monitor.work);
        assert_eq!(of(r#"{"id":"1","state":"InProgress"}"#), Some(Work::UnderWay));
        assert_eq!(of(r#"{"state":"Completed","response":{"statusCode":"200"}}"#), Some(Work::Completed));
        let failed = |status, words: &str| Some(Work::InError { status, words: words.into() });
        let body = r#"{"state":"InError","response":{"statusCode":"422","body":"{\"code\":\"9\",\"reason\":\"no\"}"}}"#;
        assert_eq!(of(body), failed(Some(422), "9 no"));
        assert_eq!(
            of(r#"{"state":"InError","response":{"statusCode":503,"body":{"detail":"busy"}}}"#),
            failed(Some(503), "busy")
        );
        assert_eq!(of(r#"{"state":"Completed","response":{"statusCode":"404"}}"#), failed(Some(404), ""));
        assert_eq!(of(r#"{"state":"InError"}"#), failed(None, ""));
        assert_eq!(of(r#"{"id":"1","state":"active"}"#), None, "that is a service");
        assert_eq!(of("[]"), None);
    }

    #[test]
    fn what_was_accepted_names_its_monitor() {
        let id = |location, body| monitor_in(&answer(202, location, body));
        assert_eq!(id(None, r#"{"id":"m 1","state":"InProgress"}"#).as_deref(), Some("m 1"));
        assert_eq!(
            id(None, r#"{"href":"http://other/x/monitor/7","state":"InProgress"}"#).as_deref(),
            Some("7")
        );
        assert_eq!(id(Some("http://other/tmf/monitor/a%2Fb?x=1"), "").as_deref(), Some("a/b"));
        assert_eq!(id(Some("/tmf/service/7"), r#"{"id":"7","state":"active"}"#), None);
    }

    #[test]
    fn an_event_names_what_it_is_about() {
        let of = |text: &str| Event::of(text.as_bytes());
        let about = |service: Option<&str>, monitor: Option<&str>| {
            Some(Event { service: service.map(Into::into), monitor: monitor.map(Into::into), iccid: None })
        };
        assert_eq!(
            of(r#"{"eventId":"1","event":{"service":{"id":"s","state":"active"}}}"#),
            about(Some("s"), None)
        );
        assert_eq!(of(r#"{"event":{"service":{"href":"/x/service/s%201"}}}"#), about(Some("s 1"), None));
        let done =
            r#"{"event":{"monitor":{"id":"m","state":"Completed","sourceHref":"http://h/service/s"}}}"#;
        assert_eq!(of(done), about(Some("s"), Some("m")));
        assert_eq!(
            of(r#"{"event":{"monitor":{"id":"m","state":"InProgress"}}}"#),
            about(None, None),
            "no news"
        );
        let with = r#"{"event":{"service":{"id":"s","serviceCharacteristic":[{"name":"x","value":1},{"name":"ICCID","value":"89148000000000000019"}]}}}"#;
        assert_eq!(of(with).unwrap().iccid.unwrap().as_str(), "89148000000000000019");
        assert_eq!((of("{}"), of(r#"{"event":1}"#), of("[]"), of("x")), (None, None, None, None));
    }

    #[test]
    fn a_handle_comes_back_as_it_was_and_has_another_name_after_each_hint() {
        for accepted_as in [AcceptedAs::Monitor("m/1 ~#=".into()), AcceptedAs::Nothing("r.1".into())] {
            let mut names = Vec::new();
            for hints in [0, 1, 12] {
                let handle = Handle { accepted_as: accepted_as.clone(), hints, service: "s#~ 1".into() };
                assert_eq!(Handle::of(&handle.text()), Some(handle.clone()));
                assert_eq!(crate::name_in(&handle.text()), handle.name());
                names.push(handle.name());
            }
            names.dedup();
            assert_eq!(names.len(), 3);
        }
        assert_eq!(Handle::of("of another adapter"), None);
    }
}
