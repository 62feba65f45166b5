//! An entry between the reader and its acknowledgement.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use rsky_common::redis::consumer::Entry;
use rsky_common::runtime::budget::Charge;

use crate::acks::{Source, entry_id};
use crate::engine::AccountNews;
use crate::intake::Intake;
use crate::kind::Kind;
use crate::lexicon::Edition;
use crate::metrics::What;
use crate::observed::One;

/// Field names shown of an entry without payload.
const NAMES: usize = 20;

/// An entry on its way to the database.
#[derive(Debug)]
pub struct Job {
    /// The stream it comes from.
    pub source: Arc<Source>,
    /// Its id in the stream.
    pub id: String,
    /// What it says.
    pub payload: Payload,
    /// What it is, for the metrics; the default until it is taken apart.
    pub what: What,
    /// Whether it was delivered before, to this process or another.
    pub again: bool,
    /// When it was read.
    pub read_at: Instant,
    /// In which round of reading it was read (see [`crate::identity::Deferral`]).
    pub round: u64,
    /// The memory budget's charge for it; `None` once only the id is kept.
    pub charge: Option<Charge>,
    /// Counts it among the entries in memory; `None` once only the id is kept.
    pub held: Option<One>,
}

impl Job {
    /// It is to be read again when the work beside the lanes has room, or has room for a domain.
    pub fn put_off(&self, domain: Option<&str>) {
        let (deferral, id) = (&self.source.deferral, entry_id(&self.id));
        match domain {
            Some(domain) => deferral.put_off_of(domain, self.round, id),
            None => deferral.put_off(self.round, id),
        }
    }

    /// The same for its account, which an earlier entry may have left behind; the domain that it waits for.
    pub fn put_off_behind(&self, news: &AccountNews, domain: Option<String>) -> Option<String> {
        let (deferral, id) = (&self.source.deferral, entry_id(&self.id));
        if news.what.writes() {
            return deferral.put_off_behind(&news.did, domain.as_deref(), self.round, id);
        }
        self.put_off(domain.as_deref());
        domain
    }

    /// The domain for which an earlier entry of its account waits that must be done with first.
    pub fn overtaken(&self, news: &AccountNews) -> Option<String> {
        let id = entry_id(&self.id);
        news.what.writes().then(|| self.source.deferral.overtaken(&news.did, self.round, id)).flatten()
    }

    /// The same entry without its payload, which is left in the stream.
    pub fn without_payload(&self) -> Self {
        Self {
            source: Arc::clone(&self.source),
            id: self.id.clone(),
            payload: Payload::InStream,
            what: self.what,
            again: self.again,
            read_at: self.read_at,
            round: self.round,
            charge: None,
            held: None,
        }
    }
}

/// What an entry says.
#[derive(Debug)]
pub enum Payload {
    /// The text of its payload field.
    Text(String),
    /// Bytes that are not UTF-8.
    NotText(Vec<u8>),
    /// It has fields, and none of them is the payload; their names.
    NoField(String),
    /// A pending entry whose body was deleted: nothing is left of it.
    Gone,
    /// Nothing is kept of it here; the stream has it until it is acknowledged.
    InStream,
}

impl Payload {
    /// Takes the payload out of an entry: the first of these fields that it has.
    pub fn of(fields: &[&str], entry: &mut Entry) -> Self {
        if entry.fields.is_empty() {
            return Self::Gone;
        }
        match fields.iter().find_map(|field| entry.take_field(field)).map(String::from_utf8) {
            Some(Ok(text)) => Self::Text(text),
            Some(Err(error)) => Self::NotText(error.into_bytes()),
            None => {
                let names = entry.fields.iter().take(NAMES).map(|(name, _)| String::from_utf8_lossy(name));
                Self::NoField(names.collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// The text that can be read as an entry.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::NotText(_) | Self::NoField(_) | Self::Gone | Self::InStream => None,
        }
    }

    /// What a dead letter shows of it.
    pub fn legible(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::NotText(bytes) => String::from_utf8_lossy(bytes),
            Self::NoField(_) | Self::Gone | Self::InStream => Cow::Borrowed(""),
        }
    }

    /// Bytes of what it says.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::NotText(bytes) => bytes.len(),
            Self::NoField(_) | Self::Gone | Self::InStream => 0,
        }
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads it as an entry of a kind, as an AppView of an edition would.
    pub fn read<K: Kind>(&self, edition: Edition) -> Intake<K::Item> {
        let rejected = |reason, error| Intake::Rejected { reason, error };
        match self {
            Self::Text(text) => K::read(edition, text),
            Self::NotText(_) => rejected("not_utf8", "the payload is not UTF-8".to_owned()),
            Self::NoField(names) => {
                rejected("missing_field", format!("no field {}; there is: {names}", K::FIELDS.join(" or ")))
            }
            Self::Gone | Self::InStream => Intake::Nothing("no_payload"),
        }
    }
}
