//! Now and then: figures for the pages, hosts that can be forgotten, room for hosts that can be served.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Dispatcher, Role};
use crate::clock::now_ms;
use crate::hosts::{Host, HostState};
use crate::ledger::Verdict;
use crate::metrics::StateLabel;

/// Hosts that are remembered; of more, those that nothing is known against are forgotten.
const MOST_HOSTS: usize = 20_000;

impl Dispatcher {
    pub(super) async fn look_around(&mut self) {
        let now = Instant::now();
        self.line_up_all();
        if self.hosts.len() > MOST_HOSTS {
            self.hosts.retain(|_, host| {
                !host.is_idle(now) || now.duration_since(host.used()) < Duration::from_secs(60)
            });
        }
        let mut states = HashMap::new();
        let mut waiting = 0_usize;
        for host in self.hosts.values() {
            *states.entry(host.state(now)).or_insert(0_i64) += 1;
            waiting += host.queue.len();
        }
        for state in HostState::ALL {
            let label = StateLabel { state: state.name() };
            self.metrics.hosts.get_or_create(&label).set(states.get(&state).copied().unwrap_or(0));
        }
        self.metrics.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        let delayed = self.delayed.load(Ordering::Relaxed);
        self.metrics.delayed.set(i64::try_from(delayed).unwrap_or(i64::MAX));
        self.make_room(now, delayed).await;
    }

    /// When all places are taken by repositories that have to wait while others could be served, half of them are put
    /// off: as a host is set aside, its repositories are kept, but not here.
    async fn make_room(&mut self, now: Instant, delayed: u64) {
        let config = &self.worker.config;
        let busy = self.running.repositories() >= self.allowed();
        if self.places.available_permits() > 0 || busy || delayed >= config.delayed_max {
            return;
        }
        // All hosts wait for the directory: that it has a queue keeps nobody else from being served.
        let may_be_put_off =
            |role: Role, host: &Host| role == Role::Repositories || host.state(now) == HostState::SetAside;
        let queued = self.hosts.iter().filter(|((role, _), host)| may_be_put_off(*role, host));
        let lengths: Vec<usize> =
            queued.map(|(_, host)| host.queue.len()).filter(|length| *length > 0).collect();
        if lengths.iter().sum::<usize>() <= config.queue / 2 {
            return;
        }
        let share = (config.queue / 4 / lengths.len().max(1)).max(1);
        let mut parked = Vec::new();
        for ((role, _), host) in &mut self.hosts {
            if may_be_put_off(*role, host) {
                parked.extend(host.take_surplus(now, share));
            }
        }
        for (job, delay) in parked {
            self.metrics.parked.inc();
            let due = now_ms().saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
            self.ledger.settle(job, Verdict::Later(due)).await;
        }
    }
}
