//! What a service manager (systemd) is told: started, how it stands, alive, stopping.
//!
//! `READY=1` says that the daemon's own start is done: the admin port is open, Redis (and Postgres) were looked at, its
//! stages run. Until then every message asks for more time, since waiting for a Redis that starts later is no failure.
//! `WATCHDOG=1` is sent while the work moves or has a reason to wait ([`super::vitals`]), by a task of the runtime that does
//! that work: a runtime that is blocked sends nothing either. Without `NOTIFY_SOCKET` nothing is sent; a standstill is logged
//! anyway, and `/healthz` tells of it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use super::backoff::sleep_or_stop;
use super::vitals::Vitals;
use crate::admin::{Health, STARTING, shown};

/// Longest time between two messages; with a watchdog, a third of its time if that is less.
const EVERY: Duration = Duration::from_secs(1);
/// Time between two status texts that differ.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// Time for the start that is asked for with every message.
const MORE_TIME: Duration = Duration::from_secs(30);
/// Time for the end beside the drain's.
const LAST: Duration = Duration::from_secs(5);
/// Most bytes of a status text, which is a line of `systemctl status`.
const STATUS_BYTES: usize = 200;

type Says = Arc<dyn Fn() -> String + Send + Sync>;

/// What the parts of a daemon have to say to the service manager. Cloning gives another handle to the same.
#[derive(Clone, Default)]
pub struct Service {
    vitals: Vitals,
    started: CancellationToken,
    says: Arc<Mutex<Option<Says>>>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("started", &self.started.is_cancelled()).finish_non_exhaustive()
    }
}

impl Service {
    /// Where parts register that do the daemon's work.
    pub fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    /// The start is done.
    pub fn started(&self) {
        self.started.cancel();
    }

    /// How the daemon stands, in a line: what it waits for by `health`, or else what `works` says. Both must answer from
    /// memory, at once.
    pub fn says(&self, health: Health, works: impl Fn() -> String + Send + Sync + 'static) {
        let says = move || {
            let reasons = health.reasons();
            let known = reasons.iter().find(|(_, why)| why != STARTING).or(reasons.first());
            let waits = known.map(|(part, why)| format!("waits: {part}: {why}"));
            waits.unwrap_or_else(&works)
        };
        *self.says.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(says));
    }

    fn status(&self) -> String {
        let says = self.says.lock().unwrap_or_else(PoisonError::into_inner).clone();
        shown(&says.map_or_else(|| "starting".to_owned(), |says| says()), STATUS_BYTES)
    }

    /// Tells the service manager until `ended`. `drain` is how long the end may take after `stop`.
    pub(super) async fn tell(self, stop: CancellationToken, drain: Duration, ended: CancellationToken) {
        let every = sd_notify::watchdog_enabled().map_or(EVERY, |time| (time / 3).min(EVERY));
        let every = every.max(Duration::from_millis(1));
        let mut told = Told::default();
        loop {
            send(self.message(&mut told)).await;
            if !sleep_or_stop(every, &stop).await {
                break;
            }
        }
        let last = drain.saturating_add(LAST);
        let ending = [
            NotifyState::Stopping,
            NotifyState::Status("finishing what is in flight"),
            NotifyState::ExtendTimeoutUsec(micros(last)),
        ];
        send(ending.map(|state| state.to_string()).to_vec()).await;
        // The drain has a deadline of its own.
        while sleep_or_stop(every, &ended).await {
            send(vec![NotifyState::Watchdog.to_string()]).await;
        }
    }

    fn message(&self, told: &mut Told) -> Vec<String> {
        let now = Instant::now();
        let mut states = Vec::new();
        if !self.started.is_cancelled() {
            states.push(NotifyState::ExtendTimeoutUsec(micros(MORE_TIME)).to_string());
        } else if !std::mem::replace(&mut told.ready, true) {
            states.push(NotifyState::Ready.to_string());
        }
        let still = self.vitals.standing_still(now);
        let reasons: Vec<String> = still.iter().map(|(part, why)| format!("{part}: {why}")).collect();
        let reasons = reasons.join("; ");
        if reasons.is_empty() != told.still.is_empty() {
            match reasons.is_empty() {
                true => tracing::warn!("the work moves again"),
                false => tracing::error!("the work stands still: {reasons}"),
            }
        }
        told.still = reasons;
        let status = if told.still.is_empty() { self.status() } else { shown(&told.still, STATUS_BYTES) };
        if told.status.as_ref().is_none_or(|(text, at)| *text != status && now - *at >= STATUS_EVERY) {
            states.push(NotifyState::Status(&status).to_string());
            told.status = Some((status, now));
        }
        if told.still.is_empty() {
            states.push(NotifyState::Watchdog.to_string());
        }
        states
    }
}

/// What was told last.
#[derive(Debug, Default)]
struct Told {
    ready: bool,
    status: Option<(String, Instant)>,
    still: String,
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// Sends a message. Its socket may be full, and then only this task waits.
async fn send(states: Vec<String>) {
    if states.is_empty() || std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let sent = tokio::task::spawn_blocking(move || {
        let states: Vec<NotifyState<'_>> = states.iter().map(|state| NotifyState::Custom(state)).collect();
        sd_notify::notify(&states)
    });
    match sent.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("service manager: {error}"),
        Err(error) => tracing::debug!("service manager: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_time_until_started_and_ready_once() {
        let service = Service::default();
        let mut told = Told::default();
        let said = service.message(&mut told);
        assert_eq!(said, ["EXTEND_TIMEOUT_USEC=30000000", "STATUS=starting", "WATCHDOG=1"]);
        let health = Health::new();
        let redis = health.part("redis");
        redis.ready();
        service.says(health, || "two\nlines".to_owned());
        service.started();
        assert_eq!(service.message(&mut told), ["READY=1", "WATCHDOG=1"], "the status is told now and then");
        told.status = None;
        assert_eq!(service.message(&mut told), ["STATUS=two\\nlines", "WATCHDOG=1"]);
        told.status = None;
        redis.not_ready("gone");
        assert_eq!(service.message(&mut told), ["STATUS=waits: redis: gone", "WATCHDOG=1"]);
    }

    #[test]
    fn who_stands_still_is_not_alive() {
        let service = Service::default();
        service.started();
        let mut told = Told { ready: true, ..Told::default() };
        let still = Arc::new(Mutex::new(true));
        let asked = Arc::clone(&still);
        service.vitals().watch("lanes", move |_| asked.lock().unwrap().then(|| "nothing".to_owned()));
        assert_eq!(service.message(&mut told), ["STATUS=lanes: nothing"]);
        *still.lock().unwrap() = false;
        assert_eq!(service.message(&mut told), ["WATCHDOG=1"]);
    }
}
