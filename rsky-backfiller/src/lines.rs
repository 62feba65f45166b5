//! All hosts, and the lines in which those stand that something waits for: which of them is next. No I/O and no waiting, so
//! the table can be looked at while it is used.
//!
//! A host that cannot be asked now stands in no line: it comes back at its time, or when one of its requests has ended.
//!
//! Each [`Pool`] has a line and places of its own, so whoever hangs or fails only keeps its like waiting: the directory
//! that nearly all accounts are looked up in does not wait for hosts of did:webs, nor hosts that answer for those that do
//! not.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use crate::hosts::{Host, HostState, Turn};
use crate::job::{Job, Queue};

/// Hosts that are remembered beside those that something waits for, a kilobyte each at most.
const MOST_HOSTS: usize = 20_000;
/// A host that was asked this recently is likely to be asked again.
const FRESH: Duration = Duration::from_secs(60);

/// A host in one of its two roles: a PDS that is also a directory (did:web) has two limits.
pub type Key = (Role, Arc<str>);

/// What a host is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// DID documents.
    Directory,
    /// Repositories.
    Repositories,
}

/// What requests are counted in, and hosts line up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// The PLC directory.
    Plc,
    /// Hosts of did:webs, for their documents.
    Web,
    /// Hosts that answer.
    Proven,
    /// Hosts that have not answered yet, or have failed.
    Unproven,
}

/// One of each pool.
#[derive(Debug, Default)]
pub struct PerPool<T> {
    plc: T,
    web: T,
    proven: T,
    unproven: T,
}

impl<T> PerPool<T> {
    fn of_mut(&mut self, pool: Pool) -> &mut T {
        match pool {
            Pool::Plc => &mut self.plc,
            Pool::Web => &mut self.web,
            Pool::Proven => &mut self.proven,
            Pool::Unproven => &mut self.unproven,
        }
    }
}

impl PerPool<usize> {
    /// Of one pool.
    pub fn of(&self, pool: Pool) -> usize {
        match pool {
            Pool::Plc => self.plc,
            Pool::Web => self.web,
            Pool::Proven => self.proven,
            Pool::Unproven => self.unproven,
        }
    }

    /// Of both that repositories are asked for in.
    pub fn repositories(&self) -> usize {
        self.proven.saturating_add(self.unproven)
    }
}

/// A request that is to be made now.
#[derive(Debug)]
pub struct Started {
    /// Whom to ask.
    pub key: Key,
    /// What it counts in.
    pub pool: Pool,
    /// For which repository.
    pub job: Job,
    /// The host's count of requests that are slow to begin.
    pub slow: Arc<AtomicUsize>,
}

/// See the module.
#[derive(Debug)]
pub struct Lines {
    hosts: HashMap<Key, Host>,
    /// Hosts that may be asked, in the order of their turns.
    lines: PerPool<VecDeque<Key>>,
    /// Hosts that may be asked at a time to come.
    timed: BTreeSet<(Instant, Key)>,
    /// Requests under way.
    running: PerPool<usize>,
    /// The directory that nearly all accounts are looked up in.
    plc: Key,
}

impl Lines {
    /// No hosts. `plc`: host and port of the PLC directory.
    pub fn new(plc: &str) -> Self {
        Self {
            hosts: HashMap::new(),
            lines: PerPool::default(),
            timed: BTreeSet::new(),
            running: PerPool::default(),
            plc: (Role::Directory, plc.into()),
        }
    }

    /// Whether this is the PLC directory.
    pub fn is_plc(&self, key: &Key) -> bool {
        *key == self.plc
    }

    /// Requests under way.
    pub fn running(&self) -> &PerPool<usize> {
        &self.running
    }

    /// A host, if it is known.
    pub fn host(&mut self, key: &Key) -> Option<&mut Host> {
        self.hosts.get_mut(key)
    }

    /// Repositories that wait for their host or their directory.
    pub fn waiting(&self) -> usize {
        self.hosts.values().map(|host| host.queue.len()).sum()
    }

    /// How many hosts there are of each state.
    pub fn states(&self, now: Instant) -> [(HostState, usize); 3] {
        let mut states = HostState::ALL.map(|state| (state, 0));
        for host in self.hosts.values() {
            let is_now = host.state(now);
            states.iter_mut().filter(|(state, _)| *state == is_now).for_each(|(_, count)| *count += 1);
        }
        states
    }

    /// All hosts.
    pub fn all(&self) -> impl Iterator<Item = (&Key, &Host)> {
        self.hosts.iter()
    }

    /// When the next of those that may not be asked now may be.
    pub fn next_time(&self) -> Option<Instant> {
        self.timed.first().map(|(time, _)| *time)
    }

    /// Puts a job in line for a host, of which at most `most` things are asked at a time.
    pub fn enqueue(&mut self, key: Key, job: Job, most: usize) {
        self.hosts.entry(key.clone()).or_insert_with(|| Host::new(most)).add(job);
        self.line_up(key);
    }

    /// Puts a job that was started back where it was.
    pub fn put_back(&mut self, key: Key, job: Job) {
        if let Some(host) = self.hosts.get_mut(&key) {
            host.put_back(job);
            self.line_up(key);
        }
    }

    /// A request has ended, however. [`Lines::line_up`] follows when it is known what it says of its host.
    pub fn ended(&mut self, key: &Key, pool: Pool) {
        let running = self.running.of_mut(pool);
        *running = running.saturating_sub(1);
        if let Some(host) = self.hosts.get_mut(key) {
            host.ended();
        }
    }

    /// Puts a host with work at the end of its line, unless it is in one.
    pub fn line_up(&mut self, key: Key) {
        let waits = |host: &&mut Host| !host.listed && !host.queue.is_empty();
        let Some(host) = self.hosts.get_mut(&key).filter(waits) else { return };
        host.listed = true;
        let pool = pool(&key, host, &self.plc);
        self.lines.of_mut(pool).push_back(key);
    }

    /// Hosts that keep us waiting may be asked again when others no longer do; nothing ends then.
    pub fn line_up_all(&mut self) {
        let waiting = self.hosts.iter().filter(|(_, host)| !host.listed && !host.queue.is_empty());
        let keys: Vec<Key> = waiting.map(|(key, _)| key.clone()).collect();
        keys.into_iter().for_each(|key| self.line_up(key));
    }

    /// Those whose time has come stand in line again.
    pub fn line_up_due(&mut self, now: Instant) {
        while self.next_time().is_some_and(|time| time <= now)
            && let Some((_, key)) = self.timed.pop_first()
        {
            if let Some(host) = self.hosts.get_mut(&key) {
                host.listed = false;
            }
            self.line_up(key);
        }
    }

    /// Starts the first of a line that may be; those before it leave the line. `pressed`: so many requests are slow to begin
    /// that a host which keeps us waiting gets no further ones.
    pub fn start_one(&mut self, line: Pool, now: Instant, pressed: bool) -> Option<Started> {
        while let Some(key) = self.lines.of_mut(line).pop_front() {
            let Some(host) = self.hosts.get_mut(&key) else { continue };
            host.listed = false;
            if pool(&key, host, &self.plc) != line {
                self.line_up(key);
                continue;
            }
            match host.turn(now, pressed) {
                Turn::Idle | Turn::AfterAnother => {}
                Turn::NotBefore(time) => {
                    host.listed = true;
                    self.timed.insert((time, key));
                }
                Turn::Start(job) => {
                    let slow = Arc::clone(&host.slow);
                    *self.running.of_mut(line) += 1;
                    self.line_up(key.clone());
                    return Some(Started { key, pool: line, job: *job, slow });
                }
            }
        }
        None
    }

    /// What waits of a queue and may be put off so that others get its places, by host. All hosts wait for the directory:
    /// that it has a queue keeps nobody else from being served.
    pub fn may_be_put_off(&self, queue: Queue, now: Instant) -> Vec<usize> {
        let queued = self.hosts.iter().filter(|((role, _), host)| is_put_off(*role, host, now));
        queued.map(|(_, host)| host.waiting_of(queue)).filter(|length| *length > 0).collect()
    }

    /// Takes out of that what goes beyond the first `share` of each host, each with the time after which it may come back.
    pub fn take_surplus(&mut self, queue: Queue, now: Instant, share: usize) -> Vec<(Job, Duration)> {
        let mut surplus = Vec::new();
        for ((role, _), host) in &mut self.hosts {
            if is_put_off(*role, host, now) {
                surplus.extend(host.take_surplus(queue, now, share));
            }
        }
        surplus
    }

    /// Takes out everything that waits for a host.
    pub fn take_all(&mut self, key: &Key) -> VecDeque<Job> {
        self.hosts.get_mut(key).map(|host| std::mem::take(&mut host.queue)).unwrap_or_default()
    }

    /// Forgets hosts until there are not too many.
    pub fn forget(&mut self, now: Instant) {
        forget(&mut self.hosts, MOST_HOSTS, now);
    }
}

fn pool(key: &Key, host: &Host, plc: &Key) -> Pool {
    match key.0 {
        Role::Directory if key == plc => Pool::Plc,
        Role::Directory => Pool::Web,
        Role::Repositories if host.is_proven() => Pool::Proven,
        Role::Repositories => Pool::Unproven,
    }
}

fn is_put_off(role: Role, host: &Host, now: Instant) -> bool {
    role == Role::Repositories || host.state(now) == HostState::SetAside
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
    use super::*;

    fn job(did: &str) -> Job {
        Job::alone(Queue::Normal, did)
    }

    #[test]
    fn the_directory_of_all_does_not_stand_behind_those_of_single_accounts() {
        let mut lines = Lines::new("plc");
        let now = Instant::now();
        for number in 0..1000 {
            lines.enqueue((Role::Directory, format!("silent{number}").into()), job("did:web:x"), 4);
        }
        for _ in 0..8 {
            lines.enqueue((Role::Directory, "plc".into()), job("did:plc:x"), 4);
        }
        let started = std::iter::from_fn(|| lines.start_one(Pool::Plc, now, false));
        assert!(started.map(|started| started.key.1).eq([(); 4].map(|()| Arc::<str>::from("plc"))));
        let web = lines.start_one(Pool::Web, now, false).unwrap();
        assert_eq!(
            (&*web.key.1, lines.running().of(Pool::Plc), lines.running().of(Pool::Web)),
            ("silent0", 4, 1)
        );
        lines.ended(&(Role::Directory, "plc".into()), Pool::Plc);
        lines.line_up((Role::Directory, "plc".into()));
        assert!(lines.start_one(Pool::Plc, now, false).is_some());
        assert_eq!(lines.waiting(), 1000 - 1 + 8 - 5);
    }

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
