//! Questions that are answered by callback: planned as pages when they are accepted, written when their turn
//! has come.

use crate::order::Item;
use crate::{Engine, Shared};
use reveille_domain::{Action, Position, Refusal, Timestamp};
use reveille_store::{HistorySpan, Page, PageContent, ProfileFilter, ProfileKey, Result, StoreError};
use reveille_wire::documents::{self, HistoryItem, ListedProfile};
use std::sync::Arc;

/// How many profiles or changes one callback tells: some 250 KB.
pub const PAGE_ENTRIES: usize = 500;

/// How many pages one answer has at most: as many as a request may have targets.
const PAGES_MAX: usize = 10_000;

impl Engine {
    /// The pages of a list of profiles; an empty one without a filter. Which there are is decided now, how they
    /// are when a page is written.
    ///
    /// # Errors
    /// `InvalidField`, where the answer would be too long; `StoreUnavailable`.
    pub async fn list_pages(&self, filter: Option<ProfileFilter>) -> std::result::Result<Vec<Page>, Refusal> {
        let keys = match filter {
            Some(filter) => {
                let matching = self.shared.store.matching(filter).await;
                matching.map_err(|error| crate::accept::refused(&error))?
            }
            None => Vec::new(),
        };
        let parts = keys.chunks(PAGE_ENTRIES).map(|part| PageContent::Profiles(part.into())).collect();
        numbered(parts)
    }

    /// The pages of the histories of the profiles that the filter lets through.
    ///
    /// # Errors
    /// `InvalidField`, where the answer would be too long; `StoreUnavailable`.
    pub async fn history_pages(
        &self,
        filter: ProfileFilter,
        from: Timestamp,
        until: Timestamp,
    ) -> std::result::Result<Vec<Page>, Refusal> {
        let refused = |error: StoreError| crate::accept::refused(&error);
        let keys = self.shared.store.matching(filter).await.map_err(refused)?;
        let mut parts = Vec::new();
        for profile in keys {
            let mut span = HistorySpan { from, until, after: BEFORE_ALL, limit: PAGE_ENTRIES };
            loop {
                let page = self.shared.store.history_span(profile, span).await.map_err(refused)?;
                let last = page.last().map(|view| view.position);
                parts.push(PageContent::History { profile, span });
                match last.filter(|_| page.len() == span.limit && parts.len() <= PAGES_MAX) {
                    Some(last) => span.after = last,
                    None => break,
                }
            }
        }
        numbered(parts)
    }
}

const BEFORE_ALL: Position = Position { sequence: 0, number: 0 };

/// The pages of an answer; one that says nothing where there is nothing to say.
fn numbered(mut parts: Vec<PageContent>) -> std::result::Result<Vec<Page>, Refusal> {
    if parts.is_empty() {
        parts.push(PageContent::Profiles(Arc::new([])));
    }
    if parts.len() > PAGES_MAX {
        let detail = format!(
            "the answer would have more than {} entries; ask with narrower filters",
            PAGES_MAX * PAGE_ENTRIES
        );
        return Err(Refusal::InvalidField { detail });
    }
    let of = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    Ok(parts.into_iter().map(|content| Page { of, content }).collect())
}

/// A page as the text that its callback has.
pub(crate) async fn document(shared: &Shared, item: &Item, page: &Page) -> Result<Box<str>> {
    let number = item.waiting.number;
    let text = match &page.content {
        PageContent::Profiles(_) if item.waiting.request.action == Action::DeviceHistory => {
            documents::device_history(number, page.of, None, &[]) // nothing was found
        }
        PageContent::Profiles(keys) => {
            let profiles = shared.store.profiles(keys.to_vec()).await?;
            let account = &item.waiting.request.account;
            let listed: Vec<ListedProfile<'_>> =
                profiles.iter().flatten().map(|profile| ListedProfile { account, profile }).collect();
            documents::device_list(number, page.of, &listed)
        }
        PageContent::History { profile, span } => history(shared, number, page.of, *profile, *span).await?,
    };
    Ok(text.into())
}

async fn history(
    shared: &Shared,
    number: u32,
    of: u32,
    key: ProfileKey,
    span: HistorySpan,
) -> Result<String> {
    let profile = shared.store.profiles(vec![key]).await?.into_iter().flatten().next();
    let views = shared.store.history_span(key, span).await?;
    let items: Vec<HistoryItem> = views
        .into_iter()
        .map(|view| HistoryItem {
            at: view.at,
            request: view.request,
            from: view.from,
            to: view.to,
            service_plan: view.plan.map(|plan| plan.to),
            in_doubt: view.in_doubt,
        })
        .collect();
    Ok(documents::device_history(number, of, profile.as_ref(), &items))
}
