//! A subscriber as its document has it, and what an operation changes in it: values in, values out.
//!
//! Beside the operator's own fields there is one of ours, `reveille`, with the number of our writes and with what
//! was taken by us. Fields: Open5GS 2.7, `lib/dbi/subscription.c`; seen of nextepc-hss 0.3.10.

use super::config::Mode;
use mongodb::bson::{Bson, Document, doc};
use reveille_domain::Imsi;

/// What stands before the IMSI of a subscriber that the network shall not find.
const HIDDEN: &str = "suspended:";

/// Subscriber-Status: service granted, operator-determined barring. Source: 3GPP TS 29.272, clause 7.3.29. An HSS
/// reads 32-bit numbers and passes over others, as if nothing were written.
const GRANTED: i32 = 0;
const BARRED: i32 = 1;

/// The IMSI of a subscriber that is hidden.
fn hidden(imsi: &Imsi) -> String {
    format!("{HIDDEN}{}", imsi.as_str())
}

/// Both forms in which a subscriber may be found.
pub(super) fn forms(imsi: &Imsi) -> [String; 2] {
    [imsi.as_str().into(), hidden(imsi)]
}

/// The fields that are asked for: never the keys.
pub(super) fn fields() -> Document {
    doc! { "imsi": 1, STATUS: 1, BARRING: 1, CANCEL: 1, OURS: 1 }
}

const STATUS: &str = "subscriber_status";
const BARRING: &str = "operator_determined_barring";
const CANCEL: &str = "request_cancel_location";
const OURS: &str = "reveille";
const WRITES: &str = "reveille.writes";
const HIDDEN_BY_US: &str = "reveille.hidden";
const BARRED_BY_US: &str = "reveille.barred";

/// One document of the collection.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Subscriber {
    found: Document,
}

/// What a profile is found to be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Found {
    /// Nobody, in either form.
    Nobody,
    One(Subscriber),
    /// Somebody has made it anew while it was hidden, or it is there twice: the one that the network finds.
    Twice(Subscriber),
}

/// What is to be written, and what that comes to once it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) change: Document,
    pub(super) comes_to: ComesTo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ComesTo {
    Done,
    /// Done, though we had brought it to that before: somebody else has undone it meanwhile.
    DoneAgain,
    AlreadySo,
    /// Somebody else has taken the access, and it is theirs to give.
    TakenByOthers,
}

impl Found {
    /// Makes sense of the documents in which either form of an IMSI was found.
    pub(super) fn of(mut documents: Vec<Document>) -> Self {
        documents.sort_by_key(Subscriber::is_hidden_in);
        let many = documents.len() > 1;
        match documents.into_iter().next() {
            None => Self::Nobody,
            Some(found) if many => Self::Twice(Subscriber { found }),
            Some(found) => Self::One(Subscriber { found }),
        }
    }
}

impl Subscriber {
    fn is_hidden_in(document: &Document) -> bool {
        document.get_str("imsi").is_ok_and(|imsi| imsi.starts_with(HIDDEN))
    }

    fn is_hidden(&self) -> bool {
        Self::is_hidden_in(&self.found)
    }

    fn is_barred(&self) -> bool {
        self.found.get(STATUS) == Some(&Bson::Int32(BARRED))
    }

    fn ours(&self, key: &str) -> Option<&Bson> {
        self.found.get_document(OURS).ok()?.get(key)
    }

    fn hidden_by_us(&self) -> bool {
        self.ours("hidden").is_some()
    }

    fn barred_by_us(&self) -> bool {
        self.ours("barred").is_some()
    }

    /// Whether the network gives it access, as far as the HSS is concerned.
    pub(super) fn is_in_service(&self) -> bool {
        !self.is_hidden() && !self.is_barred()
    }

    /// Whether the HSS would take the next request to have it detached for one that it knows.
    pub(super) fn cancel_is_asked_for(&self) -> bool {
        self.found.get_bool(CANCEL).unwrap_or(false)
    }

    /// What matches this subscriber as long as nobody has changed what a decision rests on.
    pub(super) fn unchanged(&self) -> Document {
        let ours = self.found.get_document(OURS).ok();
        let as_found =
            |value: Option<&Bson>| value.cloned().unwrap_or_else(|| doc! { "$exists": false }.into());
        doc! {
            "_id": as_found(self.found.get("_id")),
            "imsi": as_found(self.found.get("imsi")),
            STATUS: as_found(self.found.get(STATUS)),
            WRITES: as_found(ours.and_then(|ours| ours.get("writes"))),
        }
    }

    fn writes(&self) -> i64 {
        self.ours("writes").and_then(Bson::as_i64).unwrap_or(0)
    }

    /// A change that says no more than that we were here. Whatever was sent before matches no longer.
    pub(super) fn touch(&self) -> Document {
        doc! { "$set": { WRITES: self.writes() + 1 } }
    }

    /// The request to have it detached, or that taken back; and the subscriber as it is then.
    pub(super) fn cancel(&self, asked_for: bool) -> (Document, Self) {
        let writes = self.writes() + 1;
        let mut next = self.clone();
        let mut ours = self.found.get_document(OURS).cloned().unwrap_or_default();
        ours.insert("writes", writes);
        next.found.insert(OURS, ours);
        next.found.insert(CANCEL, asked_for);
        (doc! { "$set": { WRITES: writes, CANCEL: asked_for } }, next)
    }

    /// Gives it access. What somebody else has taken is left alone.
    pub(super) fn give(&self, imsi: &Imsi) -> Step {
        let taken_by_others =
            self.is_barred() && !self.barred_by_us() || self.is_hidden() && !self.hidden_by_us();
        if taken_by_others {
            return Step { change: self.touch(), comes_to: ComesTo::TakenByOthers };
        }
        let mut set = doc! { WRITES: self.writes() + 1 };
        let mut unset = doc! {};
        if self.is_hidden() {
            set.insert("imsi", imsi.as_str());
        }
        if self.hidden_by_us() {
            unset.insert(HIDDEN_BY_US, "");
        }
        if let Some(before) = self.ours("barred") {
            unset.insert(BARRED_BY_US, "");
            if self.is_barred() {
                set.insert(STATUS, GRANTED);
                match before {
                    Bson::Int32(_) => drop(set.insert(BARRING, before.clone())),
                    _ => drop(unset.insert(BARRING, "")),
                }
            }
        }
        let comes_to = if self.is_in_service() { ComesTo::AlreadySo } else { ComesTo::Done };
        let change = if unset.is_empty() {
            doc! { "$set": set }
        } else {
            doc! { "$set": set, "$unset": unset }
        };
        Step { change, comes_to }
    }

    /// Takes its access, in that mode. One that has none already is left as it is, whoever took it.
    pub(super) fn take(&self, imsi: &Imsi, mode: Mode, barring: i32) -> Step {
        let taken = self.is_hidden() || mode == Mode::Status && self.is_barred();
        if taken {
            return Step { change: self.touch(), comes_to: ComesTo::AlreadySo };
        }
        let mut set = doc! { WRITES: self.writes() + 1 };
        let undone = match mode {
            Mode::Hide => {
                set.insert("imsi", hidden(imsi));
                set.insert(HIDDEN_BY_US, true);
                if self.found.contains_key(CANCEL) {
                    set.insert(CANCEL, false);
                }
                self.hidden_by_us()
            }
            Mode::Status => {
                let now = self.found.get(BARRING).filter(|value| matches!(value, Bson::Int32(_)));
                let before = self.ours("barred").or(now).cloned().unwrap_or(Bson::Null);
                set.insert(BARRED_BY_US, before);
                set.insert(STATUS, BARRED);
                set.insert(BARRING, barring);
                self.barred_by_us()
            }
        };
        Step {
            change: doc! { "$set": set },
            comes_to: if undone { ComesTo::DoneAgain } else { ComesTo::Done },
        }
    }
}
