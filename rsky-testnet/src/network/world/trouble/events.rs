//! What is wrong with the commits of events, which relays pass on as they are.
//!
//! They are events of the world, so the oracle knows of them by the world's options.

use rsky_common::atproto::tid;

use super::super::super::load::draw::{Rng, mix};
use super::super::event::Action;
use super::super::keys::SigningKey;
use super::super::simulation::World;
use super::{Party, Trouble};

/// Of so many events one may have such a commit.
const ONE_OF: u64 = 23;
/// Microseconds of a year.
const YEAR: u64 = 365 * 86_400 * 1_000_000;

/// How a commit is announced, where it is not as it stands in the repository.
pub(in super::super) struct Announced {
    pub(in super::super) kind: Trouble,
    /// Another revision.
    pub(in super::super) rev: Option<String>,
    /// Another key than the account's.
    pub(in super::super) key: Option<SigningKey>,
}

impl World {
    /// What is wrong with the commit of these actions by an account, now.
    pub(in super::super) fn announced(&self, who: usize, actions: &[Action]) -> Option<Announced> {
        let (seed, number) = (self.options().seed, self.number());
        let kinds = self.options().trouble.iter().copied().filter(|kind| kind.party() == Party::Events);
        let kinds: Vec<Trouble> = kinds.collect();
        let turn = seed.wrapping_add(number / ONE_OF).checked_rem(kinds.len() as u64)?;
        if number % ONE_OF != mix(seed) % ONE_OF || actions.is_empty() {
            return None;
        }
        let kind = *kinds.get(turn as usize)?;
        let rev = |micros: u64| Some(tid::of_time(micros, who as u64));
        let (rev, key) = match kind {
            Trouble::FutureRev => (rev(self.micros + 20 * YEAR), None),
            // What is done to a record that is there already would come too late.
            Trouble::PastRev if actions.iter().any(|action| *action != Action::Create) => return None,
            Trouble::PastRev => (rev(self.micros - YEAR), None),
            _ => (None, Some(SigningKey::from_bytes(Rng::new(mix(seed ^ mix(number))).bytes()))),
        };
        Some(Announced { kind, rev, key })
    }
}
