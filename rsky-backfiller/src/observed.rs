//! What is computed from the state it names, at the moment it is asked for: hosts by state, what waits for them, what is in
//! work, what is put off. A stage that stands still makes none of it untrue.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::delayed::Seen;
use crate::hosts::HostState;
use crate::lines::Lines;

/// The state. Clones share it.
#[derive(Debug, Clone)]
pub struct Observed {
    lines: Arc<Mutex<Lines>>,
    running: Arc<AtomicUsize>,
    delayed: Arc<Seen>,
}

/// One repository in work, until it is dropped.
#[derive(Debug)]
pub struct Lived(Arc<AtomicUsize>);

impl Drop for Lived {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Observed {
    /// Nothing is under way; `plc`: host and port of the PLC directory.
    pub fn new(plc: &str) -> Self {
        Self {
            lines: Arc::new(Mutex::new(Lines::new(plc))),
            running: Arc::default(),
            delayed: Arc::default(),
        }
    }

    /// Hosts and lines. Not to be held over anything that waits.
    pub fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What tells how many are put off.
    pub fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.delayed)
    }

    /// One more is in work.
    pub fn one_more(&self) -> Lived {
        self.running.fetch_add(1, Ordering::Relaxed);
        Lived(Arc::clone(&self.running))
    }

    /// Repositories in work.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Repositories taken and waiting for their host or their directory.
    pub fn waiting(&self) -> usize {
        self.lines().waiting()
    }

    /// Repositories put off; `None`: not known now.
    pub fn delayed(&self) -> Option<u64> {
        self.delayed.get()
    }

    /// Hosts by state.
    pub fn hosts(&self) -> [(HostState, usize); 3] {
        self.lines().states(Instant::now())
    }
}

fn whole(figure: impl TryInto<i64>) -> ConstGauge<i64> {
    ConstGauge::new(figure.try_into().unwrap_or(i64::MAX))
}

impl Collector for Observed {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let figures = [
            ("repos_running", "Repositories in work", Some(whole(self.running()))),
            ("repos_waiting", "Repositories taken and waiting", Some(whole(self.waiting()))),
            ("repos_delayed", "Repositories put off; absent while nobody knows", self.delayed().map(whole)),
        ];
        for (name, help, gauge) in figures {
            let Some(gauge) = gauge else { continue };
            let name = format!("backfiller_{name}");
            gauge.encode(encoder.encode_descriptor(&name, help, None, gauge.metric_type())?)?;
        }
        let mut family =
            encoder.encode_descriptor("backfiller_hosts", "Hosts by state", None, MetricType::Gauge)?;
        for (state, count) in self.hosts() {
            whole(count).encode(family.encode_family(&[("state", state.name())])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::registry::Registry;

    use super::*;
    use crate::job::{Job, Queue};
    use crate::lines::{Pool, Role};

    fn told(registry: &Registry) -> Vec<(String, i64)> {
        let mut text = String::new();
        prometheus_client::encoding::prometheus_text::encode(&mut text, registry).unwrap();
        let line = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.strip_prefix("backfiller_")?.to_owned(), value.parse().ok()?))
        };
        text.lines().filter_map(line).collect()
    }

    /// No stage runs here: nobody but who asks can have set what is told.
    #[test]
    fn what_is_told_is_what_is_so_though_no_stage_runs() {
        let observed = Observed::new("plc");
        let mut registry = Registry::default();
        registry.register_collector(Box::new(observed.clone()));
        let tell = |running, waiting, [fine, limited, aside]: [i64; 3]| {
            let figures = [
                ("repos_running", running),
                ("repos_waiting", waiting),
                ("hosts{state=\"fine\"}", fine),
                ("hosts{state=\"limited\"}", limited),
                ("hosts{state=\"set_aside\"}", aside),
            ];
            assert_eq!(told(&registry), figures.map(|(name, value)| (name.to_owned(), value)));
        };
        tell(0, 0, [0, 0, 0]);
        let key = (Role::Repositories, Arc::from("host"));
        for did in ["a", "b", "c"] {
            observed.lines().enqueue(key.clone(), Job::alone(Queue::Normal, did), 8);
        }
        tell(0, 3, [1, 0, 0]);
        let started = observed.lines().start_one(Pool::Unproven, Instant::now(), false).unwrap();
        let running = observed.one_more();
        tell(1, 2, [1, 0, 0]);
        drop(running);
        observed.lines().ended(&started.key, started.pool);
        tell(0, 2, [1, 0, 0]);
        let pause = Duration::from_millis(20);
        observed.lines().host(&key).unwrap().answered(Instant::now(), Some(pause));
        std::thread::sleep(pause);
        tell(0, 2, [1, 0, 0]);
        observed.lines().host(&key).unwrap().answered(Instant::now(), Some(Duration::from_secs(600)));
        tell(0, 2, [0, 1, 0]);
        for _ in 0..3 {
            observed.lines().host(&key).unwrap().failed(Instant::now(), Duration::from_secs(30));
        }
        tell(0, 2, [0, 0, 1]);
        drop(observed.lines().take_all(&key));
        tell(0, 0, [0, 0, 1]);
    }
}
