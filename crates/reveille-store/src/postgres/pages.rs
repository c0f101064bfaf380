//! What one callback of an answer covers.

use super::codes::{get, int, limit, read_at, read_u32};
use super::connection::{Db, Sql};
use crate::{HistorySpan, Page, PageContent, ProfileKey};
use reveille_domain::Position;
use tokio_postgres::Row;

pub(super) fn insert(db: &mut Db, at: Position, account: &str, page: &Page) -> Sql<()> {
    let (keys, history) = match &page.content {
        PageContent::Profiles(keys) => (Some(keys.iter().map(|key| key.0).collect::<Vec<i64>>()), None),
        PageContent::History { profile, span } => (None, Some((profile.0, span))),
    };
    let span = history.map(|(_, span)| span);
    db.execute(
        "INSERT INTO page (sequence, number, account, of_pages, profiles, profile, from_at, until_at,
                           after_sequence, after_number, row_limit)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        &[
            &at.sequence,
            &int(at.number),
            &account,
            &int(page.of),
            &keys,
            &history.map(|(profile, _)| profile),
            &span.map(|span| span.from.0),
            &span.map(|span| span.until.0),
            &span.map(|span| span.after.sequence),
            &span.map(|span| int(span.after.number)),
            &span.map(|span| i32::try_from(limit(span.limit)).unwrap_or(i32::MAX)),
        ],
    )?;
    Ok(())
}

/// The columns that `read` reads, of a table `page AS g`.
pub(super) const PAGE: &str = "g.of_pages, g.profiles AS page_profiles, g.profile AS page_profile, g.from_at, g.until_at, g.after_sequence, g.after_number, g.row_limit";

/// The page in a row; nothing where it has none.
pub(super) fn read(row: &Row) -> Sql<Option<Page>> {
    if get::<Option<i32>>(row, "of_pages")?.is_none() {
        return Ok(None);
    }
    let content = match get::<Option<Vec<i64>>>(row, "page_profiles")? {
        Some(keys) => PageContent::Profiles(keys.into_iter().map(ProfileKey).collect()),
        None => {
            PageContent::History { profile: ProfileKey(get(row, "page_profile")?), span: read_span(row)? }
        }
    };
    Ok(Some(Page { of: read_u32(row, "of_pages")?, content }))
}

fn read_span(row: &Row) -> Sql<HistorySpan> {
    Ok(HistorySpan {
        from: read_at(row, "from_at")?,
        until: read_at(row, "until_at")?,
        after: Position { sequence: get(row, "after_sequence")?, number: read_u32(row, "after_number")? },
        limit: usize::try_from(read_u32(row, "row_limit")?).unwrap_or(usize::MAX),
    })
}
