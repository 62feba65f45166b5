//! Whether the work of a daemon moves: what `/healthz` and the watchdog of a service manager go by.
//!
//! Readiness says whether a daemon is connected to what it needs; a restart does not help where it is not. A standstill is
//! something else: there is work, nobody has to be waited for, and nothing is done. A restart does help there.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

type Question = Arc<dyn Fn(Instant) -> Option<String> + Send + Sync>;

/// The parts of a daemon that do its work, by name. Cloning gives another handle to the same parts.
#[derive(Clone, Default)]
pub struct Vitals(Arc<Mutex<BTreeMap<String, Question>>>);

impl Vitals {
    /// Registers a part that is asked each time: why does it stand still? It must answer from memory, at once, and `None`
    /// while it moves, has nothing to do, or waits for somebody else.
    pub fn watch(
        &self,
        part: impl Into<String>,
        why: impl Fn(Instant) -> Option<String> + Send + Sync + 'static,
    ) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(part.into(), Arc::new(why));
    }

    /// What stands still, by part; empty: all is well. Asked every second by [`super::service`], which is what
    /// [`Standstill`] relies on.
    pub fn standing_still(&self, now: Instant) -> Vec<(String, String)> {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        parts.into_iter().filter_map(|(part, why)| Some((part, why(now)?))).collect()
    }
}

impl fmt::Debug for Vitals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vitals")
    }
}

/// Rounds of a loop. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Rounds(Arc<AtomicU64>);

impl Rounds {
    /// One more.
    pub fn one_more(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Most of the time between two looks that counts. They are a second apart; a process that could not look for longer (it was
/// stopped, or its machine was busy) could not work either, and is given the time to.
const COUNTS: Duration = Duration::from_secs(5);

/// Notices that a figure which changes as work is done stays the same for too long.
#[derive(Debug)]
pub struct Standstill {
    patience: Duration,
    last: Mutex<Option<Look>>,
}

/// What was seen last: the figure, when, and for how long it has been the same.
#[derive(Clone, Copy, Debug)]
struct Look {
    figure: u64,
    at: Instant,
    same: Duration,
}

impl Standstill {
    /// Nothing was looked at yet. `patience` is how long the figure may stay.
    pub fn new(patience: Duration) -> Self {
        Self { patience, last: Mutex::new(None) }
    }

    /// Looks at the figure; `None` for it: there is nothing to do, or somebody else is waited for. Gives how long it has
    /// been the same while it was looked at, if that is too long.
    pub fn look(&self, figure: Option<u64>, now: Instant) -> Option<Duration> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let same = last.filter(|look| Some(look.figure) == figure).map_or(Duration::ZERO, |look| {
            look.same.saturating_add(now.saturating_duration_since(look.at).min(COUNTS))
        });
        *last = figure.map(|figure| Look { figure, at: now, same });
        Some(same).filter(|same| figure.is_some() && *same >= self.patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_that_does_not_move_is_a_standstill() {
        let still = Standstill::new(Duration::from_secs(120));
        let start = Instant::now();
        let look = |figure, second| still.look(figure, start + Duration::from_secs(second));
        let first = |figure, mut seconds: std::ops::Range<u64>| seconds.find_map(|s| look(Some(figure), s));
        assert_eq!(first(5, 0..120), None);
        assert_eq!(first(6, 120..240), None, "it moved");
        assert_eq!(first(6, 240..250), Some(Duration::from_secs(120)));
        assert_eq!(look(None, 250), None, "there is a reason to wait");
        assert_eq!(first(6, 251..371), None, "and its patience begins anew");
        assert!(first(6, 371..372).is_some());
    }

    #[test]
    fn who_could_not_look_could_not_work() {
        let still = Standstill::new(Duration::from_secs(120));
        let start = Instant::now();
        for minutes in [0, 10, 20, 30] {
            assert_eq!(still.look(Some(5), start + Duration::from_secs(60 * minutes)), None);
        }
    }

    #[test]
    fn every_part_is_asked() {
        let vitals = Vitals::default();
        let rounds = Rounds::default();
        let (counted, still) = (rounds.clone(), Standstill::new(Duration::from_secs(1)));
        vitals
            .watch("loop", move |now| still.look(Some(counted.count()), now).map(|_| "no round".to_owned()));
        vitals.watch("fine", |_| None);
        let now = Instant::now();
        assert!(vitals.standing_still(now).is_empty());
        let later = now + Duration::from_secs(2);
        assert_eq!(vitals.clone().standing_still(later), [("loop".to_owned(), "no round".to_owned())]);
        rounds.one_more();
        assert!(vitals.standing_still(later).is_empty());
    }
}
