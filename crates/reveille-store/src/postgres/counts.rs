//! What waits and what is untold, counted as it comes and goes.
//!
//! A transaction gathers what it adds and writes it last, in one order: nodes that share a place would lock each
//! other out otherwise, and a batch of many small requests would count each.

use super::connection::{Db, Sql};
use std::collections::BTreeMap;
use std::mem::take;

/// What a transaction adds.
#[derive(Clone, Default)]
pub(super) struct Counts {
    waiting: BTreeMap<Box<str>, i64>,
    untold: i64,
}

impl Counts {
    pub(super) fn add_waiting(&mut self, account: &str, more: i64) {
        *self.waiting.entry(account.into()).or_default() += more;
    }

    pub(super) fn add_untold(&mut self, more: i64) {
        self.untold += more;
    }

    pub(super) fn waiting_of(&self, account: &str) -> i64 {
        self.waiting.get(account).copied().unwrap_or(0)
    }

    pub(super) fn waiting(&self) -> i64 {
        self.waiting.values().sum()
    }
}

/// Writes what was gathered, in the connection's own place.
pub(super) fn write(db: &mut Db) -> Sql<()> {
    let counts = take(&mut db.counts);
    if counts.waiting.is_empty() && counts.untold == 0 {
        return Ok(());
    }
    let (slot, in_all) = (db.slot, counts.waiting());
    let (accounts, waiting): (Vec<Box<str>>, Vec<i64>) = counts.waiting.into_iter().unzip();
    db.execute(
        "WITH of_accounts AS
             (INSERT INTO account_backlog AS b (account, slot, waiting)
              SELECT k.account, $1, k.waiting FROM unnest($2::TEXT[], $3::BIGINT[]) AS k (account, waiting)
              ON CONFLICT (account, slot) DO UPDATE SET waiting = b.waiting + excluded.waiting)
         INSERT INTO backlog AS b (slot, waiting, untold) VALUES ($1, $4, $5)
         ON CONFLICT (slot) DO UPDATE SET waiting = b.waiting + excluded.waiting, untold = b.untold + excluded.untold",
        &[&slot, &accounts, &waiting, &in_all, &counts.untold],
    )?;
    Ok(())
}
