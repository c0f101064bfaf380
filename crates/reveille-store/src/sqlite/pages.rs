//! What one callback of an answer covers.

use super::codes::read_at;
use crate::{HistorySpan, Page, PageContent, ProfileKey};
use reveille_domain::Position;
use rusqlite::{Connection, Row, named_params, params};

pub(super) fn insert(db: &Connection, at: Position, account: &str, page: &Page) -> rusqlite::Result<()> {
    let (keys, history) = match &page.content {
        PageContent::Profiles(keys) => (Some(bytes_of(keys)), None),
        PageContent::History { profile, span } => (None, Some((profile, span))),
    };
    let span = history.map(|(_, span)| span);
    let mut insert = db.prepare_cached(
        "INSERT INTO page (sequence, number, account, of_pages, profiles, profile, from_at, until_at,
                           after_sequence, after_number, row_limit)
         VALUES (:sequence, :number, :account, :of, :profiles, :profile, :from, :until, :after_sequence,
                 :after_number, :limit)",
    )?;
    insert.execute(named_params! {
        ":sequence": at.sequence, ":number": at.number, ":account": account, ":of": page.of, ":profiles": keys,
        ":profile": history.map(|(profile, _)| profile.0), ":from": span.map(|span| span.from.0),
        ":until": span.map(|span| span.until.0), ":after_sequence": span.map(|span| span.after.sequence),
        ":after_number": span.map(|span| span.after.number), ":limit": span.map(|span| span.limit),
    })?;
    Ok(())
}

pub(super) fn read(db: &Connection, at: Position) -> rusqlite::Result<Page> {
    let mut select = db.prepare_cached(
        "SELECT of_pages, profiles, profile, from_at, until_at, after_sequence, after_number, row_limit FROM page
         WHERE sequence = ? AND number = ?",
    )?;
    select.query_row(params![at.sequence, at.number], read_page)
}

fn read_page(row: &Row<'_>) -> rusqlite::Result<Page> {
    let content = match row.get::<_, Option<Vec<u8>>>("profiles")? {
        Some(bytes) => PageContent::Profiles(keys_of(&bytes).collect()),
        None => PageContent::History { profile: ProfileKey(row.get("profile")?), span: read_span(row)? },
    };
    Ok(Page { of: row.get("of_pages")?, content })
}

fn read_span(row: &Row<'_>) -> rusqlite::Result<HistorySpan> {
    Ok(HistorySpan {
        from: read_at(row, "from_at")?,
        until: read_at(row, "until_at")?,
        after: Position { sequence: row.get("after_sequence")?, number: row.get("after_number")? },
        limit: row.get("row_limit")?,
    })
}

fn bytes_of(keys: &[ProfileKey]) -> Vec<u8> {
    keys.iter().flat_map(|key| key.0.to_be_bytes()).collect()
}

fn keys_of(bytes: &[u8]) -> impl Iterator<Item = ProfileKey> {
    bytes.as_chunks().0.iter().map(|key| ProfileKey(i64::from_be_bytes(*key)))
}
