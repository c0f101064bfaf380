//! Many clients at once on the same profiles: what happens is as if they had asked one after the other, in the
//! order of the store.

use crate::app::{App, action_body, action_path};
use crate::fleet::{self, iccid};
use reveille_domain::{Action, ProfileState, SuspendedBy};
use reveille_store::{HistoryView, RequestFilter, RequestView, SubrequestFilter};
use serde_json::json;
use std::collections::HashMap;

const CLIENTS: usize = 24;
const REQUESTS_EACH: usize = 20;
const PROFILES: usize = 5;

const SUSPENDED: ProfileState = ProfileState::Suspended(SuspendedBy::Profile);

/// What a serial life of one profile comes to: the states after each action, and which of them were faults.
fn serially(actions: &[Action]) -> (ProfileState, Vec<bool>) {
    let mut state = ProfileState::Active;
    let mut succeeded = Vec::new();
    for action in actions {
        let to = if *action == Action::ProfileSuspend { SUSPENDED } else { ProfileState::Active };
        succeeded.push(to != state);
        state = to;
    }
    (state, succeeded)
}

async fn requests(app: &App) -> Vec<RequestView> {
    let account = crate::app::ACCOUNT.parse().unwrap();
    let all = RequestFilter { account, ended: None, after: None, limit: 10_000 };
    let mut requests = app.store().requests(all).await.unwrap();
    requests.reverse();
    requests
}

#[tokio::test]
async fn clients_that_suspend_and_resume_the_same_profiles_leave_a_serial_history() {
    let iccids = fleet::iccids(0, PROFILES);
    let app = App::with_fleet(&fleet::of(&iccids, "global active")).await;
    let caller = app.log_in("demo", "demo-password").await;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let (caller, iccids) = (caller.clone(), iccids.clone());
        clients.spawn(async move {
            let mut answers = Vec::new();
            for turn in 0..REQUESTS_EACH {
                let action = if (client + turn) % 2 == 0 { "profile_suspend" } else { "profile_resume" };
                let answer = caller.post(&action_path(action), &action_body(&iccids, json!({}))).await;
                answers.push(answer.request_id().to_owned());
            }
            answers
        });
    }
    let mut each = Vec::new();
    while let Some(answers) = clients.join_next().await {
        each.push(answers.unwrap());
    }
    app.settle().await;
    let requests = requests(&app).await;
    assert_eq!(requests.len(), CLIENTS * REQUESTS_EACH);
    a_client_that_waited_for_its_answer_is_served_in_its_order(&requests, &each);
    let actions: Vec<Action> = requests.iter().map(|view| view.head.action).collect();
    let (last, succeeded) = serially(&actions);
    for (view, succeeded) in requests.iter().zip(&succeeded) {
        let all =
            SubrequestFilter { request: view.head.id, state: None, fault: None, after: 0, limit: PROFILES };
        let outcomes = app.store().subrequests(all).await.unwrap();
        assert!(outcomes.iter().all(|outcome| outcome.fault.is_none() == *succeeded), "{:?}", view.head.id);
    }
    let changes: Vec<_> = requests.iter().zip(&succeeded).filter(|(_, done)| **done).collect();
    for number in 0..PROFILES {
        let iccid = iccid(number).parse().unwrap();
        let history: Vec<HistoryView> = app.store().history(&iccid, 10_000).await.unwrap();
        let made_by: Vec<_> = history.iter().map(|change| change.request.unwrap().0).collect();
        assert_eq!(made_by, changes.iter().map(|(view, _)| view.head.id).collect::<Vec<_>>());
        assert!(history.windows(2).all(|pair| pair[0].to == pair[1].from));
        let profile = app.store().profile(&iccid).await.unwrap().unwrap().profile;
        assert_eq!(profile.state, last, "the last that was accepted wins");
    }
}

/// Promise 4: if one request's 200 left before another was sent, it takes effect first.
fn a_client_that_waited_for_its_answer_is_served_in_its_order(
    requests: &[RequestView],
    each: &[Vec<String>],
) {
    let places: HashMap<String, usize> =
        requests.iter().enumerate().map(|(place, view)| (view.head.id.to_string(), place)).collect();
    for answers in each {
        let order: Vec<usize> = answers.iter().map(|id| places[id]).collect();
        assert!(order.is_sorted(), "{order:?}");
    }
}
