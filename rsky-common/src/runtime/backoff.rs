//! Growing, jittered pauses between attempts.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Exponential backoff: `first · (2ⁿ + r)` with `r` uniform in ±0.5, never more than `cap`. The jitter keeps hosts
/// that failed together from coming back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    attempt: u32,
    random: RandomState,
}

impl Backoff {
    /// From about `first` up to `cap`.
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, attempt: 0, random: RandomState::new() }
    }

    /// 1 s to 64 s: for peers on the network (DECISIONS 5).
    pub fn network() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(64))
    }

    /// 0.1 s to 2 s: for our own Redis and Postgres, which shall be noticed soon after they return.
    pub fn local() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(2))
    }

    /// Starts over: the last attempt succeeded.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    /// Failures in a row so far.
    pub fn attempts(&self) -> u32 {
        self.attempt
    }

    /// The next pause.
    pub fn next_delay(&mut self) -> Duration {
        let exponent = self.attempt.min(20);
        self.attempt = self.attempt.saturating_add(1);
        let jitter = f64::from(u32::try_from(self.random.hash_one(self.attempt) >> 32).unwrap_or(0))
            / f64::from(u32::MAX);
        let factor = f64::from(1_u32 << exponent) + jitter - 0.5;
        self.first.mul_f64(factor).min(self.cap)
    }

    /// Sleeps for the next pause. `false`: we shall stop.
    pub async fn wait(&mut self, stop: &CancellationToken) -> bool {
        let delay = self.next_delay();
        sleep_or_stop(delay, stop).await
    }
}

/// Between three and five quarters of a duration: what failed together shall not come back together.
pub fn jittered(duration: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8) % 1024;
    duration.mul_f64(0.75 + random as f64 / 2048.0)
}

/// Sleeps unless `stop` comes first, which gives `false`.
pub async fn sleep_or_stop(delay: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(delay) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_cap_and_starts_over() {
        let mut backoff = Backoff::network();
        for (low, high) in [(0.5, 1.5), (1.5, 2.5), (3.5, 4.5), (7.5, 8.5)] {
            let delay = backoff.next_delay().as_secs_f64();
            assert!((low..=high).contains(&delay), "{delay} is not in {low}..={high}");
        }
        for _ in 0..100 {
            assert!(backoff.next_delay() <= Duration::from_secs(64));
        }
        assert_eq!(backoff.next_delay(), Duration::from_secs(64));
        backoff.reset();
        assert!(backoff.next_delay() < Duration::from_secs(2));
    }

    #[test]
    fn two_of_them_differ() {
        let mut delays: Vec<_> = (0..8).map(|_| Backoff::network().next_delay()).collect();
        delays.dedup();
        assert!(delays.len() > 1);
    }

    #[test]
    fn jitter_stays_within_a_quarter() {
        for _ in 0..100 {
            let jittered = jittered(Duration::from_secs(100)).as_secs_f64();
            assert!((75.0..=125.0).contains(&jittered));
        }
    }

    #[tokio::test]
    async fn a_stop_ends_the_wait() {
        let stop = CancellationToken::new();
        stop.cancel();
        assert!(!Backoff::new(Duration::from_secs(3600), Duration::from_secs(3600)).wait(&stop).await);
    }
}
