//! Whether, and how much, may be written to a stream: backpressure.
//!
//! One gate per written stream, shared by all its writers in the process. A writer asks before each batch and holds
//! what it has while the gate is shut; the queues behind it fill, the readers stop, and TCP stops the peer. Nothing is
//! dropped on the way.
//!
//! The length comes back with every transaction, so an open gate costs no round trip; it is asked for only when the
//! last answer is older than a second, and while the gate is shut.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{LinkError, RedisLink};
use crate::runtime::backoff::sleep_or_stop;
use crate::runtime::memory::MemoryProbe;

/// Age at which a known length is asked for again, and the longest pause between two looks while shut.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// First pause while shut; it doubles up to [`LOOK_AGAIN`], so a fast consumer is not made to wait for a whole second.
const FIRST_LOOK: Duration = Duration::from_millis(20);
/// Age at which the memory figures are read again.
const MEMORY_AGE: Duration = Duration::from_millis(250);
/// How far below its threshold memory must fall before the gate opens again, so that it does not flap.
const MEMORY_HYSTERESIS: f64 = 0.05;

/// What a gate is configured with.
#[derive(Clone, Copy, Debug)]
pub struct GateConfig {
    /// Length at which the gate shuts, in entries (`len >= mark`).
    pub mark: u64,
    /// Entries per batch in the open.
    pub batch: usize,
    /// Entries per batch when less than a whole batch fits below the mark.
    pub small_batch: usize,
    /// Used fraction of memory at which the gate shuts; 1.0 or more: never.
    pub memory: f64,
}

/// Why nothing may be written.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "reason", rename_all = "lowercase")]
pub enum Shut {
    /// The stream is at its mark.
    Length {
        /// Entries in the stream.
        len: u64,
        /// Where the gate shuts.
        mark: u64,
    },
    /// Memory of the cgroup or host is short.
    Memory {
        /// Bytes in use.
        used: u64,
        /// Bytes there are.
        limit: u64,
    },
    /// Redis takes no writes, or there is no connection to it. Writers do not wait for the gate then but for Redis.
    Redis,
}

/// What a writer has heard of Redis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outage {
    /// A write went through.
    #[default]
    None,
    /// There is a connection again.
    Over,
    /// There is no connection, or nothing is answered.
    Connection,
    /// Writes are refused.
    Writes,
}

/// The permission to write one batch; hold it until the batch is written.
#[derive(Debug)]
pub struct Permit {
    /// Most entries the batch may have. A single frame with more goes alone.
    pub entries: usize,
    _turn: Option<OwnedSemaphorePermit>,
}

/// The gate before one stream. Cloning gives another handle to the same gate.
#[derive(Clone, Debug)]
pub struct Gate {
    stream: Arc<str>,
    config: GateConfig,
    /// One batch at a time, over all writers of the stream: only then is "the mark plus one batch" a bound.
    turn: Arc<Semaphore>,
    state: Arc<Mutex<State>>,
    probe: Arc<MemoryProbe>,
}

#[derive(Debug, Default)]
struct State {
    length: Option<(u64, Instant)>,
    memory: Option<(Shut, Instant)>,
    memory_shut: bool,
    /// What a writer has last heard of Redis.
    outage: Outage,
    shut: Option<Shut>,
    shut_since: Option<Instant>,
    shut_before: Duration,
    changes: u64,
}

/// A look at the gate, for metrics and pages.
#[derive(Clone, Debug, Serialize)]
pub struct GateStatus {
    /// The stream behind it.
    pub stream: String,
    /// Where it shuts, in entries.
    pub mark: u64,
    /// The length last seen.
    pub length: Option<u64>,
    /// Why it is shut; `None`: open.
    pub shut: Option<Shut>,
    /// Seconds it has been shut now.
    pub shut_for_seconds: Option<f64>,
    /// Seconds it has been shut in all.
    pub shut_seconds: f64,
    /// How often it shut.
    pub times_shut: u64,
}

impl Gate {
    /// An open gate.
    pub fn new(stream: impl Into<Arc<str>>, config: GateConfig, probe: Arc<MemoryProbe>) -> Self {
        Self {
            stream: stream.into(),
            config,
            turn: Arc::new(Semaphore::new(1)),
            state: Arc::default(),
            probe,
        }
    }

    /// Waits for our turn and for the gate to be open, and gives the permission for one batch.
    ///
    /// After `stop` an open gate still lets through, so that what is in flight can be finished, and a shut one is not
    /// waited for. (The link's own token ends everything.)
    ///
    /// # Errors
    /// `Stopped`, or an error of Redis that waiting does not cure.
    pub async fn pass(&self, link: &mut RedisLink, stop: &CancellationToken) -> Result<Permit, LinkError> {
        let given_up = link.stop().clone();
        let turn = tokio::select! {
            () = given_up.cancelled() => return Err(LinkError::Stopped),
            turn = Arc::clone(&self.turn).acquire_owned() => turn.ok(),
        };
        let mut pause = FIRST_LOOK;
        loop {
            self.ask_length(link).await?;
            match self.decide() {
                Ok(entries) => return Ok(Permit { entries, _turn: turn }),
                Err(_) if !sleep_or_stop(pause, stop).await => return Err(LinkError::Stopped),
                Err(_) => self.forget_length(),
            }
            pause = (pause * 2).min(LOOK_AGAIN);
        }
    }

    /// As [`Gate::pass`], but a gate that is shut is not waited for: `None`.
    ///
    /// # Errors
    /// `Stopped`, or an error of Redis that waiting does not cure.
    pub async fn try_pass(&self, link: &mut RedisLink) -> Result<Option<Permit>, LinkError> {
        let given_up = link.stop().clone();
        let turn = tokio::select! {
            () = given_up.cancelled() => return Err(LinkError::Stopped),
            turn = Arc::clone(&self.turn).acquire_owned() => turn.ok(),
        };
        self.ask_length(link).await?;
        Ok(self.decide().ok().map(|entries| Permit { entries, _turn: turn }))
    }

    async fn ask_length(&self, link: &mut RedisLink) -> Result<(), LinkError> {
        if !self.knows_length() {
            let mut command = redis::cmd("XLEN");
            command.arg(&*self.stream);
            let length = link.retry(&command).await?;
            self.note_length(length);
        }
        Ok(())
    }

    /// The stream that is behind it.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// Nobody can say how long the stream is now.
    pub fn note_unknown(&self) {
        self.state().length = None;
    }

    /// Entries came in beside the stream's own writer.
    pub fn note_added(&self, entries: usize) {
        let mut state = self.state();
        let more = u64::try_from(entries).unwrap_or(u64::MAX);
        state.length = state.length.map(|(length, at)| (length.saturating_add(more), at));
    }

    /// The stream's length after a transaction of ours.
    pub fn note_length(&self, length: u64) {
        self.state().length = Some((length, Instant::now()));
    }

    /// What a writer has heard of Redis. A connection that is back says nothing about writes that were refused.
    pub fn note_outage(&self, outage: Outage) {
        let mut state = self.state();
        let outage = match outage {
            Outage::Over if state.outage == Outage::Writes => return,
            Outage::Over => Outage::None,
            Outage::Connection if state.outage == Outage::Writes => return,
            other => other,
        };
        state.outage = outage;
        let shut = match outage {
            Outage::None | Outage::Over => state.shut.filter(|shut| *shut != Shut::Redis),
            Outage::Connection | Outage::Writes => Some(Shut::Redis),
        };
        self.change(&mut state, shut);
    }

    /// Why it is shut; `None`: open (or nobody has asked yet).
    pub fn shut(&self) -> Option<Shut> {
        self.state().shut
    }

    /// Since when it has been shut.
    pub fn shut_since(&self) -> Option<Instant> {
        self.state().shut_since
    }

    /// A look at the gate.
    pub fn status(&self) -> GateStatus {
        let state = self.state();
        let now_shut = state.shut_since.map(|since| since.elapsed());
        GateStatus {
            stream: self.stream.to_string(),
            mark: self.config.mark,
            length: state.length.map(|(length, _)| length),
            shut: state.shut,
            shut_for_seconds: now_shut.map(|now_shut| now_shut.as_secs_f64()),
            shut_seconds: (state.shut_before + now_shut.unwrap_or_default()).as_secs_f64(),
            times_shut: state.changes,
        }
    }

    fn knows_length(&self) -> bool {
        self.state().length.is_some_and(|(_, at)| at.elapsed() < LOOK_AGAIN)
    }

    /// Makes the next look ask Redis, and keeps the figure for the pages.
    fn forget_length(&self) {
        let mut state = self.state();
        state.length = state.length.and_then(|(length, at)| Some((length, at.checked_sub(LOOK_AGAIN)?)));
    }

    /// Entries that may be written now, or why none.
    fn decide(&self) -> Result<usize, Shut> {
        let mut state = self.state();
        self.look_at_memory(&mut state);
        let length = state.length.map_or(0, |(length, _)| length);
        let verdict = match state.memory.filter(|_| state.memory_shut) {
            Some((short, _)) => Err(short),
            None => permitted(length, &self.config),
        };
        let refused = (state.outage != Outage::None).then_some(Shut::Redis);
        self.change(&mut state, refused.or(verdict.as_ref().err().copied()));
        verdict
    }

    fn look_at_memory(&self, state: &mut State) {
        let fresh = state.memory.is_some_and(|(_, at)| at.elapsed() < MEMORY_AGE);
        if self.config.memory >= 1.0 || fresh {
            return;
        }
        let Some(usage) = self.probe.read() else { return };
        let short = Shut::Memory { used: usage.used, limit: usage.limit };
        state.memory = Some((short, Instant::now()));
        state.memory_shut = memory_shuts(state.memory_shut, usage.fraction(), self.config.memory);
    }

    fn change(&self, state: &mut State, shut: Option<Shut>) {
        let kind = |shut: Option<Shut>| shut.map(|shut| std::mem::discriminant(&shut));
        let changed = kind(state.shut) != kind(shut);
        state.shut = shut;
        if !changed {
            return;
        }
        let lasted = state.shut_since.take().map(|since| since.elapsed());
        state.shut_before += lasted.unwrap_or_default();
        if let Some(why) = shut {
            state.shut_since = Some(Instant::now());
            state.changes = state.changes.saturating_add(1);
            tracing::warn!(stream = &*self.stream, "the gate is shut: {why}");
        } else {
            tracing::info!(
                stream = &*self.stream,
                "the gate is open again after {:.1?}",
                lasted.unwrap_or_default()
            );
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Display for Shut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const MIB: u64 = 1 << 20;
        match self {
            Self::Length { len, mark } => write!(f, "{len} entries, the mark is {mark}"),
            Self::Memory { used, limit } => {
                write!(f, "{} of {} MiB of memory in use", used / MIB, limit / MIB)
            }
            Self::Redis => f.write_str("Redis takes no writes"),
        }
    }
}

/// Entries that may be written at this length, at least 1, or why none.
fn permitted(length: u64, config: &GateConfig) -> Result<usize, Shut> {
    if length >= config.mark {
        return Err(Shut::Length { len: length, mark: config.mark });
    }
    let room = usize::try_from(config.mark.saturating_sub(length)).unwrap_or(usize::MAX);
    let fits = room >= config.batch;
    Ok(if fits { config.batch } else { config.small_batch.min(config.batch) }.max(1))
}

fn memory_shuts(shut_now: bool, fraction: f64, threshold: f64) -> bool {
    if shut_now { fraction > threshold - MEMORY_HYSTERESIS } else { fraction >= threshold }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: GateConfig = GateConfig { mark: 1000, batch: 500, small_batch: 100, memory: 0.8 };

    #[test]
    fn trips_at_the_mark_and_writes_less_near_it() {
        assert_eq!(permitted(0, &CONFIG), Ok(500));
        assert_eq!(permitted(500, &CONFIG), Ok(500));
        assert_eq!(permitted(501, &CONFIG), Ok(100));
        assert_eq!(permitted(999, &CONFIG), Ok(100));
        assert_eq!(permitted(1000, &CONFIG), Err(Shut::Length { len: 1000, mark: 1000 }));
        assert_eq!(permitted(0, &GateConfig { mark: 100, batch: 500, ..CONFIG }), Ok(100));
        assert_eq!(permitted(0, &GateConfig { batch: 50, ..CONFIG }), Ok(50));
    }

    #[test]
    fn memory_has_hysteresis() {
        assert!(!memory_shuts(false, 0.79, 0.8));
        assert!(memory_shuts(false, 0.8, 0.8));
        assert!(memory_shuts(true, 0.76, 0.8));
        assert!(!memory_shuts(true, 0.74, 0.8));
    }

    #[test]
    fn memory_shuts_it_and_the_status_says_so() {
        let gate = Gate::new("s", GateConfig { memory: 0.0, ..CONFIG }, Arc::new(MemoryProbe::detect()));
        gate.note_length(0);
        assert!(matches!(gate.decide(), Err(Shut::Memory { .. })));
        let status = gate.status();
        assert!(matches!(status.shut, Some(Shut::Memory { .. })) && status.times_shut == 1, "{status:?}");
    }

    #[test]
    fn a_redis_that_takes_no_writes_shows_as_shut_and_does_not_hold_the_writer() {
        let gate = Gate::new("s", GateConfig { memory: 1.0, ..CONFIG }, Arc::new(MemoryProbe::detect()));
        gate.note_length(0);
        gate.note_outage(Outage::None);
        assert_eq!(gate.shut(), None);
        gate.note_outage(Outage::Connection);
        gate.note_outage(Outage::Connection);
        assert_eq!(gate.shut(), Some(Shut::Redis));
        gate.note_outage(Outage::Over);
        assert_eq!(gate.shut(), None);
        gate.note_outage(Outage::Writes);
        gate.note_outage(Outage::Over);
        assert!(gate.decide().is_ok(), "the next attempt must be made");
        let status = gate.status();
        assert_eq!((status.shut, status.times_shut), (Some(Shut::Redis), 2));
        gate.note_outage(Outage::None);
        assert_eq!(gate.shut(), None);
    }

    #[test]
    fn counts_changes_not_looks() {
        let gate = Gate::new("s", GateConfig { memory: 1.0, ..CONFIG }, Arc::new(MemoryProbe::detect()));
        for length in [1000, 1001, 1002] {
            gate.note_length(length);
            assert!(gate.decide().is_err());
        }
        gate.note_length(10);
        assert!(gate.decide().is_ok());
        let status = gate.status();
        assert_eq!((status.times_shut, status.shut), (1, None));
        assert!(status.shut_seconds > 0.0);
        assert!(gate.shut_since().is_none());
    }
}
