//! A repository on its way through this process.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use rsky_common::identity::DidDocument;
use tokio::sync::OwnedSemaphorePermit;

use crate::outcome::Class;
use crate::unread::Reached;

/// Which stream an entry came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Queue {
    /// Read first.
    Priority,
    /// The others.
    Normal,
}

/// Both, in the order of everything that there is one of for each.
pub const QUEUES: [Queue; 2] = [Queue::Priority, Queue::Normal];

impl Queue {
    /// Its stream of [`crate::config::Config::streams`].
    pub fn pick(self, streams: &[String; 2]) -> &str {
        self.of::<String>(streams)
    }

    /// Its own of a pair.
    pub fn of<T>(self, [priority, normal]: &[T; 2]) -> &T {
        match self {
            Self::Priority => priority,
            Self::Normal => normal,
        }
    }
}

/// What is between reading and settling, by queue: ids of entries, so that none is dealt out twice, or accounts, so that
/// none is fetched twice at a time.
#[derive(Debug, Clone, Default)]
pub struct InFlight(Arc<Mutex<HashSet<(Queue, String)>>>);

impl InFlight {
    /// Marks an entry or account; `None` when it is on its way already. Dropping the mark ends it.
    pub fn enter(&self, queue: Queue, name: &str) -> Option<Mark> {
        let key = (queue, name.to_owned());
        let entered = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        entered.then(|| Mark { all: self.clone(), key })
    }

    /// Those of one stream.
    pub fn of(&self, queue: Queue) -> Vec<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|(of, _)| *of == queue).map(|(_, id)| id.clone()).collect()
    }
}

/// See [`InFlight::enter`].
#[derive(Debug)]
pub struct Mark {
    all: InFlight,
    key: (Queue, String),
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// A repository to be fetched. Whoever holds it answers for its entry; dropped, the entry stays pending and is read
/// again after a restart or by another backfiller.
#[derive(Debug)]
pub struct Job {
    /// Where its entry is.
    pub queue: Queue,
    /// The entry's id.
    pub id: String,
    /// The entry's value, as it was.
    pub payload: String,
    /// The account.
    pub did: String,
    /// The host that listed it, with scheme.
    pub listed_by: String,
    /// Failed tries so far.
    pub attempts: u32,
    /// What the last try found wrong with its content, to be confirmed by another.
    pub suspected: Option<Class>,
    /// For a second comparison with the AppView, what was indexed before it.
    pub read_up_to: Option<Reached>,
    /// Its DID document, once known.
    pub document: Option<Arc<DidDocument>>,
    /// Whether the document was asked for on this job's behalf, past the cache.
    pub fresh: bool,
    /// The document whose host said that there is nothing, and what it said.
    pub left: Option<(Arc<DidDocument>, Class)>,
    /// How often a document was asked for after a host had said so.
    pub followed: u8,
    /// Mark of its account, unless it was not looked at.
    pub account: Option<Mark>,
    /// Mark and place in the bounded set of jobs.
    pub held: (Mark, OwnedSemaphorePermit),
}

#[cfg(test)]
impl Job {
    /// A job that is the only one of its process.
    pub(crate) fn alone(queue: Queue, did: &str) -> Self {
        let place = Arc::new(tokio::sync::Semaphore::new(1)).try_acquire_owned().unwrap();
        let mark = InFlight::default().enter(queue, did).unwrap();
        Self {
            queue,
            id: String::new(),
            payload: String::new(),
            did: did.to_owned(),
            listed_by: String::new(),
            attempts: 0,
            suspected: None,
            read_up_to: None,
            account: None,
            document: None,
            fresh: false,
            left: None,
            followed: 0,
            held: (mark, place),
        }
    }
}
