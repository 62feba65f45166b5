//! Which of an account's events ask for its handle (IDENTITY 1, DECISIONS 17 and 18).

use std::time::Duration;

use crate::engine::News;
use crate::text::datetime::epoch_millis;

/// How old a handle may be.
const MAX_AGE_MS: i64 = 86_400_000;
/// How old the knowledge may be that there is none.
const MAX_AGE_WITHOUT_MS: i64 = 3_600_000;
/// How much earlier than a resolution an event must have been queued to be covered by it: clocks of two machines, and
/// the time that a directory takes to show a change.
const MARGIN_MS: u64 = 1000;

/// What the database knows of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ActorRow {
    pub(super) handle: Option<String>,
    pub(super) indexed_at: String,
}

/// One event of an account.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event<'a> {
    pub(super) what: News,
    pub(super) time: &'a str,
    /// When it was put into its stream, in milliseconds since 1970.
    pub(super) queued_ms: u64,
}

/// The last resolution of an account in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resolution {
    /// Milliseconds since 1970.
    pub(super) began_ms: u64,
    /// How long identity events may not ask for the next one; `None`: they may.
    pub(super) again_in: Option<Duration>,
}

/// What is to be done about a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need<'a> {
    /// Nothing.
    Nothing,
    /// To be resolved; the time becomes its `indexedAt`.
    Resolve(&'a str),
    /// To be resolved, but not before so long.
    Later(Duration),
}

/// What the events of one account ask for, in their order: the outcome is that of one event after the other, where one
/// that has to wait for its moment comes after those that have not.
pub(super) fn need<'a>(row: Option<&ActorRow>, events: &[Event<'a>], last: Option<Resolution>) -> Need<'a> {
    let mut known = known(row, events);
    let (mut resolve, mut later) = (None, None);
    for event in events.iter().filter(|event| event.what != News::Deleted) {
        // One resolution serves all the events that wait for it.
        let forced = resolve.is_none() && is_forced(event, last);
        if forced && let Some(pause) = last.and_then(|last| last.again_in) {
            later = Some(pause);
        } else if forced || is_due(known, event.time) {
            resolve = Some(event.time);
            known = Some((epoch_millis(event.time), true));
        }
    }
    match (resolve, later) {
        (Some(time), _) => Need::Resolve(time),
        (None, Some(pause)) => Need::Later(pause),
        (None, None) => Need::Nothing,
    }
}

/// Of events that cannot be served now, those that need nothing and need not wait with the others. An event is written
/// again when it is delivered again, so none may be done with before an earlier one that writes; an identity event writes
/// nothing, and a commit is not delivered again for its handle.
pub(super) fn need_nothing(
    row: Option<&ActorRow>,
    events: &[Event<'_>],
    last: Option<Resolution>,
) -> Vec<bool> {
    let known = known(row, events);
    let mut is_behind = false;
    let mut may_go = |event: &Event<'_>| {
        let waits = event.what == News::Deleted || is_forced(event, last) || is_due(known, event.time);
        let stays = waits || (is_behind && event.what != News::Commit);
        is_behind |= stays && !matches!(event.what, News::Identity | News::Commit);
        !stays
    };
    events.iter().map(&mut may_go).collect()
}

/// When the handle was looked for last, and whether there was one.
fn known(row: Option<&ActorRow>, events: &[Event<'_>]) -> Option<(Option<i64>, bool)> {
    // A row that a status of these events made: nobody has looked for the handle yet.
    let made_by_status = |row: &&ActorRow| {
        let made = |event: &Event<'_>| matches!(event.what, News::Hidden(_)) && event.time == row.indexed_at;
        row.handle.is_none() && events.iter().any(made)
    };
    let row = row.filter(|row| !made_by_status(row))?;
    Some((epoch_millis(&row.indexed_at), row.handle.is_some()))
}

/// Whether an event asks for a resolution however old the handle is.
fn is_forced(event: &Event<'_>, last: Option<Resolution>) -> bool {
    event.what == News::Identity && !is_covered(event, last)
}

/// Whether a resolution began after the event had been queued: it has seen what the event is about.
fn is_covered(event: &Event<'_>, last: Option<Resolution>) -> bool {
    last.is_some_and(|last| event.queued_ms.saturating_add(MARGIN_MS) <= last.began_ms)
}

/// The window: the difference has a sign, so what is older than the row asks for nothing, and neither does a time that
/// cannot be read.
fn is_due(known: Option<(Option<i64>, bool)>, time: &str) -> bool {
    let Some((known_at, has_handle)) = known else { return true };
    let (Some(known_at), Some(time)) = (known_at, epoch_millis(time)) else { return false };
    let age = time.saturating_sub(known_at);
    age > MAX_AGE_MS || (!has_handle && age > MAX_AGE_WITHOUT_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: &str = "2026-01-02T00:00:00.000Z";

    fn event(what: News, time: &str) -> Event<'_> {
        Event { what, time, queued_ms: 1_000_000 }
    }

    fn row(handle: bool, time: &str) -> ActorRow {
        ActorRow { handle: handle.then(|| "a.test".to_owned()), indexed_at: time.to_owned() }
    }

    fn profile(row: &ActorRow, time: &str) -> bool {
        let events = [event(News::Profile, time)];
        let need = need(Some(row), &events, None);
        assert!(need == Need::Nothing || need == Need::Resolve(events[0].time));
        need != Need::Nothing
    }

    #[test]
    fn a_day_with_a_handle_and_an_hour_without() {
        let known = row(true, T);
        assert!(!profile(&known, "2026-01-03T00:00:00.000Z"));
        assert!(profile(&known, "2026-01-03T00:00:00.001Z"));
        let unknown = row(false, T);
        assert!(!profile(&unknown, "2026-01-02T01:00:00.000Z"));
        assert!(profile(&unknown, "2026-01-02T01:00:00.001Z"));
    }

    #[test]
    fn what_is_older_or_unreadable_asks_for_nothing() {
        for known in [row(true, T), row(false, T)] {
            assert!(!profile(&known, "2020-01-01T00:00:00.000Z"));
            assert!(!profile(&known, "tomorrow"));
        }
        assert!(!profile(&row(true, "once"), "2030-01-01T00:00:00.000Z"));
    }

    #[test]
    fn an_account_without_a_row_needs_one() {
        let events = [event(News::Active, "nonsense"), event(News::Profile, T)];
        assert_eq!(need(None, &events, None), Need::Resolve("nonsense"));
        assert_eq!(need(None, &[], None), Need::Nothing);
        assert_eq!(need(None, &[event(News::Deleted, T)], None), Need::Nothing);
    }

    #[test]
    fn events_that_come_together_end_as_if_they_came_one_by_one() {
        let events = [
            event(News::Profile, T),
            event(News::Profile, "2026-01-02T12:00:00.000Z"),
            event(News::Active, "2026-01-03T12:00:00.000Z"),
            event(News::Identity, "2026-01-03T13:00:00.000Z"),
        ];
        assert_eq!(need(None, &events, None), Need::Resolve("2026-01-03T12:00:00.000Z"));
    }

    #[test]
    fn a_row_that_a_status_made_counts_as_none() {
        let made = row(false, T);
        let events = [event(News::Profile, "2026-01-01T00:00:00.000Z"), event(News::Hidden("suspended"), T)];
        assert_eq!(need(Some(&made), &events, None), Need::Resolve("2026-01-01T00:00:00.000Z"));
        assert_eq!(need(Some(&made), &events[1..], None), Need::Resolve(T));
        // Another row that happens to have no handle.
        let other = row(false, "2026-01-02T00:30:00.000Z");
        assert_eq!(need(Some(&other), &events, None), Need::Nothing);
    }

    #[test]
    fn what_needs_no_moment_does_not_wait_for_one() {
        let known = row(true, T);
        let last = Some(Resolution { began_ms: 1_000_500, again_in: Some(Duration::from_secs(40)) });
        let (noon, morrow) = ("2026-01-02T12:00:00.000Z", "2026-01-03T00:00:00.001Z");
        let waits = event(News::Identity, T);
        let events = [waits, event(News::Active, noon), event(News::Profile, noon)];
        assert_eq!(need(Some(&known), &events, last), Need::Later(Duration::from_secs(40)));
        assert_eq!(need_nothing(Some(&known), &events, last), [false, true, true]);
        // The window is that of the row: what is due is not put off, and what has waited is served with it.
        let events = [waits, event(News::Active, noon), event(News::Active, morrow)];
        assert_eq!(need(Some(&known), &events, last), Need::Resolve(morrow));
        assert_eq!(need_nothing(Some(&known), &events, last), [false, true, false]);
        // What wrote something is not overtaken by what writes again.
        let events = [event(News::Active, morrow), event(News::Hidden("suspended"), noon)];
        assert_eq!(need_nothing(Some(&known), &events, last), [false, false]);
        let events = [event(News::Deleted, T), event(News::Active, noon)];
        assert_eq!(need_nothing(Some(&known), &events, last), [false, false]);
        // Nobody has looked for a handle: all wait.
        assert_eq!(need_nothing(None, &[waits, event(News::Active, noon)], last), [false, false]);
    }

    #[test]
    fn identity_events_force_once_a_minute_and_are_covered_by_later_resolutions() {
        let known = row(true, T);
        let events = [event(News::Identity, T)];
        assert_eq!(need(Some(&known), &events, None), Need::Resolve(T));
        let last = |began_ms, seconds| {
            let again_in = Duration::from_secs(60).checked_sub(Duration::from_secs(seconds));
            Some(Resolution { began_ms, again_in })
        };
        // Queued at 1 000 000.
        assert_eq!(need(Some(&known), &events, last(1_001_000, 5)), Need::Nothing);
        assert_eq!(need(Some(&known), &events, last(1_000_500, 20)), Need::Later(Duration::from_secs(40)));
        assert_eq!(need(Some(&known), &events, last(1_000_500, 61)), Need::Resolve(T));
        // The window is not lifted by it.
        let old = row(true, "2025-01-01T00:00:00.000Z");
        assert_eq!(need(Some(&old), &events, last(1_001_000, 5)), Need::Resolve(T));
    }
}
