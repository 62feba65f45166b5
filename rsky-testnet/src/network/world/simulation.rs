//! The world: accounts, what they have written, and what happens next.

use std::collections::VecDeque;

use serde_json::Value;

use super::super::load::draw::Rng;
use super::account::Account;
use super::event::{Action, Event, What};
use super::keys::SigningKey;
use super::options::{Kind, Mix, Time, WorldOptions};
use super::pool::{Pool, Reference};
use rsky_common::atproto::tid;
use rsky_common::clock::{iso, now_us};

/// 2026-01-01T00:00:00Z in microseconds: when the relay's stream begins in the world's own time.
const BEGIN: u64 = 1_767_225_600_000_000;
/// The history takes so many microseconds, two months.
const HISTORY: u64 = 60 * 86_400 * 1_000_000;
/// A day between two events is the slowest world.
const MOST_PACE_MS: u64 = 86_400_000;
/// Reposts that likes may come through.
const REPOSTS: usize = 1024;

/// Accounts and their repositories at one moment of a world's history. [`World::step`] makes the next event.
///
/// A world takes about 600 bytes of memory a record that exists, and 250 bytes a post that ever did.
pub struct World {
    options: WorldOptions,
    pub(super) rng: Rng,
    pub(super) micros: u64,
    /// When the relay's stream begins, in microseconds.
    begin: u64,
    number: u64,
    pub(super) accounts: Vec<Account>,
    pub(super) pool: Pool,
    /// Whose turn it is, where the records decide.
    pub(super) turn: Option<Turn>,
    pub(super) pending: VecDeque<(usize, Pending)>,
    joined: usize,
    pub(super) departed: usize,
}

/// Who an event is of.
pub(super) struct Turn {
    pub(super) who: usize,
}

/// What follows from what has happened.
pub(super) enum Pending {
    Account {
        active: bool,
        status: Option<&'static str>,
    },
    /// A commit of nothing, signed with a new key.
    Signature,
    Profile,
}

impl World {
    /// The world before anything has happened.
    pub fn new(options: WorldOptions) -> Self {
        let mut rng = Rng::new(options.seed);
        let count = options.accounts.max(4);
        let hosts = options.hosts.max(1);
        let web = |number: usize| options.web.get(number).map(String::as_str);
        let accounts: Vec<Account> =
            (0..count).map(|number| Account::new(number, hosts, web(number), &mut rng)).collect();
        let pool = Pool::new(count);
        let begin = match options.time {
            Time::OfTheWorld => BEGIN,
            Time::OfTheClock => now_us().max(BEGIN),
        };
        Self {
            micros: begin - HISTORY,
            begin,
            rng,
            number: 0,
            pool,
            turn: None,
            pending: VecDeque::new(),
            joined: 0,
            departed: 0,
            accounts,
            options,
        }
    }

    /// What it was made of.
    pub fn options(&self) -> &WorldOptions {
        &self.options
    }

    /// Events in all.
    pub fn length(&self) -> u64 {
        self.options.history + self.options.live
    }

    /// Whole seconds from the beginning of the relay's stream in the world's own time to where it begins: 0 unless its time is
    /// that of the clock.
    pub(super) fn begins_late(&self) -> u64 {
        (self.begin - BEGIN) / 1_000_000
    }

    /// Events so far.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The number of the first event that the relay's stream has.
    pub fn first_streamed(&self) -> u64 {
        self.options.history.saturating_sub(self.options.overlap) + 1
    }

    pub(super) fn is_history(&self) -> bool {
        self.number <= self.options.history
    }

    /// The next event; `None` at the end of the world. Of events of the history that the stream does not repeat, only what
    /// was written is real: they are not signed one by one.
    pub fn step(&mut self) -> Option<Event> {
        if self.number >= self.length() {
            return None;
        }
        self.number += 1;
        let pace = match self.is_history() {
            true => HISTORY / (self.options.history + 1),
            false => self.options.pace_ms.clamp(1, MOST_PACE_MS) * 1000,
        };
        // At least so far apart that keys and revisions never meet.
        let next = self.micros + 1000 + pace / 2 + self.rng.below(pace as usize) as u64;
        self.micros = match self.options.time {
            Time::OfTheWorld => next,
            Time::OfTheClock if self.is_history() => {
                let left = self.options.history - self.number;
                next.min(self.begin - 1000 * (left + 1))
            }
            Time::OfTheClock => now_us().max(self.micros + 1000),
        };
        let event = self.happen();
        if self.number == self.options.history {
            self.micros = self.micros.max(self.begin);
            let rev = tid::of_time(self.micros + 500, 0);
            for account in &mut self.accounts {
                if std::mem::take(&mut account.rotated) {
                    account.repository.write(&rev, Vec::new());
                }
                account.repository.settle(&account.did, &account.key);
            }
        }
        Some(event)
    }

    fn happen(&mut self) -> Event {
        if let Some((who, pending)) = self.pending.pop_front() {
            return match pending {
                Pending::Account { active, status } => self.account(who, active, status),
                Pending::Signature => self.committed(who, Vec::new()),
                Pending::Profile => {
                    let profile = self.profile(who, Action::Create);
                    self.committed(who, vec![profile])
                }
            };
        }
        // Who leaves does it at the very end: deletions take time, and nothing refers to the dead afterwards.
        let left = self.length() - self.number;
        if left < self.options.departures as u64 && !self.is_history() {
            return self.departure();
        }
        if let Some(who) = self.newcomer() {
            return self.join(who);
        }
        loop {
            let (who, kind) = (self.someone(), self.kind());
            if kind == Kind::Account {
                if let Some(event) = self.change(who) {
                    return event;
                }
                continue;
            }
            self.turn = None;
            if let Some(writes) = self.writes(who, kind) {
                let who = self.turn.take().map_or(who, |turn| turn.who);
                return self.committed(who, writes);
            }
        }
    }

    fn kind(&mut self) -> Kind {
        let weights = self.options.mix.weights();
        let mut at = self.rng.below(weights.iter().map(|(_, weight)| weight).sum());
        for (kind, weight) in weights {
            match at.checked_sub(*weight) {
                Some(left) => at = left,
                None => return *kind,
            }
        }
        Kind::Like
    }

    /// An account that has joined and is still there.
    pub(super) fn someone(&mut self) -> usize {
        loop {
            let who = self.rng.below(self.joined);
            if !self.accounts[who].gone {
                return who;
            }
        }
    }

    /// Whoever signs up now: most at the beginning, the others over the live events.
    fn newcomer(&mut self) -> Option<usize> {
        let early = self.accounts.len() - self.accounts.len() / 10;
        let due = if self.is_history() {
            self.joined < early && (self.number <= early as u64 * 2 || self.joined == 0)
        } else {
            let late = (self.accounts.len() - early) as u64;
            let share = (self.number - self.options.history) * late / self.options.live.max(1);
            (self.joined as u64) < early as u64 + share || self.joined == 0
        };
        // The first are there before anybody writes; then one in two events.
        let now = due && self.joined < self.accounts.len() && (self.joined < 4 || self.rng.below(2) == 0);
        now.then(|| {
            self.joined += 1;
            self.joined - 1
        })
    }

    fn join(&mut self, who: usize) -> Event {
        self.accounts[who].joined = true;
        if self.is_history() {
            // In a history only what was written is left. One of ten never had a profile.
            let profile = self.profile(who, Action::Create);
            return self.committed(who, vec![profile]);
        }
        self.pending.push_back((who, Pending::Account { active: true, status: None }));
        self.pending.push_back((who, Pending::Profile));
        self.accounts[who].moved = true;
        self.identity(who)
    }

    pub(super) fn committed(
        &mut self,
        who: usize,
        writes: Vec<(Action, String, Option<super::super::cbor_out::Cbor>)>,
    ) -> Event {
        self.micros += 10;
        let rev = tid::of_time(self.micros, who as u64);
        let streamed = self.number >= self.first_streamed();
        for write in &writes {
            self.note(who, write);
        }
        let actions: Vec<Action> = writes.iter().map(|(action, ..)| *action).collect();
        let announced = self.announced(who, &actions).filter(|_| streamed);
        let wrong = announced.as_ref().map(|announced| announced.kind);
        let account = &mut self.accounts[who];
        let operations = account.repository.write(&rev, writes);
        let commit = if streamed {
            account.repository.commit(&account.did, &account.key, operations, announced.as_ref())
        } else {
            super::event::Commit {
                rev,
                since: None,
                cid: super::super::cbor_out::cid_of(b""),
                prev_data: None,
                operations,
                blocks: bytes::Bytes::new(),
            }
        };
        Event { wrong, ..self.event(who, What::Commit(Box::new(commit))) }
    }

    /// What others may refer to from now on.
    fn note(&mut self, who: usize, write: &(Action, String, Option<super::super::cbor_out::Cbor>)) {
        let reference = self.reference(who, write);
        let collection = write.1.split('/').next().unwrap_or_default();
        let kept = |list: &mut Vec<Reference>, reference| {
            if list.len() < REPOSTS {
                list.push(reference);
            }
        };
        match (write.0, collection) {
            (Action::Create, "app.bsky.feed.repost") => {
                if self.pool.reposts.len() >= REPOSTS {
                    self.pool.reposts.remove(0);
                }
                self.pool.reposts.push((who, reference));
            }
            (Action::Create, "app.bsky.graph.list") if self.pool.lists.len() < REPOSTS => {
                self.pool.lists.push((who, reference));
            }
            (Action::Create, "app.bsky.graph.starterpack") => kept(&mut self.pool.packs, reference),
            (Action::Update, "app.bsky.feed.post") => {
                let found = self.pool.posts.iter_mut().rev().find(|post| post.reference.uri == reference.uri);
                found.into_iter().for_each(|post| post.reference.cid = reference.cid);
            }
            _ => {}
        }
    }

    pub(super) fn event(&self, who: usize, what: What) -> Event {
        // The relay has it a moment later.
        let time = iso(self.micros / 1000 + 30);
        Event { number: self.number, time, did: self.accounts[who].did.clone(), what, wrong: None }
    }

    /// How many of a thousand roots get a thread gate at once.
    pub(super) fn gate_share(&self) -> usize {
        match self.options.mix {
            Mix::Natural => 15,
            Mix::Dense => 200,
        }
    }

    /// An account that has written and is there, and what time it is.
    pub(super) fn now(&self) -> Option<(&str, String)> {
        let here = |account: &&Account| !account.gone && account.repository.head().is_some();
        let account = self.accounts.iter().find(here)?;
        Some((&account.did, iso(self.micros / 1000)))
    }

    /// The DIDs of all accounts that have written, in the order they are listed in.
    pub fn dids(&self) -> impl Iterator<Item = &str> {
        let written = self.accounts.iter().filter(|account| account.repository.head().is_some());
        written.map(|account| account.did.as_str())
    }

    pub(super) fn find(&self, did: &str) -> Option<&Account> {
        self.accounts.iter().find(|account| account.did == did)
    }

    /// The DID document of an account, its host being at what `endpoint` makes of the host's number.
    pub fn document(&self, did: &str, endpoint: impl Fn(usize) -> String) -> Option<Value> {
        let account = self.find(did).filter(|account| account.joined && !account.gone)?;
        Some(account.document(&endpoint(account.host)))
    }

    /// Whom a handle leads to.
    pub fn resolve(&self, handle: &str) -> Option<&str> {
        let account = self.accounts.iter().find(|account| account.handle == handle && account.proven)?;
        Some(account.did.as_str())
    }

    /// The handle of an account that leads back to it.
    pub fn handle(&self, did: &str) -> Option<&str> {
        self.find(did).filter(|account| account.proven).map(|account| account.handle.as_str())
    }

    /// The number of an account's host; `None` when it is gone.
    pub fn host(&self, did: &str) -> Option<usize> {
        self.find(did).filter(|account| !account.gone).map(|account| account.host)
    }

    /// The place of an account among all, from 0 on.
    pub(super) fn place(&self, did: &str) -> Option<u64> {
        self.accounts.iter().position(|account| account.did == did).map(|place| place as u64)
    }

    /// What getRepo answers for an account.
    pub fn export(&self, did: &str) -> Option<bytes::Bytes> {
        self.find(did)?.repository.export()
    }

    /// The same, signed with a key that is not the account's.
    pub(super) fn export_forged(&self, did: &str) -> Option<bytes::Bytes> {
        let key = SigningKey::from_bytes(Rng::new(self.options.seed).bytes());
        self.find(did)?.repository.export_signed(did, &key)
    }

    /// Revision and CID of an account's last commit.
    pub fn head(&self, did: &str) -> Option<(&str, cid::Cid)> {
        self.find(did)?.repository.head()
    }

    /// Version and block of a record.
    pub fn record(&self, did: &str, path: &str) -> Option<(cid::Cid, &[u8])> {
        let repository = &self.find(did)?.repository;
        repository.cid(path).zip(repository.block(path))
    }

    /// Paths, versions and blocks of an account's records, in the order of the tree.
    pub fn records(&self, did: &str) -> Vec<(&str, cid::Cid, &[u8])> {
        self.find(did).map(|account| account.repository.records().collect()).unwrap_or_default()
    }
}
