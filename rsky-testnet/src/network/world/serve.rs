//! A world, served: relays, hosts, directory, labeler.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use serde_json::{Value, json};

use super::super::control::lock;
use super::super::directory::{RepoAnswer, Source};
use super::super::frames::{self, peek};
use super::super::list_repos::RepoPage;
use super::super::load::FIRST_SEQ;
use super::super::script::Sent;
use super::super::{Network, NetworkBuilder, RunningNetwork, Script};
use super::labels;
use super::options::WorldOptions;
use super::simulation::World;
use super::trouble::{Material, PLACES, Trouble, Troubles};

/// Repositories on a page of listRepos.
const PAGE: usize = 100;
/// How far apart the numbers of two relays are.
const BETWEEN_RELAYS: u64 = 10_000_000_000;

/// How a world is served.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Port of the first relay; 0 takes a free one. Everything else has free ports.
    pub port: u16,
    /// Frames a second for every subscriber; `None`: as fast as they are read.
    pub rate: Option<NonZeroU32>,
    /// Frames that a relay keeps for those who come later, at least 1. They take some 3 KB of memory each.
    pub retention: usize,
    /// Relays with the same events under numbers of their own, at least 1.
    pub relays: usize,
    /// The address everything listens on.
    pub address: IpAddr,
    /// The name or address by which others reach it, as DID documents have it; `None`: the address it listens on.
    pub name: Option<String>,
    /// What relays and hosts do wrong. Where relays do, numbers are left out between events.
    pub trouble: Vec<Trouble>,
}

impl Default for Serving {
    fn default() -> Self {
        let (address, trouble) = (Ipv4Addr::LOCALHOST.into(), Vec::new());
        Self { port: 0, rate: None, retention: 100_000, relays: 1, address, name: None, trouble }
    }
}

/// A world as a network of several ports: the first relay, which also has the directory, the handles and the labeler;
/// further relays; and the hosts of the accounts.
///
/// The world stands still at the end of its history until a relay is read, and then goes as far as its fastest reader:
/// directory and hosts answer as of that moment.
pub struct WorldNetwork {
    relays: Vec<RunningNetwork>,
    hosts: Vec<RunningNetwork>,
    stage: Arc<Stage>,
}

/// The number of the first event of the stream at the first relay. Of the clock's time a world that is made anew has greater
/// numbers than the former one (of up to a thousand events a second): whoever comes with a cursor of that is told that it is
/// outdated, and begins with the new.
fn first_seq(world: &World) -> u64 {
    FIRST_SEQ + world.begins_late() * 1000
}

/// The world at the moment that was reached, and the frames since.
struct Stage {
    moment: Mutex<Moment>,
    endpoints: Mutex<Vec<String>>,
    troubles: Troubles,
    /// Numbers for each event.
    places: u64,
}

struct Moment {
    world: World,
    retention: usize,
    /// The last frames of the stream, their numbers to be put in.
    frames: VecDeque<Bytes>,
    /// Place of the first of them in the stream, from 0 on.
    first: u64,
}

impl Moment {
    /// Goes on until the frame at this place of the stream is made.
    fn reach(&mut self, place: u64) {
        while self.first + self.frames.len() as u64 <= place {
            if !self.step() {
                return;
            }
        }
    }

    fn step(&mut self) -> bool {
        let Some(event) = self.world.step() else { return false };
        let first = self.world.first_streamed();
        if event.number >= first {
            self.frames.push_back(event.frame(FIRST_SEQ));
            if self.frames.len() > self.retention {
                self.frames.pop_front();
                self.first += 1;
            }
        }
        true
    }
}

impl WorldNetwork {
    /// Makes the history, and serves it.
    ///
    /// # Errors
    /// A port is taken.
    pub async fn start(options: WorldOptions, serving: Serving) -> Result<Self> {
        let (hosts, labels, seed) = (options.hosts.max(1), options.labels, options.seed);
        let retention = serving.retention.max(1);
        let history = options.history;
        let made = move || {
            let world = World::new(options);
            let mut moment = Moment { world, retention, frames: VecDeque::new(), first: 0 };
            while moment.world.number() < history && moment.step() {}
            let labels: Vec<Bytes> = labels::labels(&moment.world)
                .iter()
                .zip(1..=labels)
                .map(|(frame, seq)| labels::frame(seq, frame, seed))
                .collect();
            (moment, labels)
        };
        let (moment, labels) = tokio::task::spawn_blocking(made).await.context("make the history")?;
        let listed = listing(&moment.world);
        let length = moment.world.length() + 1 - moment.world.first_streamed();
        let first = first_seq(&moment.world);
        let places = if serving.trouble.iter().all(|kind| kind.is_of_hosts()) { 1 } else { PLACES };
        let stage = Arc::new(Stage {
            moment: Mutex::new(moment),
            endpoints: Mutex::default(),
            troubles: Troubles::new(seed, &serving.trouble),
            places,
        });
        let mut network = Self { relays: Vec::new(), hosts: Vec::new(), stage: Arc::clone(&stage) };
        for number in 0..hosts {
            let source = Arc::new(Host { stage: Arc::clone(&stage), number });
            let host = network_at(&serving).source(source).start().await?;
            lock(&stage.endpoints).push(host.url());
            network.hosts.push(host);
        }
        for relay in 0..serving.relays.max(1) {
            let builder = network_at(&serving)
                .port(if relay == 0 { serving.port } else { 0 })
                .rate(serving.rate)
                .source(Arc::new(Everywhere { stage: Arc::clone(&stage) }))
                .repo_pages(RepoPage::split(listed.clone(), PAGE))
                .page_size(PAGE)
                .labeler(Script::frames(labels.clone()))
                .relay(script(&stage, first, relay as u64 * BETWEEN_RELAYS, length));
            network.relays.push(builder.start().await?);
        }
        Ok(network)
    }

    /// The relays; the first one is directory, handle server and labeler, too.
    pub fn relays(&self) -> &[RunningNetwork] {
        &self.relays
    }

    /// The hosts of the accounts.
    pub fn hosts(&self) -> &[RunningNetwork] {
        &self.hosts
    }

    /// The number of the last event of the stream at the first relay, once the whole world has happened.
    pub fn last_seq(&self) -> u64 {
        let moment = lock(&self.stage.moment);
        let length = moment.world.length() + 1 - moment.world.first_streamed();
        first_seq(&moment.world) + length * self.stage.places - 1
    }

    /// The numbers at which each kind of trouble of relays has happened so far; of hosts, a number for each account.
    pub fn trouble(&self) -> BTreeMap<Trouble, BTreeSet<u64>> {
        self.stage.troubles.happened()
    }

    /// Ends it.
    ///
    /// # Errors
    /// Connections do not end within some seconds.
    pub async fn stop(self) -> Result<()> {
        for network in self.relays.into_iter().chain(self.hosts) {
            network.stop().await?;
        }
        Ok(())
    }
}

fn network_at(serving: &Serving) -> NetworkBuilder {
    Network::builder().address(serving.address).name(serving.name.clone())
}

/// The stream of a relay that adds `offset` to the numbers of the first one, which begin with `first`.
fn script(stage: &Arc<Stage>, first: u64, offset: u64, length: u64) -> Script {
    let (making, keeping) = (Arc::clone(stage), Arc::clone(stage));
    let first_seq = first + offset;
    let make = move |seq: u64| making.sent(seq - first_seq, seq);
    let oldest = move || first_seq + lock(&keeping.moment).first * keeping.places;
    Script::kept(first_seq, length * stage.places, make, oldest)
}

/// A frame under its number.
fn numbered(frame: &Bytes, seq: u64) -> Bytes {
    let at = peek(frame).seq_at.expect("every event has a number") + 1;
    let mut frame = frame.to_vec();
    frame[at..at + 8].copy_from_slice(&seq.to_be_bytes());
    frame.into()
}

fn listing(world: &World) -> Vec<Value> {
    let one = |did: &str| {
        let (rev, head) = world.head(did)?;
        Some(json!({"did": did, "head": head.to_string(), "rev": rev, "active": true}))
    };
    world.dids().filter_map(one).collect()
}

/// What the directory and a relay know: everything.
struct Everywhere {
    stage: Arc<Stage>,
}

/// What one host knows: its own accounts.
struct Host {
    stage: Arc<Stage>,
    number: usize,
}

impl Stage {
    /// What a relay sends at a place of its numbers, of which this is the one: the event, or what is between two events.
    fn sent(&self, place: u64, seq: u64) -> Sent {
        let (event, between) = (place / self.places, place % self.places + 1 < self.places);
        let mut moment = lock(&self.moment);
        if !between {
            moment.reach(event);
            let kept = event.checked_sub(moment.first).and_then(|at| moment.frames.get(at as usize));
            // Whoever has fallen behind what is kept is told so, as by a relay.
            return Sent::Frame(
                kept.map_or_else(|| frames::error("ConsumerTooSlow"), |frame| numbered(frame, seq)),
            );
        }
        let Some(trouble) = self.troubles.at(event * (self.places - 1) + place % self.places) else {
            return Sent::Nothing;
        };
        let before = event.checked_sub(moment.first + 1).and_then(|at| moment.frames.get(at as usize));
        let number = seq - place + event * self.places - 1;
        let before = before.map(|frame| (number, numbered(frame, number)));
        let world = &moment.world;
        let Some((did, time)) = world.now() else { return Sent::Nothing };
        let rev = world.head(did).map(|(rev, _)| rev).unwrap_or_default();
        self.troubles.make(trouble, place, seq, &Material { did, time: &time, rev, before })
    }

    fn document(&self, did: &str) -> Option<Value> {
        let endpoints = lock(&self.endpoints).clone();
        lock(&self.moment).world.document(did, |host| endpoints.get(host).cloned().unwrap_or_default())
    }

    fn handle(&self, handle: &str) -> Option<String> {
        lock(&self.moment).world.resolve(handle).map(str::to_owned)
    }

    fn repo(&self, did: &str, host: Option<usize>) -> Option<RepoAnswer> {
        let moment = lock(&self.moment);
        let own = moment.world.host(did)?;
        if host.is_some_and(|host| host != own) {
            return None;
        }
        let (car, number) = (moment.world.export(did)?, moment.world.place(did)?);
        drop(moment);
        Some(if host.is_some() { self.troubles.answer(number, car) } else { RepoAnswer::Car(car) })
    }
}

impl Source for Everywhere {
    fn document(&self, did: &str) -> Option<Value> {
        self.stage.document(did)
    }

    fn handle(&self, handle: &str) -> Option<String> {
        self.stage.handle(handle)
    }

    fn repo(&self, did: &str) -> Option<RepoAnswer> {
        self.stage.repo(did, None)
    }
}

impl Source for Host {
    fn document(&self, _did: &str) -> Option<Value> {
        None
    }

    fn handle(&self, handle: &str) -> Option<String> {
        self.stage.handle(handle)
    }

    fn repo(&self, did: &str) -> Option<RepoAnswer> {
        self.stage.repo(did, Some(self.number))
    }
}

impl std::fmt::Debug for Everywhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the world")
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "host {}", self.number)
    }
}
