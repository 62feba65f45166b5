//! An entry, as what it leads one to look for in the tables.

use rsky_common::wire::{self, StreamEvent};

use crate::engine::{News, SeenCommit, Statements, Work};
use crate::intake::Intake;
use crate::job::Payload;
use crate::kind::{Events, Kind as _, Labels};
use crate::labels::LabelRow;

/// What stands in memory for an entry beside what it says: its place, its key, and what is looked for.
const OVERHEAD: usize = 1024;

/// Something that is looked for.
#[derive(Debug)]
pub(super) struct Item {
    /// What it is about. What comes later about the same takes its place; `None`: nothing does.
    pub(super) key: Option<String>,
    pub(super) expected: Expected,
}

/// What should be found.
#[derive(Debug)]
pub(super) enum Expected {
    /// The rows of a record, or none of them any more; and its commit.
    Record(Box<Work>),
    /// Not this version of a record: it is not valid by us.
    Refused { uri: String, cid: String, why: String },
    /// The commit.
    Commit(SeenCommit),
    /// The status of an account.
    Status { did: String, status: Option<&'static str> },
    /// A label.
    Label(LabelRow),
}

impl Item {
    /// The revision that it is of, where that decides what is newer.
    pub(super) fn rev(&self) -> Option<&str> {
        match &self.expected {
            Expected::Record(work) => work.change.as_ref().map(|change| change.rev.as_str()),
            _ => None,
        }
    }

    /// Whether an earlier one about the same stays what counts: revisions and labels that come again are older or the same.
    pub(super) fn yields_to(&self, earlier: &Self) -> bool {
        match (&self.expected, &earlier.expected) {
            (Expected::Label(label), Expected::Label(earlier)) => label.cts <= earlier.cts,
            _ => self.rev().zip(earlier.rev()).is_some_and(|(rev, earlier)| rev < earlier),
        }
    }

    /// The account that it is of.
    pub(super) fn did(&self) -> Option<&str> {
        match &self.expected {
            Expected::Record(work) => work.did(),
            Expected::Commit(commit) => Some(&commit.did),
            Expected::Status { did, .. } => Some(did),
            Expected::Refused { .. } | Expected::Label(_) => None,
        }
    }

    /// About as many bytes as its record has.
    pub(super) fn size(&self) -> usize {
        match &self.expected {
            Expected::Record(work) => {
                let content = work.change.as_ref().and_then(|change| change.content());
                content.map_or(0, |content| content.json.len())
            }
            _ => 0,
        }
    }

    /// What it is about, for people.
    pub(super) fn name(&self) -> &str {
        match &self.expected {
            Expected::Refused { uri, .. } => uri,
            Expected::Record(_) | Expected::Commit(_) | Expected::Status { .. } | Expected::Label(_) => {
                self.key.as_deref().unwrap_or_default()
            }
        }
    }
}

/// What an entry turned out to be.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) items: Vec<Item>,
    /// Why nothing, or not everything, is looked for: one of a closed set.
    pub(super) passed: Option<&'static str>,
    /// The account that is gone with it.
    pub(super) gone: Option<String>,
    /// Bytes that it takes in memory.
    pub(super) bytes: usize,
}

impl Reading {
    fn of(items: Vec<Item>) -> Self {
        Self { items, ..Self::default() }
    }

    fn passed(why: &'static str) -> Self {
        Self { passed: Some(why), ..Self::default() }
    }
}

/// Reads an entry of an event stream.
pub(super) fn read_event(statements: &Statements, payload: &Payload) -> Reading {
    let mut reading = match payload.read::<Events>(statements.schema().lexicons()) {
        Intake::Work(work) => of_work(statements, work),
        Intake::Nothing(why) => Reading::passed(why),
        Intake::Rejected { reason, error } => refused(payload, reason, &error),
    };
    reading.bytes = payload.len().saturating_mul(Events::COPIES).saturating_add(OVERHEAD);
    reading
}

/// Reads an entry of the label stream.
pub(super) fn read_labels(statements: &Statements, payload: &Payload) -> Reading {
    let mut reading = match payload.read::<Labels>(statements.schema().lexicons()) {
        Intake::Work(labels) => Reading::of(labels.into_iter().map(of_label).collect()),
        Intake::Nothing(why) => Reading::passed(why),
        Intake::Rejected { reason, .. } => Reading::passed(reason),
    };
    let rows = reading.items.len().max(1).saturating_mul(OVERHEAD);
    reading.bytes = payload.len().saturating_mul(Labels::COPIES).saturating_add(rows);
    reading
}

fn of_work(statements: &Statements, mut work: Work) -> Reading {
    let names = [work.did(), work.change.as_ref().map(|change| change.uri.as_str())];
    if names.into_iter().flatten().any(|name| name.contains('\0')) {
        // No row can have such a name.
        return Reading::passed("name_with_nul");
    }
    work.change = work.change.filter(|change| statements.has_place_for(change.collection));
    if let Some(change) = &work.change {
        let key = Some(change.uri.clone());
        return Reading::of(vec![Item { key, expected: Expected::Record(Box::new(work)) }]);
    }
    if let Some(commit) = work.seen {
        let key = Some(format!("commit of {}", commit.did));
        return Reading::of(vec![Item { key, expected: Expected::Commit(commit) }]);
    }
    let Some(news) = work.account else { return Reading::passed("collection_without_rule") };
    let status = match news.what {
        News::Active => None,
        News::Hidden(status) => Some(status),
        News::Identity => return Reading::passed("identity"),
        News::Deleted => return Reading { gone: Some(news.did), ..Reading::passed("account_deleted") },
        News::Profile | News::Commit => return Reading::default(),
    };
    let key = Some(format!("status of {}", news.did));
    Reading::of(vec![Item { key, expected: Expected::Status { did: news.did, status } }])
}

/// A record that is not valid; what cannot be read at all says no name.
fn refused(payload: &Payload, reason: &'static str, error: &str) -> Reading {
    let event = payload.text().and_then(|text| wire::parse(text).ok());
    let Some(StreamEvent::Create(write) | StreamEvent::Update(write)) = event else {
        return Reading::passed(reason);
    };
    let uri = ["at://", &write.did, "/", &write.collection, "/", &write.rkey].concat();
    if uri.contains('\0') {
        return Reading::passed("name_with_nul");
    }
    let expected = Expected::Refused { uri, cid: write.cid.into_owned(), why: format!("{reason}: {error}") };
    Reading::of(vec![Item { key: None, expected }])
}

fn of_label(label: LabelRow) -> Item {
    let LabelRow { src, uri, cid, val, .. } = &label;
    let key = Some(format!("label {val} of {src} on {uri} {cid}"));
    Item { key, expected: Expected::Label(label) }
}
