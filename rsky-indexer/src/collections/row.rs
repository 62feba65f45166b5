//! A validated record becomes the row of its typed table.

use std::borrow::Cow;

use rsky_common::clock::now_iso;

use super::{Collection, Flag, Ownership, RkeyRule, Source};
use crate::text::at_uri::AtUri;
use crate::text::datetime::normalize_datetime;
use crate::text::json::Json;

/// The values of a typed row, in the order of the table's columns.
///
/// A value that the change holds anyway (uri, cid, author, time) is only named here, not copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    cells: Vec<Cell>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Cell {
    Null,
    Uri,
    Cid,
    Creator,
    Rkey,
    IndexedAt,
    Flag(Flag),
    Own(Box<str>),
}

/// What a row takes from the event around the record.
#[derive(Debug, Clone, Copy)]
pub struct RecordContext<'a> {
    /// `at://did/collection/rkey`
    pub uri: &'a str,
    /// The record's CID.
    pub cid: &'a str,
    /// The repository's DID.
    pub did: &'a str,
    /// The record key.
    pub rkey: &'a str,
    /// The event's time, verbatim.
    pub time: &'a str,
    /// What the engine found of a post.
    pub flags: Flags,
}

/// What a post's row says of its place among other records; `None` is NULL (INDEXING §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// Its parent or root is not what it says.
    pub invalid_reply_root: Option<bool>,
    /// The root's gate does not let its author reply.
    pub violates_thread_gate: Option<bool>,
    /// The quoted post's gate forbids quotes.
    pub violates_embedding_rules: Option<bool>,
}

impl Flags {
    /// What a reply is found to be: both are NULL unless one of them is true (INDEXING §4.1).
    pub fn set_reply(&mut self, invalid: bool, violates: bool) {
        let is_flagged = invalid || violates;
        self.invalid_reply_root = is_flagged.then_some(invalid);
        self.violates_thread_gate = is_flagged.then_some(violates);
    }

    fn value(self, flag: Flag) -> Option<&'static str> {
        let value = match flag {
            Flag::InvalidReplyRoot => self.invalid_reply_root,
            Flag::ViolatesThreadGate => self.violates_thread_gate,
            Flag::ViolatesEmbeddingRules => self.violates_embedding_rules,
        };
        value.map(|set| if set { "true" } else { "false" })
    }
}

impl Row {
    /// The value of a column; `None` is NULL.
    pub fn value<'a>(&'a self, column: usize, context: &RecordContext<'a>) -> Option<&'a str> {
        match self.cells.get(column)? {
            Cell::Null => None,
            Cell::Uri => Some(context.uri),
            Cell::Cid => Some(context.cid),
            Cell::Creator => Some(context.did),
            Cell::Rkey => Some(context.rkey),
            Cell::IndexedAt => Some(context.time),
            Cell::Flag(flag) => context.flags.value(*flag),
            Cell::Own(text) => Some(text),
        }
    }
}

/// The typed row of a record, or `None` where the collection has no table or the record key gets no row.
///
/// The record must have passed its lexicon: a required field that is absent all the same becomes NULL.
/// U+0000, which Postgres cannot hold, is removed (DECISIONS 16).
pub fn build_row(collection: &Collection, rkey: &str, record: &Json<'_>) -> Option<Row> {
    if collection.rkey == RkeyRule::SelfOnly && rkey != "self" {
        return None;
    }
    let table = collection.table?;
    let cells = table.columns.iter().map(|column| cell(&column.source, record)).collect();
    Some(Row { cells })
}

fn cell(source: &Source, record: &Json<'_>) -> Cell {
    match source {
        Source::Uri => Cell::Uri,
        Source::Cid => Cell::Cid,
        Source::Creator => Cell::Creator,
        Source::Rkey => Cell::Rkey,
        Source::IndexedAt => Cell::IndexedAt,
        Source::CreatedAt => own(text_at(record, &["createdAt"]).map(|text| normalize_datetime(text))),
        Source::CreatedAtRaw => match text_at(record, &["createdAt"]) {
            Some(text) => own(Some(text.into())),
            None => own(Some(now_iso().into())),
        },
        Source::Text(path) => own(text_at(record, path).map(Cow::Borrowed)),
        Source::BlobCid(key) => own(record.get(key).and_then(blob_cid).map(Cow::Borrowed)),
        Source::Flag(flag) => Cell::Flag(*flag),
        Source::Strings(key) => own(strings(record.get(key)).map(Cow::Owned)),
        Source::JsonText(key) => {
            own(record.get(key).map(|value| crate::text::json_text::to_json_text(value).into()))
        }
    }
}

/// A JSON array of the strings; `None` where there are none.
fn strings(value: Option<&Json<'_>>) -> Option<String> {
    let strings: Vec<Json<'_>> = value?
        .as_array()?
        .iter()
        .filter_map(Json::as_str)
        .map(|text| Json::String(text.replace('\0', "").into()))
        .collect();
    (!strings.is_empty()).then(|| crate::text::json_text::to_json_text(&Json::Array(strings)))
}

fn own(text: Option<Cow<'_, str>>) -> Cell {
    match text {
        None => Cell::Null,
        Some(text) if text.contains('\0') => Cell::Own(text.replace('\0', "").into_boxed_str()),
        Some(text) => Cell::Own(text.into()),
    }
}

fn text_at<'a>(record: &'a Json<'_>, path: &[&str]) -> Option<&'a str> {
    let mut value = record;
    for key in path {
        value = value.get(key)?;
    }
    value.as_str()
}

/// The CID of a typed blob (`ref.$link`) or of a legacy one (`cid`).
pub(super) fn blob_cid<'a>(blob: &'a Json<'_>) -> Option<&'a str> {
    match blob.get("ref") {
        Some(link) => link.get("$link")?.as_str(),
        None => blob.get("cid")?.as_str(),
    }
}

/// Holds a record against its collection's [`Ownership`]; the error is the reference's sentence.
pub fn check_ownership(
    collection: &Collection,
    did: &str,
    rkey: &str,
    record: &Json<'_>,
) -> Result<(), String> {
    let (field, with_rkey) = match collection.ownership {
        Ownership::Free => return Ok(()),
        Ownership::SameAuthor(field) => (field, false),
        Ownership::SameAuthorAndRkey(field) => (field, true),
    };
    let uri = record.get(field).and_then(Json::as_str).and_then(AtUri::parse);
    let holds = uri.is_some_and(|uri| uri.host() == did && (!with_rkey || uri.rkey() == rkey));
    if holds { Ok(()) } else { Err(format!("the author of {} does not own its {field}", collection.nsid)) }
}
