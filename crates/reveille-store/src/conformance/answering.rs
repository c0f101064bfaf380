//! Answers by callback: pages, documents, warnings, calls to carriers, and services apart from one another.

use super::Bench;
use super::house::{
    ALL, House, account, at, callbacks_of, delivered, exhausted, failed_until, iccid, outcome, outlet,
    recording, succeeded, told,
};
use crate::{
    CallbackName, HistorySpan, NewRequest, NewSubrequest, Outlet, Page, PageContent, ReplayScope,
    SettlingCall, Target, Tells, UnsettledCall, Waiting, Warning,
};
use reveille_domain::{Action, Left, ListenerName, Position, Service, Subject, Told};
use std::sync::Arc;

const BEFORE_ALL: Position = Position { sequence: 0, number: 0 };

/// A request whose subrequests are those pages.
async fn asking(house: &House, pages: &[Page]) -> NewRequest {
    let page = |page: &Page| NewSubrequest { subject: Subject::Page, target: Ok(Target::Page(page.clone())) };
    let subrequests = pages.iter().map(page).collect();
    NewRequest {
        action: Action::DeviceList,
        service_plan: None,
        subrequests,
        ..house.request_for(1, []).await
    }
}

/// Pages wait as they were planned, also after a restart.
pub async fn pages_wait_as_they_were_planned(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    let targets = house.resolve(&account(1), vec![iccid(1, 1), iccid(1, 2)]).await.expect("read");
    let keys: Arc<[_]> = targets.into_iter().flatten().map(|target| target.profile).collect();
    let span =
        HistorySpan { from: at(1), until: at(99), after: Position { sequence: 3, number: 4 }, limit: 7 };
    let pages = [
        Page { of: 3, content: PageContent::Profiles(Arc::clone(&keys)) },
        Page { of: 3, content: PageContent::History { profile: keys[0], span } },
        Page { of: 3, content: PageContent::Profiles(Arc::new([])) },
    ];
    let head = house.accepted(asking(&house, &pages).await).await;
    let house = house.reopened().await;
    let waits = house.waits(&head).await;
    for (waits, page) in waits.iter().zip(&pages) {
        assert_eq!((&waits.subject, &waits.target), (&Subject::Page, &Ok(Target::Page(page.clone()))));
    }
}

/// A document is kept with its outcome, and read by itself.
pub async fn a_document_is_kept_and_read_by_itself(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 0).await;
    let page = Page { of: 1, content: PageContent::Profiles(Arc::new([])) };
    let head = house.accepted(asking(&house, &[page]).await).await;
    let waits = house.waits(&head).await;
    let text = r#"{"deviceListResponse":{}}"#;
    let ended = recording(&waits[0], at(20), Ok(Left::Document(text.into())), Vec::new());
    house.record(vec![ended]).await.expect("recorded");
    let due = house.due(&outlet(1), at(99), ALL).await.expect("read");
    assert_eq!(due[0].told.result, Ok(Left::Document("".into())), "it is large");
    let read = house.document(waits[0].position()).await.expect("read");
    assert_eq!(read.as_deref(), Some(text));
    assert_eq!(house.told(&head, 1).await.0.callback.told.result, Ok(Left::Document(text.into())));
    assert_eq!(house.document(Position { sequence: 99, number: 1 }).await.expect("read"), None);
}

/// A part of a history is told in pages that leave nothing out.
pub async fn a_history_is_told_in_pages(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    for seconds in [20, 30, 40, 50] {
        house.resumed(1, [1], at(seconds)).await;
    }
    let target = house.resolve(&account(1), vec![iccid(1, 1)]).await.expect("read")[0].expect("a profile");
    let whole = house.history(&iccid(1, 1), ALL).await.expect("read");
    let span = HistorySpan { from: at(0), until: at(99), after: BEFORE_ALL, limit: 3 };
    let page = async |span| house.history_span(target.profile, span).await.expect("read");
    assert_eq!(page(span).await, whole[..3]);
    assert_eq!(page(HistorySpan { after: whole[2].position, ..span }).await, whole[3..]);
    assert_eq!(page(HistorySpan { from: at(30), until: at(50), ..span }).await, whole[1..3]);
}

pub(super) fn warning(waiting: &Waiting, seconds: i64) -> Warning {
    let Waiting { request, number, subject, .. } = waiting;
    let told: Told = told(subject, Ok(Left::Waiting));
    Warning { request: Arc::clone(request), number: *number, at: at(seconds), told }
}

fn of(waiting: &Waiting) -> CallbackName {
    CallbackName {
        request: waiting.request.id,
        number: waiting.number,
        tells: Tells::Warning,
        listener: ListenerName::OWN,
    }
}

/// A subrequest is warned of once, while it waits; its outcome has a callback of its own.
pub async fn a_subrequest_is_warned_of_once_while_it_waits(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    let head = house.resuming(1, [1, 2]).await;
    let waits = house.waits(&head).await;
    let ended = succeeded(&waits[1], at(15));
    house.record(vec![ended]).await.expect("recorded");
    let written =
        house.warn(vec![warning(&waits[0], 20), warning(&waits[0], 21), warning(&waits[1], 20)]).await;
    assert_eq!(written.expect("written").each, [true, false, false]);
    assert_eq!(house.warn(vec![warning(&waits[0], 22)]).await.expect("written").each, [false]);
    house.record(vec![succeeded(&waits[0], at(30))]).await.expect("recorded");
    let (view, _) = house.callback(of(&waits[0])).await.expect("read").expect("a warning");
    assert_eq!((view.recorded_at, view.callback.told.clone()), (at(20), warning(&waits[0], 20).told));
    let listed = house.callbacks(callbacks_of(&account(1))).await.expect("read");
    let names: Vec<_> = listed.iter().map(|view| view.callback.name()).collect();
    assert_eq!(names, [outcome(&head, 1), of(&waits[0]), outcome(&head, 2)]);
    let second = crate::CallbackFilter { after: Some(names[0]), limit: 1, ..callbacks_of(&account(1)) };
    assert_eq!(house.callbacks(second).await.expect("read")[0].callback.name(), names[1]);
}

/// A warning is attempted, archived and replayed like any callback, and counts in no request.
pub async fn a_warning_counts_in_no_request(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let head = house.resuming(1, [1]).await;
    let waits = house.waits(&head).await;
    house.warn(vec![warning(&waits[0], 20)]).await.expect("written");
    assert_eq!(house.backlog().await.expect("read").untold, 1);
    let marked = async |how| {
        let due = house.due(&outlet(1), at(99), ALL).await.expect("read");
        house.mark(vec![super::house::mark(&due[0], at(40), how)]).await.expect("marked");
    };
    marked(failed_until(at(41))).await;
    marked(exhausted()).await;
    assert_eq!(house.backlog().await.expect("read").untold, 0);
    let view = house.view(head.id).await;
    assert_eq!((view.callbacks_archived, view.callbacks_delivered), (0, 0));
    let one = ReplayScope::One(of(&waits[0]));
    assert_eq!(house.replay(one, at(50), ALL).await.expect("replayed").callbacks, 1);
    marked(delivered()).await;
    let (_, attempts) = house.callback(of(&waits[0])).await.expect("read").expect("a warning");
    let ordinals: Vec<_> = attempts.iter().map(|attempt| (attempt.series, attempt.ordinal)).collect();
    assert_eq!(ordinals, [(1, 1), (1, 2), (2, 1)]);
    house.end(&head, at(60)).await;
    house.deliver_all(&head, at(61)).await;
    let view = house.view(head.id).await;
    assert_eq!((view.callbacks_delivered, house.backlog().await.expect("read").untold), (1, 0));
}

/// A warning that waits to be sent again ends with its subrequest: nobody is warned of what has ended.
pub async fn a_warning_ends_with_its_subrequest(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let request = NewRequest { action: Action::Enable, ..house.request_for(1, [1]).await };
    let head = house.accepted(request).await;
    let waits = house.waits_of(Arc::clone(&head)).await;
    house.warn(vec![warning(&waits[0], 20)]).await.expect("written");
    let due = house.due(&outlet(1), at(99), ALL).await.expect("read");
    house.mark(vec![super::house::mark(&due[0], at(21), failed_until(at(50)))]).await.expect("marked");
    house.record(vec![succeeded(&waits[0], at(30))]).await.expect("recorded");
    let due: Vec<_> = house.due(&outlet(1), at(99), ALL).await.expect("read");
    assert_eq!(due.iter().map(crate::Callback::name).collect::<Vec<_>>(), [outcome(&head, 1)]);
    let (view, _) = house.callback(of(&waits[0])).await.expect("read").expect("a warning");
    assert_eq!((view.archived, view.ended_at), (Some(crate::ArchiveReason::Overtaken), Some(at(30))));
    house.deliver_all(&head, at(61)).await;
    assert_eq!(house.backlog().await.expect("read").untold, 0);
}

/// Callbacks of different services do not mix.
pub async fn services_do_not_mix(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 2).await;
    let asked = house.resumed(1, [1], at(20)).await;
    let outside = NewRequest { action: Action::ExternalChange, ..house.request_for(1, [2]).await };
    let outside = house.accepted(outside).await;
    house.end(&outside, at(30)).await;
    let changes = Outlet { service: Service::ExternalChanges, ..outlet(1) };
    let due = async |outlet: &Outlet| house.due(outlet, at(99), ALL).await.expect("read");
    assert_eq!(due(&outlet(1)).await[0].request.id, asked.id);
    let [other] = &due(&changes).await[..] else { panic!("one callback") };
    assert_eq!((other.request.id, other.outlet()), (outside.id, changes.clone()));
    assert_eq!(house.untold().await.expect("read"), [(outlet(1), at(20)), (changes.clone(), at(30))]);
    assert_eq!(house.next_due(&changes, at(0)).await.expect("read"), Some(at(30)));
    house.marked(&outside, 1, at(40), exhausted()).await;
    let archived = async |outlet: &Outlet| house.archived(outlet).await.expect("counted");
    assert_eq!((archived(&outlet(1)).await, archived(&changes).await), (0, 1));
}

/// The calls to a carrier stand in the timeline: those that settled nothing, then the one that did.
pub async fn calls_to_carriers_stand_in_the_timeline(bench: &dyn Bench) {
    let house = House::with_fleet(bench, 1).await;
    let waits = house.waits_of(house.resuming(1, [1]).await).await;
    let unsettled = |ordinal: u32, seconds, reply| UnsettledCall {
        position: waits[0].position(),
        account: account(1),
        ordinal,
        began_at: at(seconds),
        ended_at: at(seconds + 1),
        reply,
    };
    house
        .note_calls(vec![unsettled(1, 11, "unknown"), unsettled(2, 13, "retry_later")])
        .await
        .expect("noted");
    house.note_calls(vec![unsettled(1, 50, "unknown")]).await.expect("noted");
    let call = SettlingCall { ordinal: 3, began_at: at(15), reply: "already_so" };
    let ended = crate::Recording { call: Some(call), ..succeeded(&waits[0], at(16)) };
    house.record(vec![ended]).await.expect("recorded");
    let timeline = house.timeline(&iccid(1, 1), BEFORE_ALL, ALL).await.expect("read");
    let calls: Vec<_> = timeline[0]
        .calls
        .iter()
        .map(|call| (call.ordinal, call.began_at, call.ended_at, &*call.reply))
        .collect();
    let expected = [
        (1, at(11), at(12), "unknown"),
        (2, at(13), at(14), "retry_later"),
        (3, at(15), at(16), "already_so"),
    ];
    assert_eq!(calls, expected);
}
