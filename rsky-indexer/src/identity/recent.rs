//! When accounts were resolved last, as far as it matters.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::window::Resolution;

/// Time that is remembered beyond the pause between two resolutions that identity events ask for.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Accounts of a generation; one that is forgotten too early is resolved once more.
const MOST: usize = 50_000;

/// The accounts resolved of late: those of this generation and the one before.
#[derive(Debug)]
pub(super) struct Recent {
    young: HashMap<String, (u64, Instant)>,
    old: HashMap<String, (u64, Instant)>,
    since: Instant,
    pause: Duration,
}

impl Recent {
    /// None yet. `pause`: least time between two resolutions of one account that identity events ask for.
    pub(super) fn new(pause: Duration) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), since: Instant::now(), pause }
    }

    /// A resolution that began then (milliseconds since 1970) has an answer.
    pub(super) fn note(&mut self, did: &str, began_ms: u64, ago: Duration) {
        if self.young.len() >= MOST || self.since.elapsed() > self.pause.saturating_add(REMEMBERED) {
            self.old = std::mem::take(&mut self.young);
            self.since = Instant::now();
        }
        let now = Instant::now();
        self.young.insert(did.to_owned(), (began_ms, now.checked_sub(ago).unwrap_or(now)));
    }

    /// The last one of an account.
    pub(super) fn of(&self, did: &str) -> Option<Resolution> {
        let (began_ms, at) = self.young.get(did).or_else(|| self.old.get(did))?;
        let again_in = self.pause.checked_sub(at.elapsed()).filter(|pause| !pause.is_zero());
        Some(Resolution { began_ms: *began_ms, again_in })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_last_of_each_and_is_bounded() {
        let mut recent = Recent::new(Duration::from_secs(60));
        assert_eq!(recent.of("a"), None);
        recent.note("a", 5, Duration::ZERO);
        recent.note("a", 6, Duration::from_secs(1));
        let last = recent.of("a").unwrap();
        assert!(last.began_ms == 6 && last.again_in.is_none_or(|pause| pause <= Duration::from_secs(59)));
        for number in 0..3 * MOST {
            recent.note(&number.to_string(), 7, Duration::ZERO);
        }
        assert!(recent.young.len() + recent.old.len() <= 2 * MOST);
        assert_eq!(recent.of("a"), None);
        assert!(recent.of(&(3 * MOST - 1).to_string()).is_some());
    }

    #[test]
    fn without_a_pause_the_next_may_be_asked_for_at_once() {
        let mut recent = Recent::new(Duration::ZERO);
        recent.note("a", 5, Duration::ZERO);
        assert_eq!(recent.of("a"), Some(Resolution { began_ms: 5, again_in: None }));
    }
}
