//! What relays and hosts do wrong, on purpose: chosen by name, at places that follow from the seed, counted when it happens.
//!
//! A troubled stream leaves numbers out between its events. At some of these there is nothing, at some there is trouble:
//! frames that no reader may take anything from, and ends of connections, which happen once at their place. The events
//! themselves are all there, so what must have become of the world is the same as without.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::super::car::car;
use super::super::cbor_out::{Cbor, cid_of};
use super::super::control::lock;
use super::super::directory::RepoAnswer;
use super::super::frames::{self, Op};
use super::super::load::draw::{Rng, mix};
use super::super::script::Sent;

/// Places of a troubled stream for each event.
pub(super) const PLACES: u64 = 3;
/// Of so many places without an event one has trouble.
const ONE_OF: u64 = 25;
/// Bytes of a frame that is too large: more than a reader with `INGESTER_MAX_FRAME_BYTES=600KiB` takes.
const OVERSIZE: usize = 700_000;
/// Members of a hostile map: more than a block may have.
const MEMBERS: usize = 70_000;
const POST: &str = "app.bsky.feed.post";
const TEXT: &str = "never to be seen";

macro_rules! troubles {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// A kind of trouble.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Trouble {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Trouble {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

troubles! {
    /// The connection ends in the middle of a frame.
    Cut = "cut",
    /// The connection is reset.
    Reset = "reset",
    /// An error frame, and a close frame.
    Error = "error",
    /// Nothing for 200 ms.
    Silence = "silence",
    /// A frame of before once more, under its number.
    Repeat = "repeat",
    /// Bytes that are no frame.
    Garbage = "garbage",
    /// The beginning of a frame as a whole message.
    Half = "half",
    /// A message of text.
    Text = "text",
    /// A frame of a type that nobody knows.
    Unknown = "unknown",
    /// A commit with a block that is not what its CID says.
    WrongHash = "wrong-hash",
    /// A commit without the block of its record: nothing may come of it, and nobody keeps it.
    MissingBlock = "missing-block",
    /// A commit of a record with far too many members.
    ManyMembers = "many-members",
    /// A commit of a record with members of the same name.
    EqualMembers = "equal-members",
    /// A commit of 200 operations that name one block, which is no record.
    ManyOperations = "many-operations",
    /// A commit with a path that is none.
    BadPath = "bad-path",
    /// A frame of 700 KB.
    Oversize = "oversize",
    /// A `#sync` of an account of which nothing is missing.
    Sync = "sync",
    /// A commit that says it was too big to say what it did, at the revision that the account has.
    TooBig = "too-big",
    /// A host answers getRepo with an error of its own (500).
    HostError = "host-error",
    /// A host that is asked too often (429).
    HostBusy = "host-busy",
    /// A host answers getRepo with a page for people, and 200.
    HostPage = "host-page",
    /// A host's answer ends at any byte.
    HostHalf = "host-half",
    /// A host's answer ends between two blocks.
    HostBlocks = "host-blocks",
    /// A byte of a host's answer is another.
    HostByte = "host-byte",
}

impl Trouble {
    /// What a relay does that changes nothing about what must be in the tables, in which order ever it is read.
    pub fn of_relays() -> Vec<Self> {
        Self::ALL.iter().copied().filter(|one| !one.is_of_hosts() && !one.is_resync()).collect()
    }

    /// What hosts do, at the first time that a repository is asked for.
    pub fn of_hosts() -> Vec<Self> {
        Self::ALL.iter().copied().filter(|one| one.is_of_hosts()).collect()
    }

    /// Whether it is a reason to read an account's repository again. A backfiller has to run.
    pub fn is_resync(self) -> bool {
        matches!(self, Self::Sync | Self::TooBig)
    }

    pub(super) fn is_of_hosts(self) -> bool {
        self.name().starts_with("host-")
    }
}

impl std::str::FromStr for Trouble {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().copied().find(|trouble| trouble.name() == text);
        found.ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|trouble| trouble.name()).collect();
            format!("no trouble is called {text:?}; there are {}", names.join(", "))
        })
    }
}

impl Trouble {
    /// Whether a reader has to set the frame aside, and can tell its number.
    pub fn is_set_aside(self) -> bool {
        matches!(
            self,
            Self::WrongHash | Self::ManyMembers | Self::EqualMembers | Self::ManyOperations | Self::BadPath
        )
    }
}

/// The trouble of a stream, and what has come of it.
#[derive(Debug)]
pub(super) struct Troubles {
    seed: u64,
    /// Of relays, and of hosts.
    kinds: Vec<Trouble>,
    of_hosts: Vec<Trouble>,
    happened: Mutex<Happened>,
}

#[derive(Debug, Default)]
struct Happened {
    /// Places of what happens only once.
    once: HashSet<u64>,
    /// Accounts whose repository was asked for, by their place among all.
    asked: HashSet<u64>,
    /// The numbers at which each kind has happened.
    numbers: BTreeMap<Trouble, BTreeSet<u64>>,
}

/// What trouble is made of.
pub(super) struct Material<'a> {
    /// An account of the world.
    pub(super) did: &'a str,
    pub(super) time: &'a str,
    /// A later revision than any of it.
    pub(super) rev: &'a str,
    /// The event before, and its number.
    pub(super) before: Option<(u64, Bytes)>,
}

impl Troubles {
    pub(super) fn new(seed: u64, kinds: &[Trouble]) -> Self {
        let (of_hosts, kinds) = kinds.iter().partition(|kind| kind.is_of_hosts());
        Self { seed, kinds, of_hosts, happened: Mutex::default() }
    }

    /// The trouble at a place between two events, if any; these are numbered by themselves. The kinds take turns.
    pub(super) fn at(&self, between: u64) -> Option<Trouble> {
        let (turn, place) = (between / ONE_OF, between % ONE_OF);
        let here = place == mix(self.seed ^ mix(turn)) % ONE_OF;
        let kind = self.seed.wrapping_add(turn).checked_rem(self.kinds.len() as u64)?;
        self.kinds.get(kind as usize).copied().filter(|_| here)
    }

    /// Makes the trouble of a place, under a number.
    pub(super) fn make(&self, trouble: Trouble, place: u64, seq: u64, of: &Material<'_>) -> Sent {
        let mut happened = lock(&self.happened);
        let is_end = matches!(trouble, Trouble::Cut | Trouble::Reset | Trouble::Error | Trouble::Silence);
        if is_end && !happened.once.insert(place) {
            return Sent::Nothing;
        }
        let mut rng = Rng::new(mix(self.seed.wrapping_add(place)));
        let sent = make(trouble, seq, of, &mut rng);
        if sent != Sent::Nothing {
            let seq = match (&of.before, trouble) {
                // What can be read of it has the number of the whole.
                (Some((before, _)), Trouble::Half) => *before,
                _ => seq,
            };
            happened.numbers.entry(trouble).or_default().insert(seq);
        }
        sent
    }

    /// What a host answers who is asked for a repository: wrong for half of the accounts, the first time.
    /// `number` is the account's place among all.
    pub(super) fn answer(&self, number: u64, car: Bytes) -> RepoAnswer {
        let mut happened = lock(&self.happened);
        let turn = self.seed.wrapping_add(number / 2).checked_rem(self.of_hosts.len() as u64);
        let trouble = turn.and_then(|turn| self.of_hosts.get(turn as usize));
        let is_first = happened.asked.insert(number);
        match trouble {
            Some(trouble) if is_first && number.is_multiple_of(2) => {
                happened.numbers.entry(*trouble).or_default().insert(number);
                wrong_answer(*trouble, car, &mut Rng::new(mix(self.seed ^ mix(number))))
            }
            _ => RepoAnswer::Car(car),
        }
    }

    /// How often each kind has happened: at how many numbers, or for how many accounts.
    pub(super) fn happened(&self) -> BTreeMap<Trouble, BTreeSet<u64>> {
        lock(&self.happened).numbers.clone()
    }
}

fn make(trouble: Trouble, seq: u64, of: &Material<'_>, rng: &mut Rng) -> Sent {
    let path = format!("{POST}/trouble{seq}");
    let post = |more: Vec<(String, Cbor)>| {
        let mut members = vec![
            ("$type".to_owned(), Cbor::text(POST)),
            ("text".to_owned(), Cbor::text(TEXT)),
            ("createdAt".to_owned(), Cbor::text(of.time)),
        ];
        members.extend(more);
        Cbor::Map(members)
    };
    let commit =
        |record: Cbor| frames::commit(seq, of.did, of.rev, of.time, &[Op::create(path.as_str(), record)]);
    let with_blocks = |ops: Vec<Cbor>, blocks: Vec<u8>| {
        let seq = Cbor::Int(seq as i64);
        frames::commit_car(seq, of.did, of.rev, of.time, cid_of(b"commit"), ops, blocks)
    };
    let create = |path: String, cid| {
        Cbor::map([("action", Cbor::text("create")), ("path", Cbor::text(path)), ("cid", Cbor::Link(cid))])
    };
    Sent::Frame(match trouble {
        Trouble::Reset => return Sent::Reset,
        Trouble::Silence => return Sent::Silence(Duration::from_millis(200)),
        Trouble::Error => return Sent::Last(frames::error("ConsumerTooSlow"), 1008),
        Trouble::Text => return Sent::Text("a relay has nothing to say in words".to_owned()),
        Trouble::Cut => match &of.before {
            Some((_, before)) => return Sent::Cut(before.clone(), 1 + rng.below(before.len())),
            None => return Sent::Nothing,
        },
        Trouble::Repeat => match &of.before {
            Some((_, before)) => before.clone(),
            None => return Sent::Nothing,
        },
        Trouble::Half => match &of.before {
            Some((_, before)) => before.slice(..rng.below(before.len())),
            None => return Sent::Nothing,
        },
        Trouble::Garbage => {
            let bytes: [u8; 64] = rng.bytes();
            Bytes::copy_from_slice(&bytes[..1 + rng.below(bytes.len())])
        }
        Trouble::Unknown => frames::unknown(seq, "#trouble"),
        Trouble::WrongHash => {
            let mut frame = commit(post(Vec::new())).to_vec();
            let at = frame.windows(TEXT.len()).position(|part| part == TEXT.as_bytes());
            frame[at.expect("the text is in the frame")] ^= 1;
            frame.into()
        }
        Trouble::MissingBlock => {
            let cid = cid_of(&post(Vec::new()).encode());
            with_blocks(vec![create(path, cid)], car::<Vec<u8>>(&[cid], []))
        }
        Trouble::ManyMembers => {
            let members = (0..MEMBERS).map(|number| (format!("m{number}"), Cbor::Null));
            commit(post(members.collect()))
        }
        Trouble::EqualMembers => {
            let twice = [TEXT, "something else"].map(|text| ("langs".to_owned(), Cbor::text(text)));
            commit(post(twice.to_vec()))
        }
        Trouble::ManyOperations => {
            let block = vec![0x80];
            let cid = cid_of(&block);
            let ops = (0..200).map(|number| create(format!("{path}x{number}"), cid));
            with_blocks(ops.collect(), car(&[cid], [(cid, block)]))
        }
        Trouble::BadPath => {
            let record = post(Vec::new());
            frames::commit(seq, of.did, of.rev, of.time, &[Op::create("no path", record)])
        }
        Trouble::Oversize => commit(Cbor::map([("text", Cbor::text("x".repeat(OVERSIZE)))])),
        Trouble::Sync => frames::sync(seq, of.did, of.rev, of.time),
        Trouble::TooBig => frames::typed(
            "#commit",
            Cbor::map([
                ("ops", Cbor::List(Vec::new())),
                ("rev", Cbor::text(of.rev)),
                ("seq", Cbor::Int(seq as i64)),
                ("repo", Cbor::text(of.did)),
                ("time", Cbor::text(of.time)),
                ("blobs", Cbor::List(Vec::new())),
                ("since", Cbor::Null),
                ("blocks", Cbor::Bytes(Vec::new())),
                ("commit", Cbor::Link(cid_of(b"commit"))),
                ("rebase", Cbor::Bool(false)),
                ("tooBig", Cbor::Bool(true)),
            ]),
        ),
        // These are of hosts: no stream has them.
        Trouble::HostError
        | Trouble::HostBusy
        | Trouble::HostPage
        | Trouble::HostHalf
        | Trouble::HostBlocks
        | Trouble::HostByte => return Sent::Nothing,
    })
}

fn wrong_answer(trouble: Trouble, car: Bytes, rng: &mut Rng) -> RepoAnswer {
    let error = |status, name: &str| RepoAnswer::Error {
        status,
        body: json!({"error": name, "message": "on purpose"}),
    };
    match trouble {
        Trouble::HostError => error(500, "InternalServerError"),
        Trouble::HostBusy => error(429, "RateLimitExceeded"),
        Trouble::HostPage => {
            RepoAnswer::Car(Bytes::from_static(b"<!doctype html><title>Maintenance</title>"))
        }
        Trouble::HostHalf => RepoAnswer::Car(car.slice(..rng.below(car.len()))),
        Trouble::HostBlocks => {
            let borders = borders(&car);
            RepoAnswer::Car(car.slice(..borders[rng.below(borders.len())]))
        }
        _ => {
            let at = rng.below(car.len());
            let mut car = car.to_vec();
            car[at] ^= 1 << rng.below(8);
            RepoAnswer::Car(car.into())
        }
    }
}

/// Where the sections of a CAR end, but for the last one.
fn borders(car: &[u8]) -> Vec<usize> {
    let (mut borders, mut at) = (Vec::new(), 0);
    while at < car.len() {
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = car[at];
            at += 1;
            length |= usize::from(byte & 127) << shift;
            shift += 7;
            if byte & 128 == 0 {
                break;
            }
        }
        at += length;
        borders.push(at);
    }
    borders.truncate(borders.len().saturating_sub(1).max(1));
    borders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_every_kind() {
        for trouble in Trouble::ALL {
            assert_eq!(trouble.name().parse(), Ok(*trouble));
        }
        assert!("nothing".parse::<Trouble>().unwrap_err().contains("wrong-hash"));
    }

    #[test]
    fn every_kind_happens_and_ends_happen_once() {
        let troubles = Troubles::new(5, Trouble::ALL);
        let before = Some((1, Bytes::from_static(b"a frame")));
        let of = Material { did: "did:plc:a", time: "2026-01-01T00:00:00.000Z", rev: "3zzz", before };
        for place in 0..20_000 {
            let Some(trouble) = troubles.at(place) else { continue };
            let first = troubles.make(trouble, place, place, &of);
            assert_ne!(first, Sent::Nothing, "{trouble:?}");
            let again = troubles.make(trouble, place, place, &of);
            let is_end = matches!(first, Sent::Cut(..) | Sent::Reset | Sent::Last(..) | Sent::Silence(_));
            assert_eq!(again, if is_end { Sent::Nothing } else { first });
        }
        let whole = car(&[cid_of(b"a")], (0..20).map(|number| (cid_of(&[number]), vec![number; 9])));
        for account in 0..20 {
            troubles.answer(account, whole.clone().into());
            assert_eq!(troubles.answer(account, whole.clone().into()), RepoAnswer::Car(whole.clone().into()));
        }
        let happened = troubles.happened();
        assert_eq!(happened.len(), Trouble::ALL.len(), "{happened:?}");
    }
}
