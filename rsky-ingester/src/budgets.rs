//! How the bytes in memory are shared between the sources.
//!
//! What is charged is given back when it is written, so whatever holds up the writing holds the bytes. Sources of one kind
//! are written behind one gate and stand still together anyway; sources of different kinds must not be able to take
//! everything from each other. So each kind has a budget of its own.

use rsky_common::runtime::ByteBudget;

use crate::source::Kind;

/// The budgets by kind. Cloning gives another handle to the same ones.
#[derive(Clone, Debug)]
pub struct Budgets {
    firehose: ByteBudget,
    labels: ByteBudget,
}

impl Budgets {
    /// Divides `bytes`: a quarter is for labelers, if there are any besides relays.
    pub fn new(bytes: u64, relays: bool, labelers: bool) -> Self {
        let labels = match (relays, labelers) {
            (true, true) => bytes / 4,
            (true, false) => 0,
            (false, _) => bytes,
        };
        Self { firehose: ByteBudget::new(bytes.saturating_sub(labels)), labels: ByteBudget::new(labels) }
    }

    /// The budget of a kind of source. (Listings hold a page and the next, and are not charged.)
    pub fn of(&self, kind: Kind) -> &ByteBudget {
        if kind == Kind::Labels { &self.labels } else { &self.firehose }
    }

    /// Bytes charged and not yet given back.
    pub fn bytes(&self) -> u64 {
        self.firehose.bytes().saturating_add(self.labels.bytes())
    }

    /// The size of all.
    pub fn total(&self) -> u64 {
        self.firehose.total().saturating_add(self.labels.total())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn one_kind_cannot_take_the_others_share() {
        let budgets = Budgets::new(1000, true, true);
        let _held = budgets.of(Kind::Labels).charge(1_000_000).await;
        assert!(budgets.of(Kind::Labels).charge(1).now_or_never().is_none());
        assert!(budgets.of(Kind::Firehose).charge(750).now_or_never().is_some());
        assert_eq!(budgets.total(), 1000);
    }

    #[test]
    fn a_kind_alone_has_everything() {
        assert_eq!(Budgets::new(1000, true, false).of(Kind::Firehose).total(), 1000);
        assert_eq!(Budgets::new(1000, false, true).of(Kind::Labels).total(), 1000);
    }
}
