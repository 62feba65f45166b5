//! The oracle: an independent model of what the AppView's tables must hold after a [`World`] was indexed.
//!
//! It is plain and slow, takes one event at a time, and was written from the specification apart from the indexer, of
//! which it uses nothing. What a row is, is in `rules.rs` (every collection but posts) and `posts.rs`; how one record
//! takes the place of another in `model.rs`; what came too early in `threads.rs`; who is told in `notices.rs`; accounts
//! and labels in `people.rs`; the rows in `tables.rs`; the comparison with a database in `compare.rs`, and what an AppView asks
//! of it in `questions.rs`; what holds whatever came first in `unordered.rs`.
//!
//! The outcome of a backfill depends on the order in which its repositories come ([`Backfilled`]); that of one indexer
//! is the outcome of its streams' order. An [`Outcome`] is that of a world's history first, then of its stream.

mod compare;
mod model;
mod notices;
mod people;
mod posts;
mod questions;
mod rules;
mod state;
mod tables;
mod threads;
mod unordered;
mod value;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

pub use compare::{Differences, compare};
pub use questions::ask;
pub use tables::{LATER_TABLES, TABLES, Tables};
pub use unordered::{compare_unordered, disagreements};

use self::model::At;
use self::state::{Actor, State};
use crate::network::cbor_in::decode;
use crate::network::world::{Action, Event, Operation, What, World, WorldOptions, labels};
use crate::servers::{Generation, Session};

/// Who is told by the indexer (`INDEXER_NOTIFICATIONS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// As the reference: updates and deletions only.
    Reference,
    /// Creates of live events, too.
    Live,
    /// Nobody.
    Off,
}

/// A part of a backfill, in the order in which it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backfilled {
    /// A record.
    Record {
        /// The account.
        did: String,
        /// `collection/rkey`.
        path: String,
        /// Time of the entry.
        time: String,
    },
    /// The end of a repository.
    Repository {
        /// The account.
        did: String,
    },
}

impl Backfilled {
    /// Reads an entry of the backfill's stream.
    ///
    /// # Errors
    /// It is none.
    pub fn read(entry: &str) -> Result<Self> {
        let entry: Value = serde_json::from_str(entry).context("an entry as JSON")?;
        let of = |name: &str| entry[name].as_str().map(str::to_owned).with_context(|| format!("no {name}"));
        match entry["type"].as_str() {
            Some("create") => {
                let path = format!("{}/{}", of("collection")?, of("rkey")?);
                Ok(Self::Record { did: of("did")?, path, time: of("time")? })
            }
            Some("repo") => Ok(Self::Repository { did: of("did")? }),
            other => anyhow::bail!("a backfill has no {other:?}"),
        }
    }
}

/// What must have become of a world that was indexed.
pub struct Outcome {
    state: State,
    world: World,
}

impl Outcome {
    /// The history in the order of `backfilled` (or repository by repository as listed, at unknown times), then everything
    /// the stream has, and the labels, in a database of this generation.
    ///
    /// # Errors
    /// `backfilled` is not all of the history, or not only that.
    pub fn new(
        options: &WorldOptions,
        generation: Generation,
        telling: Telling,
        backfilled: Option<&[Backfilled]>,
    ) -> Result<Self> {
        let mut world = World::new(options.clone());
        let mut streamed = Vec::new();
        while world.number() < options.history {
            let Some(event) = world.step() else { break };
            if event.number >= world.first_streamed() {
                streamed.push(event);
            }
        }
        let mut state = State { generation, ..State::default() };
        match backfilled {
            Some(backfilled) => take_history(&mut state, &world, backfilled)?,
            None => take_history(&mut state, &world, &listed(&world))?,
        }
        for label in labels(&world).iter().flatten() {
            state.label(label);
        }
        streamed.into_iter().for_each(|event| take(&mut state, &world, &event, telling));
        while let Some(event) = world.step() {
            take(&mut state, &world, &event, telling);
        }
        Ok(Self { state, world })
    }

    /// What every table must hold.
    pub fn tables(&self) -> Tables {
        self.state.tables(|did| self.world.handle(did).map(str::to_owned))
    }

    /// After an indexer was killed: replies that their gate would judge otherwise now, since a follow or a list item came
    /// after them, and those that a gate came after, may have been asked about anew (docs/COMPATIBILITY.md, "What depends on who was first"). For these, and
    /// no others, what the database holds is taken as right; how many were taken over.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn allow_for_kills(&mut self, session: &mut Session) -> Result<usize> {
        let mut taken = 0;
        for uri in self.state.open() {
            let flag =
                format!(r#"SELECT coalesce("violatesThreadGate", false) FROM post WHERE uri = '{uri}'"#);
            let held = session.rows(&flag)?;
            if let (Some(post), [held]) = (self.state.posts.get_mut(&uri), held.as_slice())
                && post.gated != (held == "t")
            {
                post.gated = held == "t";
                taken += 1;
            }
        }
        Ok(taken)
    }

    /// On the generations where every commit is a reason to look at its account's handle (docs/COMPATIBILITY.md, "B and U"):
    /// nobody waits for these looks, and an indexer that is killed forgets whom it has looked at. So what the database
    /// holds as the time of an account's last look is taken as right where it is that of one of the account's events;
    /// how many were taken over.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn allow_for_looks(&mut self, session: &mut Session) -> Result<usize> {
        if self.state.generation == Generation::D {
            return Ok(0);
        }
        let mut taken = 0;
        for row in session.rows(r#"SELECT did, "indexedAt", handle IS NOT NULL FROM actor"#)? {
            let mut columns = row.split('|');
            let mut next = || columns.next().unwrap_or_default();
            let (did, time, has_handle) = (next(), next(), next() == "t");
            if self.state.looks.get(did).is_some_and(|times| times.contains(time)) {
                let new =
                    || Actor { indexed: String::new(), status: None, resolved: true, found: has_handle };
                let actor = self.state.actors.entry(did.to_owned()).or_insert_with(new);
                taken += usize::from(actor.indexed != time);
                time.clone_into(&mut actor.indexed);
                actor.resolved |= has_handle;
                actor.found |= has_handle;
            }
        }
        Ok(taken)
    }
}

/// A history repository by repository, each at a time that nobody knows but that is later than that of the one before.
fn listed(world: &World) -> Vec<Backfilled> {
    let mut all = Vec::new();
    for (number, did) in world.dids().enumerate() {
        let time = format!("~{number:09}");
        let records = world.records(did).into_iter().filter(|(path, ..)| is_backfilled(path));
        all.extend(records.map(|(path, ..)| Backfilled::Record {
            did: did.to_owned(),
            path: path.to_owned(),
            time: time.clone(),
        }));
        all.push(Backfilled::Repository { did: did.to_owned() });
    }
    all
}

/// Whether the backfiller passes on a record: it leaves out collections without a rule.
fn is_backfilled(path: &str) -> bool {
    rules::has_rule(path.split('/').next().unwrap_or_default())
}

fn take_history(state: &mut State, world: &World, backfilled: &[Backfilled]) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    let mut ended = 0;
    for part in backfilled {
        match part {
            Backfilled::Record { did, path, time } => {
                let (rev, _) = world.head(did).with_context(|| format!("{did} is not in the world"))?;
                let (cid, block) = world.record(did, path).with_context(|| format!("{did} has no {path}"))?;
                let operation = Operation {
                    action: Action::Create,
                    path: path.clone(),
                    record: Some((decode(block), cid)),
                    prev: None,
                };
                let at = At {
                    did: did.clone(),
                    rev: rev.to_owned(),
                    time: time.clone(),
                    backfilled: true,
                    creates_tell: false,
                    tells: true,
                };
                state.apply(&at, &operation);
                if path.starts_with("app.bsky.actor.profile/") {
                    let has_handle = world.handle(did).is_some() && !world.is_led_astray(did);
                    state.look_at_handle(did, time, false, has_handle);
                }
                seen.insert(format!("{did}/{path}"));
            }
            Backfilled::Repository { did } => {
                let (rev, commit) = world.head(did).with_context(|| format!("{did} is not in the world"))?;
                state.sync(did, &commit.to_string(), rev);
                ended += 1;
            }
        }
    }
    for did in world.dids() {
        for (path, ..) in world.records(did) {
            let lost = is_backfilled(path) && !seen.contains(&format!("{did}/{path}"));
            ensure!(!lost, "the backfill has lost {path} of {did}");
        }
    }
    ensure!(ended >= world.dids().count(), "{ended} repositories were backfilled whole");
    Ok(())
}

fn take(state: &mut State, world: &World, event: &Event, telling: Telling) {
    let did = &event.did;
    let has_handle = world.handle(did).is_some();
    if state.generation != Generation::D {
        state.looks.entry(did.clone()).or_default().insert(event.time.clone());
    }
    match &event.what {
        What::Commit(commit) => {
            let at = At {
                did: did.clone(),
                rev: commit.rev.clone(),
                time: event.time.clone(),
                backfilled: false,
                creates_tell: telling == Telling::Live,
                tells: telling != Telling::Off,
            };
            for operation in &commit.operations {
                if state.apply(&at, operation) {
                    state.sync(did, &commit.cid.to_string(), &commit.rev);
                    if operation.path.starts_with("app.bsky.actor.profile/") {
                        state.look_at_handle(did, &event.time, false, has_handle);
                    }
                }
            }
        }
        What::Identity { .. } => state.look_at_handle(did, &event.time, true, has_handle),
        What::Account { status: Some("deleted"), .. } => state.delete_account(did),
        What::Account { active, status } => {
            state.set_status(did, &event.time, *active, *status);
            let known = matches!(status, None | Some("deactivated" | "suspended" | "takendown"));
            if known {
                state.look_at_handle(did, &event.time, false, has_handle);
            }
        }
    }
}
