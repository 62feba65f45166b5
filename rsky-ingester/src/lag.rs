//! How far a source is behind, computed when it is asked. No I/O.
//!
//! The age of the newest event when it was written is the answer only while everything that came is written and the
//! connection is open. As soon as something waits, or nobody listens, the lag grows with the clock.

use std::time::{Duration, Instant};

/// What is known of a source's lag.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lag {
    /// Age of the newest event when it was written.
    age: Option<f64>,
    connected: bool,
    /// Frames read and not yet written.
    waiting: u64,
    /// Since when it has been more than that.
    behind: Option<Instant>,
}

impl Lag {
    /// The socket was opened or closed.
    pub fn connected(&mut self, connected: bool, now: Instant) {
        self.connected = connected;
        self.look(now);
    }

    /// Frames were read.
    pub fn read(&mut self, frames: u64, now: Instant) {
        self.waiting = self.waiting.saturating_add(frames);
        self.look(now);
    }

    /// Frames were written (or dropped, to be read again), the newest event of them at an age in seconds.
    pub fn done(&mut self, frames: u64, age: Option<f64>, now: Instant) {
        self.waiting = self.waiting.saturating_sub(frames);
        if age.is_some() {
            (self.age, self.behind) = (age, None);
        }
        self.look(now);
    }

    fn look(&mut self, now: Instant) {
        let behind = !self.connected || self.waiting > 0;
        self.behind = behind.then(|| self.behind.unwrap_or(now));
    }

    /// Frames read and not yet written.
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Seconds; `None` before the first event.
    pub fn seconds(&self, now: Instant) -> Option<f64> {
        let behind = self.behind.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        Some(self.age? + behind.as_secs_f64())
    }
}

/// Lag in seconds above which a source is not called ready: one hour.
const OLD: f64 = 3600.0;
/// Lag above which it is no lag but another time: a recording that is replayed, a host with a wrong clock. Relays keep
/// events for days.
const ANOTHER_TIME: f64 = 30.0 * 86_400.0;

impl Lag {
    /// Why a source is not ready that is hours behind; `None` also for one that has written all there is, however old.
    pub fn too_old(&self, now: Instant) -> Option<String> {
        let seconds = self.seconds(now).filter(|_| self.behind.is_some())?;
        (seconds > OLD && seconds < ANOTHER_TIME).then(|| {
            format!("what is written is {:.1} hours old: it is catching up, or held up", seconds / 3600.0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    #[test]
    fn it_keeps_its_value_only_while_nothing_waits_and_the_socket_is_open() {
        let now = Instant::now();
        let mut lag = Lag::default();
        lag.connected(true, now);
        assert_eq!(lag.seconds(now), None);
        lag.read(3, now);
        lag.done(3, Some(2.0), now);
        assert_eq!(lag.seconds(now + TEN), Some(2.0));
        lag.read(1, now + TEN);
        assert_eq!(lag.seconds(now + TEN * 2), Some(12.0));
        lag.done(1, Some(1.0), now + TEN * 2);
        assert_eq!(lag.seconds(now + TEN * 3), Some(1.0));
        lag.connected(false, now + TEN * 3);
        assert_eq!(lag.seconds(now + TEN * 4), Some(11.0));
    }

    #[test]
    fn what_is_written_in_between_counts_from_then() {
        let now = Instant::now();
        let mut lag = Lag::default();
        lag.connected(true, now);
        lag.read(10, now);
        lag.done(5, Some(100.0), now + TEN);
        assert_eq!((lag.waiting(), lag.seconds(now + TEN * 2)), (5, Some(110.0)));
    }

    #[test]
    fn hours_are_old_and_years_are_another_time() {
        let now = Instant::now();
        let behind = |hours: f64| {
            let mut lag = Lag::default();
            lag.connected(true, now);
            lag.read(2, now);
            lag.done(1, Some(hours * 3600.0), now);
            lag
        };
        assert_eq!(behind(0.1).too_old(now), None);
        assert!(behind(3.0).too_old(now).unwrap().contains("3.0 hours"));
        assert_eq!(behind(10_000.0).too_old(now), None);
        let mut caught_up = behind(3.0);
        caught_up.done(1, None, now);
        assert_eq!(caught_up.too_old(now), None);
    }
}
