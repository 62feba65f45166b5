//! What goes wrong on purpose: chosen by name, at places that follow from the seed, counted when it happens.
//!
//! | whose trouble | file |
//! |---|---|
//! | all kinds, by name | `kinds.rs` |
//! | accounts and their hosts: what is in a commit | `events.rs` |
//! | relays | `relay.rs` |
//! | the labeler | `labeler.rs` |
//! | what both of these do | `stream.rs` |
//! | hosts asked for a repository | `hosts.rs` |
//! | the directory, and the hosts of did:web accounts | `documents.rs` |
//! | whoever resolves handles | `handles.rs` |
//! | the listing of repositories | `listing.rs` |
//!
//! A troubled stream leaves numbers out between its events. At some of these there is nothing, at some there is trouble:
//! frames that no reader may take anything from, and ends of connections, which happen once at their place. The events
//! themselves are all there. Whoever answers over HTTP is wrong once or twice for the same asker, and right afterwards. So what
//! must have become of the world is the same as without; but for the trouble of events, and for handles that lead elsewhere,
//! of which the oracle has to know.

mod documents;
mod events;
mod handles;
mod hosts;
mod kinds;
mod labeler;
mod listing;
mod relay;
mod stream;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Mutex;

use super::super::control::lock;
use super::super::load::draw::mix;
use super::super::wrong::Asker;

pub use kinds::{Party, Trouble};

pub(super) use events::Announced;
pub(super) use labeler::PLACES as LABEL_PLACES;
pub(super) use listing::PAGE as LIST_PAGE;
pub(super) use relay::{Material, PLACES};

/// The trouble of a world, and what has come of it.
#[derive(Debug)]
pub(super) struct Troubles {
    seed: u64,
    kinds: Vec<Trouble>,
    happened: Mutex<Happened>,
}

#[derive(Debug, Default)]
struct Happened {
    /// Places of streams at which something happened that happens only once.
    once: HashSet<(Party, u64)>,
    /// How often something was answered wrong, by who asked and what for: as many at most as the world has accounts.
    wrong: HashMap<(Party, Asker, u64), u64>,
    /// The numbers at which each kind has happened.
    numbers: BTreeMap<Trouble, BTreeSet<u64>>,
}

impl Troubles {
    pub(super) fn new(seed: u64, kinds: &[Trouble]) -> Self {
        Self { seed, kinds: kinds.to_vec(), happened: Mutex::default() }
    }

    /// The kind whose turn it is at a number, among those that are asked for and wanted.
    fn turn(&self, number: u64, wanted: impl Fn(Trouble) -> bool) -> Option<Trouble> {
        let kinds: Vec<Trouble> = self.kinds.iter().copied().filter(|kind| wanted(*kind)).collect();
        let turn = self.seed.wrapping_add(number).checked_rem(kinds.len() as u64)?;
        kinds.get(turn as usize).copied()
    }

    fn has(&self, kind: Trouble) -> bool {
        self.kinds.contains(&kind)
    }

    /// Notes that a kind has happened.
    pub(super) fn note(&self, kind: Trouble, number: u64) {
        lock(&self.happened).numbers.entry(kind).or_default().insert(number);
    }

    /// Whether an answer is wrong: the first `times`, for each who asks and each number. It is noted then.
    fn is_wrong(&self, kind: Trouble, by: Asker, number: u64, times: u64) -> bool {
        let wrong = {
            let mut happened = lock(&self.happened);
            let count = happened.wrong.entry((kind.party(), by, number)).or_default();
            *count += 1;
            *count <= times
        };
        if wrong {
            self.note(kind, number);
        }
        wrong
    }

    /// Once or twice, as the seed says.
    fn once_or_twice(&self, number: u64) -> u64 {
        1 + mix(self.seed ^ mix(number)) % 2
    }

    /// The numbers of what has happened: of streams those of frames, of pages those of their first repositories, otherwise
    /// those of accounts.
    pub(super) fn happened(&self) -> BTreeMap<Trouble, BTreeSet<u64>> {
        lock(&self.happened).numbers.clone()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::super::car::car;
    use super::super::super::cbor_out::cid_of;
    use super::super::super::directory::RepoAnswer;
    use super::super::super::script::{Greeting, Sent};
    use super::*;

    #[test]
    fn names_lead_to_every_kind_and_are_explained() {
        let readme = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
        for trouble in Trouble::ALL {
            assert_eq!(trouble.name().parse(), Ok(*trouble));
            assert!(readme.contains(&format!("`{}`", trouble.name())), "README.md has no {}", trouble.name());
        }
        assert!("nothing".parse::<Trouble>().unwrap_err().contains("wrong-hash"));
    }

    #[test]
    fn every_kind_happens_and_ends_happen_once() {
        let troubles = Troubles::new(5, Trouble::ALL);
        let before = (1, Bytes::from_static(b"a frame"));
        let [did, time, rev] = ["did:plc:a", "2026-01-01T00:00:00.000Z", "3zzz"].map(str::to_owned);
        let of = Material { did, time, rev };
        let check = |trouble: Trouble, make: &dyn Fn() -> Sent| {
            let first = make();
            assert_ne!(first, Sent::Nothing, "{trouble:?}");
            let is_end = matches!(first, Sent::Cut(..) | Sent::Reset | Sent::Last(..) | Sent::Silence(_));
            assert_eq!(make(), if is_end { Sent::Nothing } else { first }, "{trouble:?}");
        };
        for place in 0..2_000 {
            if let Some(trouble) = troubles.at(place) {
                check(trouble, &|| troubles.make(trouble, place, place, &of, &before));
            }
            if let Some(trouble) = troubles.at_label(place) {
                check(trouble, &|| troubles.make_label(trouble, place, Some(&before)));
            }
        }
        let [future, outdated] = [Some(Greeting::Future), Some(Greeting::Outdated)];
        let greeting = |party, has_cursor| troubles.greeting(party, has_cursor);
        assert_eq!([(); 3].map(|()| greeting(Party::Labeler, true)), [future, outdated, None]);
        assert_eq!(greeting(Party::Relay, false), None);
        let of_relay = [future, future, future, outdated, None];
        assert_eq!([(); 5].map(|()| greeting(Party::Relay, true)), of_relay);
        assert_eq!([(); 2].map(|()| greeting(Party::Relay, false)), [Some(Greeting::Live), None]);
        let whole = car(&[cid_of(b"a")], (0..20).map(|number| (cid_of(&[number]), vec![number; 9])));
        for account in 0..60 {
            let ask = || troubles.repository(account, whole.clone().into(), || Bytes::from_static(b"forged"));
            drop(ask());
            let again = ask();
            assert_eq!(again, RepoAnswer::Car(whole.clone().into()));
            for is_web in [false, true] {
                let ask = |by| troubles.document(by, account, is_web);
                let first = ask(Asker::Indexer);
                assert_eq!(ask(Asker::Backfiller), first, "another asker");
                drop(ask(Asker::Indexer));
                assert_eq!(ask(Asker::Indexer), None);
            }
            let ask = || troubles.handle(Asker::Indexer, account, Some("did:plc:other"));
            drop((ask(), ask()));
            assert_eq!(ask().is_some(), handles::leads_elsewhere(account));
            let page = |cursor| troubles.page(Asker::Ingester, account * 5, cursor);
            assert!(page(None).is_some() != troubles.page(Asker::Other, account * 5, Some("9")).is_none());
            (0..4).for_each(|_| drop(page(Some("9"))));
            assert_eq!(page(Some("9")), None);
        }
        let happened: BTreeSet<Trouble> = troubles.happened().into_keys().collect();
        let of_others = |kind: &&Trouble| kind.party() == Party::Events || **kind == Trouble::LabelSignature;
        let all: BTreeSet<Trouble> = Trouble::ALL.iter().filter(|kind| !of_others(kind)).copied().collect();
        assert_eq!(happened, all);
    }
}
