//! A world at the moment that was reached, and what it says there.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::Value;

use super::super::control::lock;
use super::super::directory::RepoAnswer;
use super::super::frames::{self, peek};
use super::super::load::FIRST_SEQ;
use super::super::script::{Script, Sent};
use super::super::wrong::{Asked, Asker, Wrong};
use super::labels::{self, Label};
use super::simulation::World;
use super::trouble::{LABEL_PLACES, Material, PLACES, Party, Trouble, Troubles};

/// The world at the moment that was reached, and the frames since.
pub(super) struct Stage {
    moment: Mutex<Moment>,
    /// The addresses of the hosts.
    pub(super) endpoints: Mutex<Vec<String>>,
    pub(super) troubles: Troubles,
    /// Numbers for each event.
    pub(super) places: u64,
}

struct Moment {
    world: World,
    retention: usize,
    /// The last frames of the stream.
    frames: VecDeque<Kept>,
    /// Place of the first of them in the stream, from 0 on.
    first: u64,
    /// Whether there is trouble after events.
    is_troubled: bool,
}

struct Kept {
    /// Its number is to be put in.
    frame: Bytes,
    wrong: Option<Trouble>,
    /// What trouble after it is made of: it is the same whenever it is read.
    after: Option<Material>,
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
            let after = if self.is_troubled { self.material() } else { None };
            self.frames.push_back(Kept { frame: event.frame(FIRST_SEQ), wrong: event.wrong, after });
            if self.frames.len() > self.retention {
                self.frames.pop_front();
                self.first += 1;
            }
        }
        true
    }

    fn material(&self) -> Option<Material> {
        let (did, time) = self.world.now()?;
        let (rev, _) = self.world.head(did)?;
        Some(Material { did: did.to_owned(), time, rev: rev.to_owned() })
    }

    /// The frame at this place of the stream, if it is kept.
    fn kept(&self, place: u64) -> Option<&Kept> {
        self.frames.get(place.checked_sub(self.first)? as usize)
    }
}

/// The number of the first event of the stream at the first relay. Of the clock's time a world that is made anew has greater
/// numbers than the former one (of up to a thousand events a second): whoever comes with a cursor of that is told that it is
/// outdated, and begins with the new.
fn first_seq(world: &World) -> u64 {
    FIRST_SEQ + world.begins_late() * 1000
}

/// Events of the stream.
fn length(world: &World) -> u64 {
    world.length() + 1 - world.first_streamed()
}

impl Stage {
    /// Goes through the history of a world; its stream keeps so many frames.
    pub(super) fn new(world: World, retention: usize) -> Self {
        let troubles = Troubles::new(world.options().seed, &world.options().trouble);
        let places = if troubles.is_of_relays() { PLACES } else { 1 };
        let history = world.options().history;
        let is_troubled = troubles.is_of_relays();
        let mut moment = Moment { world, retention, frames: VecDeque::new(), first: 0, is_troubled };
        while moment.world.number() < history && moment.step() {}
        Self { moment: Mutex::new(moment), endpoints: Mutex::default(), troubles, places }
    }

    /// Looks at the world.
    pub(super) fn with<T>(&self, look: impl FnOnce(&World) -> T) -> T {
        look(&lock(&self.moment).world)
    }

    /// The number of the last event at the first relay, once all has happened.
    pub(super) fn last_seq(&self) -> u64 {
        self.with(|world| first_seq(world) + length(world) * self.places - 1)
    }

    /// The stream of a relay that adds `offset` to the numbers of the first one.
    pub(super) fn relay(self: &Arc<Self>, offset: u64) -> Script {
        let (making, keeping) = (Arc::clone(self), Arc::clone(self));
        let (first, length) = self.with(|world| (first_seq(world) + offset, length(world)));
        let make = move |seq: u64| making.sent(seq - first, seq);
        let oldest = move || first + lock(&keeping.moment).first * keeping.places;
        let greeting = Arc::clone(self);
        Script::kept(first, length * self.places, make, oldest)
            .greeting(move |has_cursor| greeting.troubles.greeting(Party::Relay, has_cursor))
    }

    /// What a relay sends at a place of its numbers, of which this is the one: the event, or what is between two events.
    fn sent(&self, place: u64, seq: u64) -> Sent {
        let (event, between) = (place / self.places, place % self.places + 1 < self.places);
        let mut moment = lock(&self.moment);
        if !between {
            moment.reach(event);
            // Whoever has fallen behind what is kept is told so, as by a relay.
            let Some(kept) = moment.kept(event) else {
                return Sent::Frame(frames::error("ConsumerTooSlow"));
            };
            if let Some(wrong) = kept.wrong {
                self.troubles.note(wrong, seq);
            }
            return Sent::Frame(numbered(&kept.frame, seq));
        }
        let Some(trouble) = self.troubles.at(event * (self.places - 1) + place % self.places) else {
            return Sent::Nothing;
        };
        let before = event.checked_sub(1).and_then(|before| moment.kept(before));
        let Some((before, of)) = before.and_then(|kept| kept.after.as_ref().map(|of| (kept, of))) else {
            return Sent::Nothing;
        };
        let number = seq - place + event * self.places - 1;
        let before = (number, numbered(&before.frame, number));
        self.troubles.make(trouble, place, seq, of, &before)
    }

    /// The stream of the labeler, and its last number.
    pub(super) fn labeler(self: &Arc<Self>) -> (Script, u64) {
        let (frames, seed) = self.with(|world| (labels::labels(world), world.options().seed));
        let places = if self.troubles.is_of_labels() { LABEL_PLACES } else { 1 };
        let last = frames.len() as u64 * places;
        let (making, greeting) = (Arc::clone(self), Arc::clone(self));
        let make = move |seq: u64| making.labels(&frames, seq - 1, places, seed);
        let script = Script::kept(1, last, make, || 1);
        let greet = move |has_cursor| greeting.troubles.greeting(Party::Labeler, has_cursor);
        (script.greeting(greet), last)
    }

    fn labels(&self, frames: &[Vec<Label>], place: u64, places: u64, seed: u64) -> Sent {
        let number = place / places;
        let frame = |number: u64| {
            let seq = (number + 1) * places;
            let wrong = self.troubles.is_signed_wrong(number);
            Some((seq, labels::frame(seq, frames.get(number as usize)?, seed, wrong)))
        };
        if place % places + 1 == places {
            if self.troubles.is_signed_wrong(number) {
                self.troubles.note(Trouble::LabelSignature, place + 1);
            }
            return frame(number).map_or(Sent::Nothing, |(_, frame)| Sent::Frame(frame));
        }
        let Some(trouble) = self.troubles.at_label(number * (places - 1) + place % places) else {
            return Sent::Nothing;
        };
        let before = number.checked_sub(1).and_then(frame);
        self.troubles.make_label(trouble, place + 1, before.as_ref())
    }

    pub(super) fn document(&self, did: &str) -> Option<Value> {
        let endpoints = lock(&self.endpoints).clone();
        self.with(|world| world.document(did, |host| endpoints.get(host).cloned().unwrap_or_default()))
    }

    pub(super) fn handle(&self, handle: &str) -> Option<String> {
        self.with(|world| world.resolve(handle).map(str::to_owned))
    }

    pub(super) fn repo(&self, did: &str, host: Option<usize>) -> Option<RepoAnswer> {
        let moment = lock(&self.moment);
        let own = moment.world.host(did)?;
        if host.is_some_and(|host| host != own) {
            return None;
        }
        let (world, car) = (&moment.world, moment.world.export(did)?);
        if host.is_none() {
            return Some(RepoAnswer::Car(car));
        }
        let forged = || world.export_forged(did).unwrap_or_default();
        Some(self.troubles.repository(world.place(did)?, car, forged))
    }

    /// What goes wrong with an answer about something else than a repository.
    pub(super) fn wrong(&self, asked: Asked<'_>, by: Asker) -> Option<Wrong> {
        match asked {
            Asked::Document(did) => {
                let number = self.with(|world| world.place(did))?;
                self.troubles.document(by, number, did.starts_with("did:web:"))
            }
            Asked::Handle(handle) => {
                let moment = lock(&self.moment);
                let world = &moment.world;
                let did = world.resolve(handle)?;
                let other = world.dids().find(|other| *other != did).filter(|_| world.is_led_astray(did));
                self.troubles.handle(by, world.place(did)?, other)
            }
            Asked::Page(from, cursor) => self.troubles.page(by, from as u64, cursor),
        }
    }
}

/// A frame under its number.
fn numbered(frame: &Bytes, seq: u64) -> Bytes {
    let at = peek(frame).seq_at.expect("every event has a number") + 1;
    let mut frame = frame.to_vec();
    frame[at..at + 8].copy_from_slice(&seq.to_be_bytes());
    frame.into()
}
