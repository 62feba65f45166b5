//! What one host is asked at a time: few requests, fewer when it says so, none while it is in trouble.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rsky_common::runtime::backoff::jittered;

use crate::job::{Job, Queue};

/// Failures in a row after which a host is set aside.
const IN_TROUBLE: u32 = 3;
/// Pause after a 429 that names none; doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A host that is to be left alone for longer than this has no place in memory meanwhile.
const LONG: Duration = Duration::from_secs(5);
/// What a repository is taken to need of its host.
const PER_REPOSITORY: Duration = Duration::from_millis(50);
/// Doublings of the pause of a host in trouble.
const MOST_DOUBLINGS: u32 = 6;

/// A host's state, for metrics and pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostState {
    /// Nothing known against it.
    Fine,
    /// It asked to be left alone.
    Limited,
    /// It fails, and is tried now and then.
    SetAside,
}

impl HostState {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Fine, Self::Limited, Self::SetAside];

    /// Their names, in the same order.
    pub const NAMES: &'static [&'static str] =
        &[Self::Fine.name(), Self::Limited.name(), Self::SetAside.name()];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Limited => "limited",
            Self::SetAside => "set_aside",
        }
    }
}

/// What may be started at a host now.
#[derive(Debug)]
pub enum Turn {
    /// This one.
    Start(Box<Job>),
    /// Nothing before this time.
    NotBefore(Instant),
    /// Nothing before one that is under way has ended.
    AfterAnother,
    /// Nothing waits for it.
    Idle,
}

/// One host.
#[derive(Debug)]
pub struct Host {
    /// Repositories that wait for it.
    pub queue: VecDeque<Job>,
    /// Whether it stands in line, or waits for its time.
    pub listed: bool,
    /// Those under way that are slow to begin.
    pub slow: Arc<AtomicUsize>,
    proven: bool,
    running: usize,
    /// Requests allowed at a time; grows by a fraction with each answer.
    limit: f64,
    most: f64,
    not_before: Option<Instant>,
    /// Failures in a row.
    failures: u32,
    failing_since: Option<Instant>,
    /// Wishes to be left alone in a row.
    limited: u32,
    used: Instant,
}

impl Host {
    /// A host of which nothing is known, asked at most `most` things at a time.
    pub fn new(most: usize) -> Self {
        let most = f64::from(u32::try_from(most).unwrap_or(u32::MAX));
        Self {
            queue: VecDeque::new(),
            listed: false,
            slow: Arc::default(),
            proven: false,
            running: 0,
            limit: most,
            most,
            not_before: None,
            failures: 0,
            failing_since: None,
            limited: 0,
            used: Instant::now(),
        }
    }

    /// The next job, if one may be started now. `pressed`: so many requests are slow to begin that a host which keeps us
    /// waiting gets no further ones.
    pub fn turn(&mut self, now: Instant, pressed: bool) -> Turn {
        if self.queue.is_empty() {
            return Turn::Idle;
        }
        let keeps_waiting = pressed && self.slow.load(Ordering::Relaxed) > 0;
        if self.running >= self.allowed() || keeps_waiting && self.running > 0 {
            return Turn::AfterAnother;
        }
        if let Some(time) = self.waits_until(now) {
            return Turn::NotBefore(time);
        }
        let Some(job) = self.queue.pop_front() else { return Turn::Idle };
        self.start(now);
        Turn::Start(Box::new(job))
    }

    /// One more is under way.
    pub fn start(&mut self, now: Instant) {
        self.running += 1;
        self.used = now;
    }

    /// Puts a job in line: behind its like, the urgent ones before the others.
    pub fn add(&mut self, job: Job) {
        match job.queue {
            Queue::Priority => self.queue.insert(self.urgent(), job),
            Queue::Normal => self.queue.push_back(job),
        }
    }

    /// Puts a job that was taken out back where it was.
    pub fn put_back(&mut self, job: Job) {
        let at = if job.queue == Queue::Priority { 0 } else { self.urgent() };
        self.queue.insert(at, job);
    }

    fn urgent(&self) -> usize {
        self.queue.iter().take_while(|job| job.queue == Queue::Priority).count()
    }

    /// Whether it has answered, and has not failed since.
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// One that was started has ended, however.
    pub fn ended(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    fn allowed(&self) -> usize {
        // A host in trouble is tried with one repository, so that the others are not failed with it.
        if self.failures >= IN_TROUBLE { 1 } else { self.limit.max(1.0) as usize }
    }

    /// It answered as a host should. `pace`: its headers say that it wants to be left alone for that long.
    pub fn answered(&mut self, now: Instant, pace: Option<Duration>) {
        self.proven = true;
        self.failures = 0;
        self.failing_since = None;
        self.limited = 0;
        self.limit = (self.limit + 1.0 / self.limit.max(1.0)).min(self.most);
        if let Some(pace) = pace {
            self.hold_until(now + pace);
        }
    }

    /// It asked to be left alone, perhaps for a time it named: for that long, to the second, or for our own growing pause
    /// if that is longer.
    pub fn asked_for_patience(&mut self, now: Instant, wait: Option<Duration>) {
        // Several answers of the same moment are one wish.
        let again = self.not_before.is_some_and(|time| time > now);
        if !again {
            self.limit = (self.limit / 2.0).max(1.0);
            self.limited = self.limited.saturating_add(1);
        }
        let own = FIRST_PAUSE.saturating_mul(1 << self.limited.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
        // Whatever it names, the pause grows: a time that has passed, or none at all, would be a request without a pause.
        self.hold_until(now + wait.unwrap_or_default().max(jittered(own)));
    }

    /// It failed in a way that speaks against it.
    pub fn failed(&mut self, now: Instant, first_pause: Duration) {
        self.proven = false;
        self.failures = self.failures.saturating_add(1);
        self.failing_since.get_or_insert(now);
        if let Some(more) = self.failures.checked_sub(IN_TROUBLE) {
            let pause = first_pause.saturating_mul(1 << more.min(MOST_DOUBLINGS));
            self.hold_until(now + jittered(pause));
        }
    }

    fn hold_until(&mut self, time: Instant) {
        self.not_before = Some(self.not_before.map_or(time, |known| known.max(time)));
    }

    /// Whether it has given no answer for so long that nothing is expected any more.
    pub fn is_given_up(&self, now: Instant, after: Duration) -> bool {
        self.failures >= IN_TROUBLE
            && self.failing_since.is_some_and(|since| now.duration_since(since) > after)
    }

    /// Repositories of a queue that wait for it.
    pub fn waiting_of(&self, queue: Queue) -> usize {
        self.queue.iter().filter(|job| job.queue == queue).count()
    }

    /// Takes out what waits of a queue beyond the first `share`, each with the time after which it may come back: spread,
    /// so that the ones before it are done by then. A host that is to be left alone for long keeps nothing.
    pub fn take_surplus(&mut self, queue: Queue, now: Instant, share: usize) -> Vec<(Job, Duration)> {
        let wait = self.waits_until(now).map(|until| until.duration_since(now)).unwrap_or_default();
        let mut left = if wait > LONG { 0 } else { share };
        let (mut kept, mut surplus) = (VecDeque::new(), Vec::new());
        for job in std::mem::take(&mut self.queue) {
            if job.queue != queue {
                kept.push_back(job);
            } else if left > 0 {
                left -= 1;
                kept.push_back(job);
            } else {
                let place = u32::try_from(surplus.len()).unwrap_or(u32::MAX);
                surplus.push((job, jittered(LONG + wait + PER_REPOSITORY.saturating_mul(place))));
            }
        }
        self.queue = kept;
        surplus
    }

    /// When it may be asked again, if not now.
    pub fn waits_until(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|time| *time > now)
    }

    /// Its state now.
    pub fn state(&self, now: Instant) -> HostState {
        if self.failures >= IN_TROUBLE {
            HostState::SetAside
        } else if self.waits_until(now).is_some() || self.limit < self.most {
            HostState::Limited
        } else {
            HostState::Fine
        }
    }

    /// What is wrong with it, for people; `None`: nothing.
    pub fn trouble(&self, now: Instant) -> Option<String> {
        let seconds = |duration: Duration| format!("{} s", duration.as_secs());
        let until = self.waits_until(now).map(|until| seconds(until.saturating_duration_since(now)));
        let again = until.map(|wait| format!("; asked again in {wait}")).unwrap_or_default();
        match self.state(now) {
            HostState::Fine => None,
            HostState::Limited => Some(format!("{} at a time{again}", self.allowed())),
            HostState::SetAside => {
                let since = self.failing_since.map(|since| seconds(now.saturating_duration_since(since)));
                let since = since.map(|since| format!(" for {since}")).unwrap_or_default();
                Some(format!("failed {} times in a row{since}{again}", self.failures))
            }
        }
    }

    /// Whether forgetting it changes nothing.
    pub fn is_idle(&self, now: Instant) -> bool {
        self.has_no_work() && self.state(now) == HostState::Fine
    }

    /// Whether nothing waits for it and nothing is under way.
    pub fn has_no_work(&self) -> bool {
        self.queue.is_empty() && self.running == 0
    }

    /// When it was last asked something.
    pub fn used(&self) -> Instant {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_429_halves_and_success_raises_again() {
        let (mut host, now) = (Host::new(8), Instant::now());
        host.asked_for_patience(now, Some(Duration::from_secs(7)));
        host.asked_for_patience(now, Some(Duration::from_secs(7)));
        assert_eq!(host.allowed(), 4);
        assert_eq!(host.waits_until(now), Some(now + Duration::from_secs(7)));
        assert_eq!(host.waits_until(now + Duration::from_secs(7)), None);
        assert_eq!(host.state(now), HostState::Limited);
        for _ in 0..40 {
            host.answered(now, None);
        }
        assert_eq!(host.allowed(), 8);
    }

    #[test]
    fn pauses_grow_whatever_the_host_names() {
        // Nothing, a date that has passed or `0`, the same short time again and again.
        for named in [None, Some(Duration::ZERO), Some(Duration::from_millis(700))] {
            let (mut host, mut now) = (Host::new(8), Instant::now());
            for seconds in [1_u64, 2, 4, 8] {
                host.asked_for_patience(now, named);
                let until = host.waits_until(now).unwrap();
                let waited = until.duration_since(now).as_secs_f64();
                assert!((waited / seconds as f64 - 1.0).abs() <= 0.26, "{waited} for {seconds}");
                now = until;
            }
            assert_eq!(host.allowed(), 1);
        }
    }

    #[test]
    fn several_failures_set_it_aside_and_one_answer_brings_it_back() {
        let (mut host, now) = (Host::new(8), Instant::now());
        for _ in 0..2 {
            host.failed(now, Duration::from_secs(30));
        }
        assert_eq!((host.state(now), host.waits_until(now)), (HostState::Fine, None));
        host.failed(now, Duration::from_secs(30));
        assert_eq!((host.state(now), host.allowed()), (HostState::SetAside, 1));
        assert!(host.waits_until(now).is_some());
        assert!(!host.is_given_up(now, Duration::from_secs(60)));
        assert!(host.is_given_up(now + Duration::from_secs(61), Duration::from_secs(60)));
        host.answered(now, None);
        assert_eq!((host.state(now + Duration::from_secs(60)), host.allowed()), (HostState::Fine, 8));
    }

    fn names(host: &Host) -> Vec<&str> {
        host.queue.iter().map(|job| job.did.as_str()).collect()
    }

    fn job(queue: Queue, did: &str) -> Job {
        Job::alone(queue, did)
    }

    #[test]
    fn priority_comes_first_and_each_queue_keeps_its_order() {
        let mut host = Host::new(8);
        for (queue, did) in
            [(Queue::Normal, "n1"), (Queue::Priority, "p1"), (Queue::Normal, "n2"), (Queue::Priority, "p2")]
        {
            host.add(job(queue, did));
        }
        host.put_back(job(Queue::Normal, "n0"));
        host.put_back(job(Queue::Priority, "p0"));
        assert_eq!(names(&host), ["p0", "p1", "p2", "n0", "n1", "n2"]);
    }

    #[test]
    fn only_the_surplus_of_one_queue_is_taken_out() {
        let (mut host, now) = (Host::new(8), Instant::now());
        for number in 0..6 {
            host.add(job(if number % 2 == 0 { Queue::Priority } else { Queue::Normal }, &number.to_string()));
        }
        let taken = host.take_surplus(Queue::Priority, now, 1);
        assert_eq!(taken.iter().map(|(job, _)| job.did.as_str()).collect::<Vec<_>>(), ["2", "4"]);
        assert_eq!(names(&host), ["0", "1", "3", "5"]);
        host.asked_for_patience(now, Some(Duration::from_secs(60)));
        assert_eq!(host.take_surplus(Queue::Normal, now, 2).len(), 3);
        assert_eq!(names(&host), ["0"]);
    }

    #[test]
    fn a_host_is_proven_by_an_answer_and_no_longer_after_a_failure() {
        let (mut host, now) = (Host::new(8), Instant::now());
        assert!(!host.is_proven());
        host.answered(now, None);
        assert!(host.is_proven());
        host.failed(now, Duration::from_secs(30));
        assert!(!host.is_proven());
    }
}
