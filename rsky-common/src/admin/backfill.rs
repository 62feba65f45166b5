//! How far the backfill is, and how long it will take.

use std::time::Duration;

use serde::Serialize;

use super::board::StreamNames;
use super::samples::History;
use super::seen::Facts;
use super::status::DONE;

/// Over how long the pace is taken: repositories differ in size by a factor of a million.
const OVER: Duration = Duration::from_secs(600);

/// What is left of the backfill.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Backfill {
    /// Repositories in the streams, those in work among them.
    pub(super) queued: u64,
    /// Repositories put off; `None`: not known.
    pub(super) put_off: Option<u64>,
    /// Backfillers that run; `None`: not known.
    pub(super) backfillers: Option<u64>,
    /// Repositories a second over the last ten minutes; `None`: not known yet.
    pub(super) per_second: Option<f64>,
    /// Seconds until what is queued now is done, at that pace; `None`: not known, or without end.
    pub(super) seconds_left: Option<u64>,
}

impl Backfill {
    /// `None`: nobody knows how much is queued.
    pub(super) fn of(facts: &Facts, names: &StreamNames, histories: &[History]) -> Option<Self> {
        let length = |name: &str| facts.stream(name)?.length.as_ref().ok().copied();
        let queued = length(&names.repos)?.saturating_add(length(&names.priority).unwrap_or(0));
        let put_off = facts.put_off.as_ref().ok().copied();
        let done = histories.iter().find(|history| history.key == DONE);
        let per_second = done.and_then(|done| done.mean(OVER));
        let left = queued.saturating_add(put_off.unwrap_or(0));
        let seconds_left = match per_second {
            _ if left == 0 => Some(0),
            Some(pace) if pace > 0.0 => Some((left as f64 / pace) as u64),
            _ => None,
        };
        let backfillers = facts.backfillers.as_ref().ok().map(|those| those.running);
        Some(Self { queued, put_off, backfillers, per_second, seconds_left })
    }
}
