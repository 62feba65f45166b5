//! The rows that a piece of work is known to write: those that somebody else may hold ([`crate::held_rows`]). Rows that
//! only the database knows of (what a deleted record counted for) are not among them.

use super::accounts::News;
use super::change::Work;
use super::posts::gated_post;
use super::posts::refs::{self, ThreadRefs};
use crate::collections::{Counter, PartsKind};
use crate::held_rows::Row;

/// See the module.
pub fn rows_of(work: &Work) -> Vec<Row> {
    let mut rows = Vec::new();
    if let Some(seen) = &work.seen {
        rows.push(Row::did("actor_sync", &seen.did));
    }
    if let Some(account) = &work.account
        && matches!(account.what, News::Active | News::Hidden(_))
    {
        rows.push(Row::did("actor", &account.did));
    }
    let Some(change) = &work.change else { return rows };
    rows.push(Row::uri("record", &change.uri));
    let Some(table) = change.collection.table else { return rows };
    rows.push(Row::uri(table.name, &change.uri));
    if !table.duplicate_key.is_empty() {
        rows.push(Row::uri("duplicate_record", &change.uri));
    }
    let Some(content) = change.content() else {
        // Its counters are those of the row that is stored; of a post, at least the author's.
        if change.collection.parts == PartsKind::Post {
            rows.push(Row::did("profile_agg", &change.did));
        }
        return rows;
    };
    let Some(row) = &content.row else { return rows };
    let context = change.context(content);
    for aggregate in change.collection.aggregates {
        if let Some(subject) = row.value(aggregate.by, &context) {
            rows.push(match aggregate.counter {
                Counter::Likes | Counter::Reposts | Counter::Replies => Row::uri("post_agg", subject),
                Counter::Followers | Counter::Follows | Counter::Posts => Row::did("profile_agg", subject),
            });
        }
    }
    match change.collection.parts {
        PartsKind::Post => {
            if let Some(quoted) = content.parts.post().and_then(|parts| parts.record.as_ref())
                && refs::is_post(&quoted.uri)
            {
                rows.push(Row::uri("post_agg", &quoted.uri));
            }
            if let Some(ThreadRefs { parent, .. }) = ThreadRefs::of(change, content) {
                rows.push(Row::uri("post_agg", parent));
            }
        }
        PartsKind::ThreadGate | PartsKind::PostGate => {
            rows.extend(gated_post(change, content).map(|post| Row::uri("post", &post)));
        }
        PartsKind::None => {}
    }
    rows
}
