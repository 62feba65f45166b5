//! Now and then: figures for the pages, hosts that can be forgotten, room for hosts that can be served.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{Dispatcher, Key, Role};
use crate::clock::{millis, now_ms};
use crate::hosts::{Host, HostState};
use crate::job::{QUEUES, Queue};
use crate::ledger::{Until, Verdict};
use crate::metrics::StateLabel;

/// Hosts that are remembered beside those that something waits for, a kilobyte each at most.
const MOST_HOSTS: usize = 20_000;
/// Time between two goes of sending repositories to the end of their stream.
const ROTATE: Duration = Duration::from_secs(1);
/// A host that was asked this recently is likely to be asked again.
const FRESH: Duration = Duration::from_secs(60);

impl Dispatcher {
    pub(super) async fn look_around(&mut self) {
        let now = Instant::now();
        self.line_up_all();
        self.troubles.look(now);
        forget(&mut self.hosts, MOST_HOSTS, now);
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
        for queue in QUEUES {
            self.make_room(queue, now).await;
        }
    }

    /// When all places of a queue are taken by repositories that have to wait while others could be served, half of them
    /// are put off: as a host is set aside, its repositories are kept, but not here. When very many are put off already,
    /// they go to the end of their stream instead, which takes no more of Redis: one host's repositories, however many,
    /// cannot fill every place.
    async fn make_room(&mut self, queue: Queue, now: Instant) {
        let config = &self.worker.config;
        let (places, most) = (queue.of(&self.places), *queue.of(&config.places()));
        let busy = self.worker.is_crowded() || self.running.repositories() >= self.allowed();
        if places.available_permits() > 0 || busy {
            return;
        }
        let rotates = self.delayed.get().is_none_or(|delayed| delayed >= config.delayed_max);
        if rotates {
            // Perhaps there is nothing else in the stream: a walk, not a run.
            let [urgent, normal] = &mut self.rotate_at;
            let rotate_at = if queue == Queue::Priority { urgent } else { normal };
            if *rotate_at > now {
                return;
            }
            *rotate_at = now + ROTATE;
        }
        // All hosts wait for the directory: that it has a queue keeps nobody else from being served.
        let may_be_put_off =
            |role: Role, host: &Host| role == Role::Repositories || host.state(now) == HostState::SetAside;
        let queued = self.hosts.iter().filter(|((role, _), host)| may_be_put_off(*role, host));
        let lengths: Vec<usize> =
            queued.map(|(_, host)| host.waiting_of(queue)).filter(|length| *length > 0).collect();
        if lengths.iter().sum::<usize>() <= most / 2 {
            return;
        }
        let share = (most / 4 / lengths.len().max(1)).max(1);
        let mut parked = Vec::new();
        for ((role, _), host) in &mut self.hosts {
            if may_be_put_off(*role, host) {
                parked.extend(host.take_surplus(queue, now, share));
            }
        }
        for (job, delay) in parked {
            self.metrics.parked.inc();
            if rotates {
                self.ledger.settle(job, Verdict::Later(Until::ItsTurn)).await;
                continue;
            }
            let due = now_ms().saturating_add(millis(delay));
            self.ledger.settle(job, Verdict::Later(Until::Due(due))).await;
        }
    }
}

/// Forgets hosts until there are at most `most`, or none left that nothing waits for. First those that nothing is known
/// against, then the ones that were asked longest ago: names of hosts come from the network, and there is no end of them.
fn forget(hosts: &mut HashMap<Key, Host>, most: usize, now: Instant) {
    if hosts.len() <= most {
        return;
    }
    hosts.retain(|_, host| !host.is_idle(now) || now.duration_since(host.used()) < FRESH);
    let surplus = hosts.len().saturating_sub(most);
    if surplus == 0 {
        return;
    }
    let mut unused: Vec<(Instant, Key)> = hosts
        .iter()
        .filter(|(_, host)| host.has_no_work())
        .map(|(key, host)| (host.used(), key.clone()))
        .collect();
    unused.sort_unstable();
    // Some more at once, so that this is not done for each.
    for (_, key) in unused.into_iter().take(surplus.saturating_add(most / 8)) {
        hosts.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn hosts_that_fail_are_not_remembered_without_end() {
        let mut hosts = HashMap::new();
        let start = Instant::now();
        for number in 0..10_000_u64 {
            let now = start + Duration::from_millis(number);
            let mut host = Host::new(8);
            host.start(now);
            host.ended();
            for _ in 0..3 {
                host.failed(now, Duration::from_secs(30));
            }
            hosts.insert((Role::Repositories, format!("host{number}").into()), host);
            forget(&mut hosts, 1000, now);
            assert!(hosts.len() <= 1000);
        }
        let is_there =
            |number: u64| hosts.contains_key(&(Role::Repositories, format!("host{number}").into()));
        assert!(is_there(9999) && is_there(9200) && !is_there(0), "the latest are kept");
    }

    #[test]
    fn what_has_work_is_kept() {
        let now = Instant::now();
        let key = |number: u64| (Role::Repositories, Arc::from(format!("host{number}")));
        let mut hosts: HashMap<Key, Host> = (0..10).map(|number| (key(number), Host::new(8))).collect();
        hosts.get_mut(&key(0)).unwrap().start(now);
        forget(&mut hosts, 1, now + Duration::from_secs(61));
        assert_eq!(hosts.into_keys().collect::<Vec<_>>(), [key(0)]);
    }
}
