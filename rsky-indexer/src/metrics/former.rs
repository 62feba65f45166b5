//! What the former rsky indexer counted, without labels: existing dashboards go on working.

use rsky_common::admin::{Counter, Registry};

use super::What;
use super::declared as declarations;
use super::event_type::EventType;

/// Counters over all streams.
#[derive(Clone, Debug)]
pub struct Former {
    events: Counter,
    creates: Counter,
    updates: Counter,
    deletes: Counter,
    repos: Counter,
    accounts: Counter,
    identities: Counter,
    by_collection: [(&'static str, Counter); 6],
    writes: Counter,
    errors: Counter,
    expected: Counter,
    unexpected: Counter,
    labels: Counter,
    labels_added: Counter,
    labels_removed: Counter,
    /// Acknowledgements that did not go through at once.
    pub ack_failures: Counter,
}

impl Former {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            events: declarations::FORMER_EVENTS.one(registry),
            creates: declarations::FORMER_CREATES.one(registry),
            updates: declarations::FORMER_UPDATES.one(registry),
            deletes: declarations::FORMER_DELETES.one(registry),
            repos: declarations::FORMER_REPOS.one(registry),
            accounts: declarations::FORMER_ACCOUNTS.one(registry),
            identities: declarations::FORMER_IDENTITIES.one(registry),
            by_collection: [
                ("app.bsky.feed.post", declarations::FORMER_POSTS.one(registry)),
                ("app.bsky.feed.like", declarations::FORMER_LIKES.one(registry)),
                ("app.bsky.feed.repost", declarations::FORMER_REPOSTS.one(registry)),
                ("app.bsky.graph.follow", declarations::FORMER_FOLLOWS.one(registry)),
                ("app.bsky.graph.block", declarations::FORMER_BLOCKS.one(registry)),
                ("app.bsky.actor.profile", declarations::FORMER_PROFILES.one(registry)),
            ],
            writes: declarations::FORMER_WRITES.one(registry),
            errors: declarations::FORMER_ERRORS.one(registry),
            expected: declarations::FORMER_EXPECTED.one(registry),
            unexpected: declarations::FORMER_UNEXPECTED.one(registry),
            labels: declarations::FORMER_LABELS.one(registry),
            labels_added: declarations::FORMER_LABELS_ADDED.one(registry),
            labels_removed: declarations::FORMER_LABELS_REMOVED.one(registry),
            ack_failures: declarations::FORMER_ACK_FAILURES.one(registry),
        }
    }

    /// An entry is done with.
    pub(super) fn done(&self, what: What) {
        let kind = match what {
            What::Labels { added, removed } => {
                self.labels.inc_by(added.saturating_add(removed).into());
                self.labels_added.inc_by(added.into());
                self.labels_removed.inc_by(removed.into());
                return;
            }
            What::Event(kind) => kind,
        };
        self.events.inc();
        let by_type = match kind {
            EventType::Unread => None,
            EventType::Repo => Some(&self.repos),
            EventType::Account => Some(&self.accounts),
            EventType::Identity => Some(&self.identities),
            EventType::Create(_) => Some(&self.creates),
            EventType::Update(_) => Some(&self.updates),
            EventType::Delete(_) => Some(&self.deletes),
        };
        let counted = self.by_collection.iter().find(|(nsid, _)| kind.collection() == Some(nsid));
        for counter in by_type.into_iter().chain(counted.map(|(_, counter)| counter)) {
            counter.inc();
        }
    }

    pub(super) fn rows(&self, rows: u64) {
        self.writes.inc_by(rows);
    }

    /// Entries became dead letters.
    pub fn expected(&self, entries: u64) {
        self.expected.inc_by(entries);
        self.errors.inc_by(entries);
    }

    /// Something failed in a way nobody foresaw.
    pub fn unexpected(&self, times: u64) {
        self.unexpected.inc_by(times);
        self.errors.inc_by(times);
    }
}
