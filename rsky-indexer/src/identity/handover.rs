//! From the lanes to the work beside them: never waiting, never more than there is room for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rsky_common::admin::Counter;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::ahead::Looked;
use super::crowd::{CrowdPlace, Crowds, domain_of};
use super::deferral::Admission;
use super::learned::Learned;
use super::looked_at::LookedAt;
use crate::acks::{Fate, entry_id};
use crate::engine::{AccountNews, News};
use crate::job::Job;

/// An account that is to be looked at, since the rows of one of its entries are written.
#[derive(Debug)]
pub struct Task {
    /// What is kept meanwhile.
    pub keeps: Keeps,
    /// What the entry says.
    pub news: AccountNews,
    /// Its place among those of its domain, where one is known.
    pub crowd: Option<CrowdPlace>,
    /// Of a deletion: how far the stream was looked through for what the account wrote before.
    pub(super) looked: Looked,
}

impl Task {
    fn new(keeps: Keeps, news: AccountNews, crowd: Option<CrowdPlace>) -> Self {
        Self { keeps, news, crowd, looked: Looked::default() }
    }
}

/// What a task keeps until it is done.
#[derive(Debug)]
pub enum Keeps {
    /// The entry, without its payload: it is settled then.
    Entry(Job),
    /// Only its place among those that nobody waits for: the entry is settled already.
    Place(OwnedSemaphorePermit),
}

/// How many entries the work beside the lanes may hold, and how many it holds.
#[derive(Debug)]
pub struct Room {
    limit: usize,
    held: AtomicUsize,
    delayed: AtomicUsize,
    held_up: AtomicUsize,
}

/// For each entry that is worked on, so many may wait for a moment that is to come.
const DELAYED: usize = 8;

/// For so many entries that may be worked on, one account may be looked at that nobody waits for. When all these wait for
/// an answer, an entry that comes waits for them: few, or identity events are late.
const ENTRIES_PER_LOOK: usize = 16;

/// One domain has this part of the places, whatever else is free: what waits for its hosts may wait for long.
const PART_OF_DOMAIN: usize = 4;

impl Room {
    fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            held: AtomicUsize::new(0),
            delayed: AtomicUsize::new(0),
            held_up: AtomicUsize::new(0),
        }
    }

    /// Entries that may be held: those that wait for a moment take no place from the others, up to a bound.
    fn bound(&self) -> usize {
        self.limit + self.delayed.load(Ordering::Relaxed).min(DELAYED * self.limit)
    }

    fn take(&self) -> bool {
        let bound = self.bound();
        let taken = |held| (held < bound).then_some(held + 1);
        self.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, taken).is_ok()
    }

    /// So many are done with.
    pub fn give_back(&self, count: usize) {
        self.held.fetch_sub(count, Ordering::AcqRel);
    }

    /// So many wait for a moment that is to come.
    pub fn set_delayed(&self, count: usize) {
        self.delayed.store(count, Ordering::Relaxed);
    }

    /// So many accounts are to be deleted, and wait for what others have of them.
    pub fn set_held_up(&self, count: usize) {
        self.held_up.store(count, Ordering::Relaxed);
    }

    /// How many are held.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }

    /// Free places, when there are at least half as many as may be worked on.
    pub(super) fn free(&self) -> Option<usize> {
        let free = self.bound().saturating_sub(self.held());
        (free >= self.limit.div_ceil(2)).then_some(free)
    }
}

/// The lanes' end of the way to the work beside them.
#[derive(Debug, Clone)]
pub struct Handover {
    sender: mpsc::Sender<Task>,
    room: Arc<Room>,
    /// Entries of one domain.
    crowds: Crowds,
    looks: Arc<Semaphore>,
    /// Accounts of one domain that nobody waits for.
    looking_crowds: Crowds,
    learned: Learned,
    looked_at: Arc<LookedAt>,
    deferred: Counter,
}

/// The other end.
#[derive(Debug)]
pub struct Tasks {
    pub(super) receiver: mpsc::Receiver<Task>,
    pub(super) room: Arc<Room>,
    pub(super) places: Places,
}

/// Where tasks get a place among those of the domain that turns out to answer for them.
#[derive(Debug, Clone)]
pub(super) struct Places {
    crowds: Crowds,
    looking_crowds: Crowds,
    learned: Learned,
}

impl Places {
    /// Places for tasks of an account that this domain has to answer for: for each, in their order, or for none.
    pub(super) fn enter(&self, did: &str, domain: &str, tasks: &mut [Task]) -> bool {
        self.learned.note(did, domain);
        let mut places = Vec::new();
        for task in &*tasks {
            if task.crowd.as_ref().is_some_and(|place| place.is_of(domain)) {
                places.push(None);
                continue;
            }
            let crowds = match task.keeps {
                Keeps::Entry(_) => &self.crowds,
                Keeps::Place(_) => &self.looking_crowds,
            };
            let Some(place) = crowds.enter(domain) else { return false };
            places.push(Some(place));
        }
        for (task, place) in tasks.iter_mut().zip(places) {
            task.crowd = place.or(task.crowd.take());
        }
        true
    }
}

impl Places {
    /// The domain that has to answer for an account, where half of its places are taken.
    pub(super) fn thick_domain_of(&self, did: &str) -> Option<String> {
        let domain = self.learned.of(did).or_else(|| domain_of(did))?;
        (!self.crowds.is_thin(&domain)).then_some(domain)
    }
}

impl Handover {
    /// A way for as many entries as may be worked on. `deferred` counts those that found no room.
    pub fn new(limit: usize, deferred: Counter) -> (Self, Tasks) {
        let room = Arc::new(Room::new(limit));
        let looks = room.limit.div_ceil(ENTRIES_PER_LOOK);
        // Looks take no place from entries.
        let (sender, receiver) = mpsc::channel(room.limit + looks);
        let handover = Self {
            sender,
            room: Arc::clone(&room),
            crowds: Crowds::new(room.limit / PART_OF_DOMAIN),
            looking_crowds: Crowds::new(looks / PART_OF_DOMAIN),
            learned: Learned::default(),
            looks: Arc::new(Semaphore::new(looks)),
            looked_at: Arc::default(),
            deferred,
        };
        let Self { crowds, looking_crowds, learned, .. } = handover.clone();
        (handover, Tasks { receiver, room, places: Places { crowds, looking_crowds, learned } })
    }

    /// How many entries are held beside the lanes.
    pub fn held(&self) -> usize {
        self.room.held()
    }

    /// How many accounts are to be deleted, and wait for what others have of them.
    pub fn held_up(&self) -> usize {
        self.room.held_up.load(Ordering::Relaxed)
    }

    /// How many may be held now.
    pub fn bound(&self) -> usize {
        self.room.bound()
    }

    /// Hands an entry over: it is settled there then. Without room it is put off, and read again later. A commit alone
    /// is settled here.
    pub fn hand(&self, job: &Job, news: AccountNews) -> Fate {
        if news.what == News::Commit {
            self.look(&news);
            return Fate::Indexed;
        }
        let domain = self.domain_of(&news.did);
        let deferral = &job.source.deferral;
        let admission = deferral.admits(domain.as_deref(), job.round);
        let crowd = domain.as_deref().map(|domain| self.crowds.enter(domain));
        let is_crowded = matches!(crowd, Some(None)) || admission == Admission::ClosedForDomain;
        let overtaken = job.overtaken(&news);
        if admission == Admission::Open && !is_crowded && overtaken.is_none() && self.room.take() {
            let keeps = Keeps::Entry(job.without_payload());
            match self.sender.try_send(Task::new(keeps, news.clone(), crowd.flatten())) {
                Ok(()) => {
                    if news.what.writes() {
                        deferral.goes(entry_id(&job.id));
                    }
                    return Fate::Handed;
                }
                Err(error) => {
                    self.room.give_back(1);
                    if matches!(error, TrySendError::Closed(_)) {
                        // The process stops.
                        return Fate::Abandoned;
                    }
                }
            }
        }
        self.deferred.inc();
        let domain = domain.filter(|_| is_crowded).or(overtaken).filter(|_| admission != Admission::Closed);
        Fate::Deferred(job.put_off_behind(&news, domain))
    }

    /// Has the account of a commit looked at, unless it was of late. Nothing waits for it: without room the account's next
    /// commit tries again.
    fn look(&self, news: &AccountNews) {
        self.looked_at.once(&news.did, || {
            let crowd = self.domain_of(&news.did).map(|domain| self.looking_crowds.enter(&domain));
            let Ok(place) = Arc::clone(&self.looks).try_acquire_owned() else { return false };
            if matches!(crowd, Some(None)) {
                return false;
            }
            let (keeps, crowd) = (Keeps::Place(place), crowd.flatten());
            self.sender.try_send(Task::new(keeps, news.clone(), crowd)).is_ok()
        });
    }

    /// Who has to answer for an account, as far as is known: whoever its document named last, or its DID.
    fn domain_of(&self, did: &str) -> Option<String> {
        self.learned.of(did).or_else(|| domain_of(did))
    }

    /// Free places, once there are enough to read entries again that were put off.
    pub fn room(&self) -> Option<usize> {
        self.room.free()
    }

    /// Whether there are enough for one domain.
    pub fn has_room_for(&self, domain: &str) -> bool {
        self.crowds.is_thin(domain)
    }

    /// Places that one domain may have.
    pub fn room_of_domain(&self) -> usize {
        self.crowds.share()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_moment_takes_no_place() {
        let room = Room::new(4);
        assert!((0..4).all(|_| room.take()) && !room.take());
        assert_eq!(room.free(), None);
        room.set_delayed(2);
        assert_eq!(room.free(), Some(2));
        assert!(room.take() && room.take() && !room.take());
        room.set_delayed(1_000_000);
        let mut more = 0;
        while room.take() {
            more += 1;
        }
        assert_eq!(6 + more, 4 + DELAYED * 4);
        room.give_back(36);
        assert_eq!(room.held(), 0);
    }

    #[test]
    fn accounts_of_one_domain_have_its_share_whether_it_is_known_before_or_learned() {
        let (handover, tasks) = Handover::new(32, Counter::default());
        let looks = Arc::new(Semaphore::new(9));
        let task = || {
            let news = AccountNews { did: "did:plc:a".into(), time: String::new(), what: News::Commit };
            Task::new(Keeps::Place(Arc::clone(&looks).try_acquire_owned().unwrap()), news, None)
        };
        // The share of what nobody waits for is one of two here.
        let mut own = [task()];
        assert!(tasks.places.enter("did:plc:a", "slow.example", &mut own));
        assert!(tasks.places.enter("did:plc:a", "slow.example", &mut own), "it has its place");
        assert!(!tasks.places.enter("did:plc:b", "slow.example", &mut [task()]));
        assert!(
            !tasks.places.enter("did:plc:c", "other.example", &mut [task(), task()]),
            "for all or for none"
        );
        assert!(tasks.places.enter("did:plc:c", "other.example", &mut [task()]));
        assert_eq!(handover.domain_of("did:plc:b").as_deref(), Some("slow.example"));
        assert_eq!(handover.domain_of("did:web:x.example").as_deref(), Some("x.example"));
        // It was moved: the place of the former domain is free.
        assert!(tasks.places.enter("did:plc:a", "third.example", &mut own));
        assert!(tasks.places.enter("did:plc:b", "slow.example", &mut [task()]));
    }

    #[test]
    fn an_account_that_commits_is_looked_at_once_and_without_room_later() {
        let (handover, mut tasks) = Handover::new(32, Counter::default());
        let commit = |did: &str| {
            handover.look(&AccountNews { did: did.into(), time: String::new(), what: News::Commit });
        };
        ["a", "a", "b", "c", "b"].into_iter().for_each(commit);
        let mut next = || tasks.receiver.try_recv().ok();
        let (first, second) = (next().unwrap(), next().unwrap());
        assert_eq!((first.news.did.as_str(), second.news.did.as_str()), ("a", "b"));
        assert!(next().is_none());
        drop(first);
        ["b", "c", "d"].into_iter().for_each(commit);
        assert_eq!(next().unwrap().news.did, "c");
        assert!(next().is_none());
        assert_eq!(tasks.room.held(), 0);
    }
}
