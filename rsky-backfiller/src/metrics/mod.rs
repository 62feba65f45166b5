//! What the backfiller counts. Names of old rsky (PIPELINE §8) are kept.

pub mod declared;

use std::sync::Arc;

use rsky_common::admin::{Counter, Counters, Group, Histogram, Histograms, Registry};
use rsky_common::runtime::Rounds;

use crate::outcome::{Action, Class};

/// What the backfiller declares, beside what every daemon does.
pub static DECLARED: &[Group] = &[
    declared::OF_REPOSITORIES,
    declared::OF_RECORDS,
    declared::OF_GATES,
    declared::OF_MEMORY,
    declared::FORMER,
];

/// Everything the backfiller counts. What is computed when it is asked for is in [`crate::observed`].
#[derive(Debug, Clone)]
pub struct Metrics {
    outcomes: Counters,
    /// Repositories that are done with.
    pub processed: Counter,
    /// Tries that failed.
    pub failed: Counter,
    /// Repositories that became dead letters.
    pub dead: Counter,
    dead_by_reason: Counters,
    retries: Counter,
    retries_by_reason: Counters,
    /// Repositories put off because others could be served meanwhile.
    pub parked: Counter,
    /// Records queued.
    pub records: Counter,
    /// Records of other collections.
    pub filtered: Counter,
    /// Deletes of records that are no longer there.
    pub deletes: Counter,
    /// Records that could not be converted.
    pub bad_records: Counter,
    bytes: Counter,
    sizes: Histogram,
    seconds: Histograms,
    /// Entries taken over from other consumers.
    pub claimed: Counter,
    fetch_errors: Counter,
    parse_errors: Counter,
    verification_errors: Counter,
    /// Rounds of the dispatcher; for the watchdog, not scraped.
    pub rounds: Rounds,
}

impl Metrics {
    /// Makes and registers all of them, so that every series is there from the start.
    pub fn register(registry: &mut Registry) -> Arc<Self> {
        let metrics = Self {
            outcomes: declared::OUTCOMES.many(registry),
            processed: declared::PROCESSED.one(registry),
            failed: declared::FAILED.one(registry),
            dead: declared::DEAD.one(registry),
            dead_by_reason: declared::DEAD_BY_REASON.many(registry),
            retries: declared::RETRIES.one(registry),
            retries_by_reason: declared::RETRIES_BY_REASON.many(registry),
            parked: declared::PARKED.one(registry),
            records: declared::RECORDS.one(registry),
            filtered: declared::FILTERED.one(registry),
            deletes: declared::DELETED.one(registry),
            bad_records: declared::BAD.one(registry),
            bytes: declared::BYTES.one(registry),
            sizes: declared::SIZES.one(registry),
            seconds: declared::SECONDS.many(registry),
            claimed: declared::CLAIMED.one(registry),
            fetch_errors: declared::FORMER_FETCH.one(registry),
            parse_errors: declared::FORMER_PARSE.one(registry),
            verification_errors: declared::FORMER_VERIFY.one(registry),
            rounds: Rounds::default(),
        };
        [&metrics.outcomes, &metrics.dead_by_reason, &metrics.retries_by_reason]
            .iter()
            .for_each(|counters| counters.introduce(&[]));
        metrics.seconds.introduce(&[]);
        Arc::new(metrics)
    }

    /// Counts an outcome.
    pub fn outcome(&self, class: Class) {
        self.outcomes.with(&[class.name()]).inc();
        match class.action() {
            Action::Done => drop(self.processed.inc()),
            Action::Wait | Action::Later => {}
            Action::Again | Action::Confirm | Action::Bury => drop(self.failed.inc()),
        }
        let former = match class {
            Class::Overloaded
            | Class::Unreachable
            | Class::Timeout
            | Class::Interrupted
            | Class::ServerError
            | Class::ClientError
            | Class::NotXrpc
            | Class::ContentType
            | Class::RefusedAddress
            | Class::RateLimited
            | Class::TooLarge => &self.fetch_errors,
            Class::BadCar | Class::BadCommit | Class::BadTree | Class::MissingBlock => &self.parse_errors,
            Class::NoKey | Class::WrongDid | Class::BadSignature => &self.verification_errors,
            _ => return,
        };
        former.inc();
    }

    /// A repository became a dead letter.
    pub fn buried(&self, class: Class) {
        self.dead.inc();
        self.dead_by_reason.with(&[class.name()]).inc();
    }

    /// A repository is put off for another try.
    pub fn retried(&self, class: Class) {
        self.retries.inc();
        self.retries_by_reason.with(&[class.name()]).inc();
    }

    /// A repository was received whole.
    pub fn received(&self, bytes: u64) {
        self.bytes.inc_by(bytes);
        self.sizes.observe(bytes as f64);
    }

    /// A part of the work on a repository took so many seconds; one of [`declared::PHASES`].
    pub fn took(&self, phase: &'static str, seconds: f64) {
        self.seconds.with(&[phase]).observe(seconds);
    }
}

#[cfg(test)]
mod tests {
    use rsky_common::admin::metrics_faults;

    use super::*;

    #[test]
    fn declarations_and_their_documentation_agree() {
        let file = include_str!("../../../docs/METRICS.md");
        assert_eq!(metrics_faults(file, crate::NAME, DECLARED), Vec::<String>::new());
    }
}
