//! What is computed from the state it names, at the moment it is asked for: hosts by state, what waits for them, what is in
//! work, what is put off. A stage that stands still makes none of it untrue.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rsky_common::admin::Registry;
use rsky_common::redis::RedisFigures;
use rsky_common::repo::DiskBudget;
use rsky_common::runtime::Planned as _;

use crate::config::Config;
use crate::delayed::Seen;
use crate::hosts::HostState;
use crate::lines::Lines;
use crate::metrics::declared;

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

fn figure(number: usize) -> f64 {
    number as f64
}

impl Observed {
    /// Registers what is computed from the state when it is asked for.
    pub fn register(&self, registry: &mut Registry) {
        let seen = self.clone();
        declared::RUNNING.asked(registry, move || Some(figure(seen.running())));
        let seen = self.clone();
        declared::WAITING.asked(registry, move || Some(figure(seen.waiting())));
        let seen = self.clone();
        declared::DELAYED.asked(registry, move || Some(seen.delayed()? as f64));
        let seen = self.clone();
        declared::HOSTS.asked_by(registry, move || {
            let told = |(state, count): (HostState, usize)| (vec![state.name().to_owned()], figure(count));
            seen.hosts().into_iter().map(told).collect()
        });
    }

    /// Registers the bounds, what is left to do by what was seen of Redis, and what lies on the disk.
    pub fn register_bounds(
        &self,
        registry: &mut Registry,
        config: &Config,
        disk: &DiskBudget,
        figures: &RedisFigures,
    ) {
        let bounds = [
            (&declared::RUNNING_BOUND, figure(config.concurrency)),
            (&declared::WAITING_BOUND, figure(config.places().iter().sum())),
            (&declared::MEMORY_BOUND, config.memory_bound() as f64),
            (&declared::DISK_BOUND, disk.total() as f64),
        ];
        for (declared, bound) in bounds {
            declared.asked(registry, move || Some(bound));
        }
        let disk = disk.clone();
        declared::DISK_USED.asked(registry, move || Some(disk.used() as f64));
        let directory = config.temp_dir.clone();
        declared::DISK_FREE.asked(registry, move || {
            let volume = rustix::fs::statvfs(&directory).ok()?;
            Some(volume.f_bavail as f64 * volume.f_frsize as f64)
        });
        let (seen, figures, streams) = (self.clone(), figures.clone(), config.streams.clone());
        declared::LEFT.asked(registry, move || {
            let queued: Option<f64> = streams.iter().map(|stream| figures.length(stream)).sum();
            Some(queued? + seen.delayed()? as f64)
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rsky_common::admin::prometheus_client::encoding::prometheus_text::encode;

    use super::*;
    use crate::job::{Job, Queue};
    use crate::lines::{Pool, Role};

    fn told(registry: &Registry) -> Vec<(String, i64)> {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
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
        observed.register(&mut registry);
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
