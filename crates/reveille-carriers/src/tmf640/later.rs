//! What was accepted and not done yet.

use super::said::{self, AcceptedAs, Handle, Monitor, Verdict, Work, verdict};
use super::services::not_read;
use super::template::encoded;
use super::{DONE, Step, Tmf640, UNABLE, rejected};
use crate::{Operation, Reply};
use std::time::Duration;

/// When work that was accepted and has failed for a while is asked for again.
const FAILED_FOR_NOW: Duration = Duration::from_secs(60);

impl Tmf640 {
    /// Asks what became of what was accepted.
    pub(super) async fn ask(&self, operation: &Operation, handle: Handle) -> Step<Reply> {
        let end = self.end(operation.end_state).ok_or_else(|| rejected(UNABLE))?;
        let work = match &handle.accepted_as {
            AcceptedAs::Monitor(id) => self.monitored(id).await?,
            AcceptedAs::Nothing(_) => None,
        };
        if work == Some(Work::UnderWay) {
            let hints = handle.hints + u32::from(operation.heard.is_some());
            return Ok(self.pending(operation, Handle { hints, ..handle }, self.ask_after));
        }
        let found = self.read(&operation.into()).await?;
        self.hub.settled(&found.id);
        if end.is(&found.state) {
            return Ok(DONE);
        }
        let Some(Work::InError { status, words }) = work else {
            if operation.heard.is_some() {
                let hints = handle.hints + 1; // to change it again would bring the next hint
                return Ok(self.pending(operation, Handle { hints, ..handle }, self.ask_after));
            }
            return self.bring(operation).await;
        };
        match status.map(verdict) {
            Some(Verdict::Conflict | Verdict::Later | Verdict::PerhapsDone) => {
                let accepted_as = AcceptedAs::Nothing(operation.id.to_string().into());
                let handle = Handle { accepted_as, hints: handle.hints + 1, service: found.id };
                Ok(self.pending(operation, handle, FAILED_FOR_NOW))
            }
            _ => {
                let status = status.map(|status| format!(" {status}")).unwrap_or_default();
                Ok(rejected(
                    format!("The network accepted the change, and it failed:{status} {words}").trim_end(),
                ))
            }
        }
    }

    /// What a monitor says; nothing where it is gone, or is none.
    async fn monitored(&self, id: &str) -> Step<Option<Work>> {
        let path = self.door.path(&format!("/monitor/{}", encoded(id)));
        let answer = self.calls.read(path).await.map_err(not_read)?;
        match verdict(answer.status) {
            Verdict::Taken => {
                Ok(said::json(&answer.body).and_then(|value| Monitor::of(&value)).map(|monitor| monitor.work))
            }
            Verdict::NoSuch => Ok(None),
            _ => Err(Reply::RetryLater { after: answer.retry_after }),
        }
    }

    /// It was accepted, and is not done yet.
    pub(super) fn accepted(
        &self,
        operation: &Operation,
        service: Box<str>,
        monitor: Option<Box<str>>,
    ) -> Reply {
        let nothing = || AcceptedAs::Nothing(operation.id.to_string().into());
        let before = operation.accepted_as.as_deref().and_then(Handle::of);
        let hints = before.map_or(0, |before| before.hints + 1);
        let accepted_as = monitor.map_or_else(nothing, AcceptedAs::Monitor);
        self.pending(operation, Handle { accepted_as, hints, service }, self.ask_after)
    }

    pub(super) fn pending(&self, operation: &Operation, handle: Handle, ask_after: Duration) -> Reply {
        self.hub.waits(&handle, &operation.iccid);
        Reply::Pending { handle: handle.text(), ask_after }
    }
}
