//! What the indexer that stands in the tables has finished: delivered to its group, and not pending any more.

use std::collections::HashSet;
use std::ops::Bound;
use std::time::{Duration, Instant};

use rsky_common::redis::{LinkError, RedisLink, tail};

use super::place::written;
use super::source::Source;
use super::window::{Place, Window};
use crate::acks::entry_id;
use crate::identity::EntryId;

/// Items that are asked about at a time, and pending entries that are listed for them.
const PAGE: usize = 500;
const MOST_PENDING: usize = 2000;

/// How far a group is.
#[derive(Debug, Default)]
pub(super) struct Finished {
    /// Items that it has finished, or not for a long time (`true`).
    pub(super) places: Vec<(Place, bool)>,
    /// The newest entry that was delivered to it; `None`: there is no such group.
    pub(super) delivered: Option<EntryId>,
}

/// Looks for at most `most` items of a stream that are due and finished. What is pending for longer than `patience` counts.
///
/// # Errors
/// Redis' or the connection's.
pub(super) async fn find(
    link: &mut RedisLink,
    window: &Window,
    (number, source): (usize, &Source),
    patience: Duration,
    most: usize,
) -> Result<Finished, LinkError> {
    let Some(delivered) = tail::delivered(link, &source.stream, &source.group).await? else {
        return Ok(Finished::default());
    };
    let until = entry_id(&delivered);
    let mut finished = Finished { places: Vec::new(), delivered: Some(until) };
    let (mut from, now) = (Bound::Unbounded, Instant::now());
    while finished.places.len() < most {
        let due = window.due(number, from, until, now, PAGE);
        let (Some(first), Some(last)) = (due.first(), due.last()) else { break };
        let between = (written(first.0), written(last.0));
        let between = (between.0.as_str(), between.1.as_str());
        let pending = match tail::pending(link, &source.stream, &source.group, between, MOST_PENDING).await {
            Err(LinkError::Redis(error)) if error.code() == Some("NOGROUP") => return Ok(Finished::default()),
            pending => pending?,
        };
        // What comes behind a list that is full is not known.
        let told_to = match pending.last() {
            Some(last) if pending.len() >= MOST_PENDING => entry_id(last),
            _ => last.0,
        };
        let pending: HashSet<EntryId> = pending.iter().map(|id| entry_id(id)).collect();
        for place in due.iter().filter(|place| place.0 <= told_to) {
            let is_pending = pending.contains(&place.0);
            let overdue =
                || window.read_at(number, *place).is_some_and(|at| now.duration_since(at) >= patience);
            if finished.places.len() < most && (!is_pending || overdue()) {
                finished.places.push((*place, is_pending));
            }
        }
        from = Bound::Excluded((told_to, u32::MAX));
    }
    Ok(finished)
}
