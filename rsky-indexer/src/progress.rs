//! Whether those who write get on: a batch that commits nothing for minutes makes the process not ready, whatever it is that
//! holds it up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rsky_common::admin::Readiness;
use rsky_common::runtime::backoff::sleep_or_stop;
use tokio_util::sync::CancellationToken;

/// Without a commit for longer than this, something is wrong: it is twice what a statement may take.
const STUCK: Duration = Duration::from_secs(120);

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Since when somebody has been at a piece of work without a commit. Clones tell of the same one.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Mutex<Option<Instant>>>);

impl Progress {
    /// Work begins, or a part of it has been done.
    pub fn moves(&self) {
        self.set(Some(Instant::now()));
    }

    /// There is nothing to do.
    pub fn rests(&self) {
        self.set(None);
    }

    /// How long it has been at it; `None`: there is nothing to do.
    pub fn working_for(&self, now: Instant) -> Option<Duration> {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.map(|since| now.saturating_duration_since(since))
    }

    /// For how long nothing has been done, if that is too long.
    pub fn stuck_for(&self, now: Instant) -> Option<Duration> {
        self.working_for(now).filter(|elapsed| *elapsed >= STUCK)
    }

    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

/// Looks after them until the process stops.
///
/// # Errors
/// None. Losing this task loses nothing but what it tells.
pub async fn watch(lanes: Vec<(Progress, Readiness)>, stop: CancellationToken) -> anyhow::Result<()> {
    loop {
        for (progress, readiness) in &lanes {
            match progress.stuck_for(Instant::now()) {
                Some(elapsed) => {
                    readiness.not_ready(format!("has committed nothing for {} s", elapsed.as_secs()));
                }
                None => readiness.ready(),
            }
        }
        if !sleep_or_stop(EVERY, &stop).await {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use rsky_common::admin::Health;

    use super::*;

    #[test]
    fn only_who_has_work_and_does_not_get_on_is_stuck() {
        let progress = Progress::default();
        let at = |seconds| Instant::now() + Duration::from_secs(seconds);
        assert_eq!(progress.stuck_for(at(10_000)), None);
        progress.moves();
        assert_eq!(progress.stuck_for(at(100)), None);
        assert!(progress.stuck_for(at(121)).is_some());
        progress.rests();
        assert_eq!(progress.stuck_for(at(10_000)), None);
    }

    #[tokio::test]
    async fn readiness_tells_and_forgets() {
        let health = Health::new();
        let progress = Progress::default();
        progress.set(Instant::now().checked_sub(STUCK * 2));
        let stop = CancellationToken::new();
        let lanes = vec![(progress.clone(), health.part("lane"))];
        let watching = tokio::spawn(watch(lanes, stop.clone()));
        let told = async |stuck: bool| {
            while health.reasons().iter().any(|(_, why)| why.contains("committed nothing")) != stuck
                || (!stuck && !health.reasons().is_empty())
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        told(true).await;
        progress.moves();
        told(false).await;
        stop.cancel();
        watching.await.unwrap().unwrap();
    }
}
