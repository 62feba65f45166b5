//! How the bytes in memory are shared between the sources.
//!
//! What is charged is given back when it is written, so whatever holds up the writing holds the bytes. No source may be able
//! to take from another what that needs to go on:
//!
//! - each has a share of its own ([`SHARE`]), in which whatever it sends fits but for large frames;
//! - the rest is common to the sources of one kind. They are written behind one gate, and stand still together anyway;
//! - a frame that becomes far more than it was, which is known only when it has been decoded, waits until no other source of
//!   the kind holds such a one ([`SourceBudget::large_turn`]).
//!
//! So the bound is the sum of the common parts and of the shares, and for each kind what one frame may become.

use std::sync::{Arc, Mutex, PoisonError};

use rsky_common::runtime::{ByteBudget, Charge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::source::Kind;

/// What a source may hold whatever others do, in bytes: a chunk of ordinary frames while it is decoded, twice.
pub const SHARE: u64 = 2 << 20;

/// The budgets of all sources. Cloning gives another handle to the same ones.
#[derive(Clone, Debug)]
pub struct Budgets {
    firehose: Common,
    labels: Common,
    shares: Arc<Mutex<Vec<ByteBudget>>>,
}

/// What the sources of one kind have in common.
#[derive(Clone, Debug)]
struct Common {
    bytes: ByteBudget,
    large: Arc<Semaphore>,
}

impl Common {
    fn new(bytes: u64) -> Self {
        Self { bytes: ByteBudget::new(bytes), large: Arc::new(Semaphore::new(1)) }
    }
}

impl Budgets {
    /// Divides what is common, in `bytes`: a quarter is for labelers, if there are any besides relays.
    pub fn new(bytes: u64, relays: bool, labelers: bool) -> Self {
        let labels = match (relays, labelers) {
            (true, true) => bytes / 4,
            (true, false) => 0,
            (false, _) => bytes,
        };
        let firehose = bytes.saturating_sub(labels);
        Self { firehose: Common::new(firehose), labels: Common::new(labels), shares: Arc::default() }
    }

    /// The budget of another source. (Listings hold a page and the next, and are not charged.)
    pub fn of_another(&self, kind: Kind) -> SourceBudget {
        let share = ByteBudget::new(SHARE);
        self.shares.lock().unwrap_or_else(PoisonError::into_inner).push(share.clone());
        let common = if kind == Kind::Labels { &self.labels } else { &self.firehose };
        SourceBudget { share, common: common.clone() }
    }

    /// Bytes charged and not yet given back.
    pub fn bytes(&self) -> u64 {
        self.sum(ByteBudget::bytes)
    }

    /// The size of all.
    pub fn total(&self) -> u64 {
        self.sum(ByteBudget::total)
    }

    fn sum(&self, figure: impl Fn(&ByteBudget) -> u64) -> u64 {
        let shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let all = shares.iter().chain([&self.firehose.bytes, &self.labels.bytes]);
        all.map(figure).fold(0, u64::saturating_add)
    }
}

/// What one source may hold. Cloning gives another handle to the same budget.
#[derive(Clone, Debug)]
pub struct SourceBudget {
    share: ByteBudget,
    common: Common,
}

impl SourceBudget {
    /// Waits until `bytes` are free in the source's share or in what its kind has in common, and charges them there. What
    /// is larger than a share needs the common part, and waits for sources of its kind alone.
    pub async fn charge(&self, bytes: usize) -> Charge {
        let common = self.common.bytes.charge(bytes);
        if u64::try_from(bytes).is_ok_and(|bytes| bytes <= self.share.total()) {
            tokio::select! {
                biased;
                charge = self.share.charge(bytes) => charge,
                charge = common => charge,
            }
        } else {
            common.await
        }
    }

    /// Waits for the turn to hold what has become far more than it was charged; it ends when the permit is dropped. Whoever
    /// waits for it must hold nothing that was decoded in an earlier turn.
    pub async fn large_turn(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.common.large).acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    const CHUNK: usize = 1 << 20;

    fn charge(budget: &SourceBudget, bytes: usize) -> Option<Charge> {
        budget.charge(bytes).now_or_never()
    }

    /// Takes everything there is to be had, in pieces.
    fn exhaust(budget: &SourceBudget, piece: usize) -> Vec<Charge> {
        let mut held = Vec::new();
        while let Some(charge) = charge(budget, piece) {
            held.push(charge);
            assert!(held.len() < 1_000_000, "it has no end");
        }
        held
    }

    #[test]
    fn whatever_the_others_hold_a_source_gets_its_share() {
        let budgets = Budgets::new(64 << 20, true, true);
        let kinds = [Kind::Firehose, Kind::Firehose, Kind::Labels, Kind::Labels, Kind::Labels];
        let sources: Vec<SourceBudget> = kinds.iter().map(|kind| budgets.of_another(*kind)).collect();
        for free in &sources {
            let others = sources.iter().filter(|other| !std::ptr::eq(*other, free));
            let held: Vec<Charge> = others
                .flat_map(|other| [exhaust(other, 100 << 20), exhaust(other, CHUNK), exhaust(other, 1)])
                .flatten()
                .collect();
            let mut own =
                vec![charge(free, CHUNK).expect("its share"), charge(free, CHUNK).expect("its share")];
            assert!(charge(free, 1).is_none() || !held.is_empty());
            own.clear();
            assert!(charge(free, CHUNK).is_some(), "what it gave back is its own again");
            drop(held);
        }
        assert_eq!((budgets.bytes(), budgets.total()), (0, (64 << 20) + 5 * SHARE));
    }

    #[test]
    fn sources_of_another_kind_have_the_common_part_as_well() {
        let budgets = Budgets::new(64 << 20, true, true);
        let (relay, labeler) = (budgets.of_another(Kind::Firehose), budgets.of_another(Kind::Labels));
        let held = exhaust(&labeler, CHUNK);
        assert_eq!(held.len(), 16 + 2);
        let large = charge(&relay, 48 << 20).expect("three quarters");
        assert_eq!(exhaust(&relay, CHUNK).len(), 2);
        drop((held, large));
        // Alone a kind has everything.
        let relay = Budgets::new(64 << 20, true, false).of_another(Kind::Firehose);
        assert!(charge(&relay, 64 << 20).is_some());
    }

    #[test]
    fn what_is_charged_is_never_more_than_the_sum_but_for_what_passes_alone() {
        let budgets = Budgets::new(4 << 20, true, false);
        let (first, second) = (budgets.of_another(Kind::Firehose), budgets.of_another(Kind::Firehose));
        let held = [exhaust(&first, CHUNK / 3), exhaust(&second, CHUNK / 7)];
        assert!(budgets.bytes() <= budgets.total(), "{}", budgets.bytes());
        drop(held);
        let _alone = charge(&first, 100 << 20).expect("it passes alone");
        assert!(charge(&second, 3 << 20).is_none() && charge(&second, CHUNK).is_some());
    }

    #[test]
    fn one_source_of_a_kind_at_a_time_holds_what_has_grown() {
        let budgets = Budgets::new(64 << 20, true, true);
        let [first, second] = [budgets.of_another(Kind::Labels), budgets.of_another(Kind::Labels)];
        let turn = first.large_turn().now_or_never().unwrap();
        assert!(second.large_turn().now_or_never().is_none());
        assert!(budgets.of_another(Kind::Firehose).large_turn().now_or_never().is_some(), "another kind");
        drop(turn);
        assert!(second.large_turn().now_or_never().is_some());
    }

    #[test]
    fn what_is_charged_is_told() {
        let budgets = Budgets::new(64 << 20, true, true);
        let source = budgets.of_another(Kind::Firehose);
        let held = charge(&source, 1000);
        assert_eq!((held.is_some(), budgets.bytes()), (true, 1000));
        drop(held);
        assert_eq!(budgets.bytes(), 0);
    }
}
