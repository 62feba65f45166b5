//! Event-stream frames: a header and a body, two CBOR items one after the other (PIPELINE 4.2).
//!
//! Frames are read as leniently as the reference reads them; unknown fields are passed over. A frame that is broken in
//! one place still tells its sequence number and its account if they can be read.

use thiserror::Error;

use crate::cbor::{CID_TAG, CborError, Item, Mode, Reader};

const SUBSCRIBE_REPOS: &str = "com.atproto.sync.subscribeRepos";

/// A decoded frame of `com.atproto.sync.subscribeRepos`, borrowing from its bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame<'a> {
    /// `#commit`.
    Commit(Commit<'a>),
    /// `#identity`.
    Identity(Identity<'a>),
    /// `#account`.
    Account(Account<'a>),
    /// `#sync`.
    Sync(Sync<'a>),
    /// `#info`: a note about the subscription itself.
    Info {
        /// Such as `OutdatedCursor`.
        name: &'a str,
        /// For people.
        message: Option<&'a str>,
    },
    /// An error frame (`op` -1); the server closes after it.
    Error {
        /// Such as `FutureCursor` or `ConsumerTooSlow`.
        error: &'a str,
        /// For people.
        message: Option<&'a str>,
    },
    /// Any other type, or none.
    Other {
        /// The type of the header, empty if absent.
        t: &'a str,
    },
}

/// A `#commit`.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit<'a> {
    /// Sequence number, not negative.
    pub seq: i64,
    /// The account (`repo` on the wire).
    pub did: &'a str,
    /// Bytes of the commit's CID.
    pub commit: &'a [u8],
    /// Revision of the repository.
    pub rev: &'a str,
    /// When the relay saw it, verbatim.
    pub time: &'a str,
    /// The commit did not fit into a frame: its operations are missing.
    pub too_big: bool,
    /// The operations in order.
    pub ops: Vec<Op<'a>>,
    /// The CAR.
    pub blocks: &'a [u8],
}

/// One operation of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op<'a> {
    /// `create`, `update`, `delete` or something to ignore.
    pub action: &'a str,
    /// `collection/rkey`, unchecked.
    pub path: &'a str,
    /// Bytes of the record's CID; `None` for deletes.
    pub cid: Option<&'a [u8]>,
}

/// An `#identity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity<'a> {
    /// Sequence number, not negative.
    pub seq: i64,
    /// The account.
    pub did: &'a str,
    /// When the relay saw it, verbatim.
    pub time: &'a str,
    /// A hint that is never trusted.
    pub handle: Option<&'a str>,
}

/// An `#account`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account<'a> {
    /// Sequence number, not negative.
    pub seq: i64,
    /// The account.
    pub did: &'a str,
    /// When the relay saw it, verbatim.
    pub time: &'a str,
    /// Whether the account's content may be shown.
    pub active: bool,
    /// Why it is not active, verbatim.
    pub status: Option<&'a str>,
}

/// A `#sync`: the repository was replaced, operations are not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sync<'a> {
    /// Sequence number, not negative.
    pub seq: i64,
    /// The account.
    pub did: &'a str,
    /// The revision that it now has.
    pub rev: Option<&'a str>,
}

/// What a frame says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Whether it is an error frame.
    pub is_error: bool,
    /// `t` of the header, empty if absent.
    pub t: &'a str,
}

/// Why a frame cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FrameErrorKind {
    /// Not CBOR, or not exactly two items.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// The header is not a map with `op` 1 or -1.
    #[error("bad header")]
    BadHeader,
    /// The body is not a map.
    #[error("body is not a map")]
    BodyNotAMap,
    /// A field of a type or range that it must not have.
    #[error("field {0} has an unexpected value")]
    BadField(&'static str),
    /// A field that must be there is not.
    #[error("field {0} is missing")]
    MissingField(&'static str),
}

/// A frame that cannot be decoded, with what could be read of it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("undecodable frame: {kind}")]
pub struct FrameError {
    /// What is wrong.
    #[source]
    pub kind: FrameErrorKind,
    /// The type of the header, if it was read.
    pub t: Option<String>,
    /// The sequence number, if it was read.
    pub seq: Option<i64>,
    /// The account, if it was read.
    pub did: Option<String>,
}

/// Decodes a frame of `com.atproto.sync.subscribeRepos`.
///
/// # Errors
/// Anything but one header and one body of the fields that its type requires.
pub fn decode_frame(bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    let failed = |kind, t: Option<&str>, body: &Body<'_>| FrameError {
        kind,
        t: t.map(str::to_owned),
        seq: body.seq,
        did: body.did.map(str::to_owned),
    };
    let mut body = Body::default();
    let (header, reader) = split(bytes).map_err(|kind| failed(kind, None, &body))?;
    let read = body.read(reader);
    let decoded = match read {
        Ok(()) => body.take_frame(header),
        Err(kind) => Err(kind),
    };
    decoded.map_err(|kind| failed(kind, Some(header.t), &body))
}

/// Reads the header; the reader returned stands at the body.
pub(super) fn split(bytes: &[u8]) -> Result<(Header<'_>, Reader<'_>), FrameErrorKind> {
    let mut reader = Reader::new(bytes, Mode::Lenient);
    let mut op = None;
    let mut t = "";
    let Item::Map(pairs) = reader.item_past_tags()? else { return Err(FrameErrorKind::BadHeader) };
    let mut fields = Fields::new(pairs);
    while let Some(key) = fields.next(&mut reader)? {
        let item = reader.item_past_tags()?;
        match (key, item) {
            (b"op", Item::Uint(1)) => op = Some(false),
            (b"op", Item::Negint(0)) => op = Some(true),
            (b"op", _) => return Err(FrameErrorKind::BadHeader),
            (b"t", Item::Text(text)) => t = str::from_utf8(text).map_err(|_| FrameErrorKind::BadHeader)?,
            (b"t", Item::Undefined) => {}
            (b"t", _) => return Err(FrameErrorKind::BadHeader),
            _ => reader.skip_rest_of(item)?,
        }
    }
    Ok((Header { is_error: op.ok_or(FrameErrorKind::BadHeader)?, t }, reader))
}

/// The type without the name of its subscription: `#commit`. What belongs to another subscription stays as it is.
pub(super) fn short_type<'a>(t: &'a str, subscription: &str) -> &'a str {
    t.strip_prefix(subscription).filter(|rest| rest.starts_with('#')).unwrap_or(t)
}

/// The short type of a subscribeRepos frame.
pub(super) fn repos_type(t: &str) -> &str {
    short_type(t, SUBSCRIBE_REPOS)
}

/// Walks the keys of a map, of either kind of length.
pub(super) struct Fields {
    left: Option<u64>,
}

impl Fields {
    pub(super) fn new(pairs: Option<u64>) -> Self {
        Self { left: pairs }
    }

    /// The next key; keys that are not text are passed over with their value.
    pub(super) fn next<'a>(&mut self, reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, CborError> {
        loop {
            match &mut self.left {
                Some(0) => return Ok(None),
                Some(left) => *left -= 1,
                None => {}
            }
            match reader.item()? {
                Item::Text(key) => return Ok(Some(key)),
                Item::Break if self.left.is_none() => return Ok(None),
                other => {
                    reader.skip_rest_of(other)?;
                    reader.skip()?;
                }
            }
        }
    }
}

/// The fields of all message types, as far as they were read.
#[derive(Default)]
struct Body<'a> {
    seq: Option<i64>,
    did: Option<&'a str>,
    time: Option<&'a str>,
    rev: Option<&'a str>,
    commit: Option<&'a [u8]>,
    too_big: bool,
    ops: Option<Vec<Op<'a>>>,
    blocks: Option<&'a [u8]>,
    handle: Option<&'a str>,
    active: Option<bool>,
    status: Option<&'a str>,
    name: Option<&'a str>,
    error: Option<&'a str>,
    message: Option<&'a str>,
    /// The first field of a wrong type. Reading goes on, for the sake of those after it.
    bad_field: Option<&'static str>,
}

impl<'a> Body<'a> {
    fn read(&mut self, mut reader: Reader<'a>) -> Result<(), FrameErrorKind> {
        let Item::Map(pairs) = reader.item_past_tags()? else { return Err(FrameErrorKind::BodyNotAMap) };
        let mut fields = Fields::new(pairs);
        while let Some(key) = fields.next(&mut reader)? {
            self.field(key, &mut reader)?;
        }
        reader.finish()?;
        Ok(())
    }

    fn field(&mut self, key: &[u8], reader: &mut Reader<'a>) -> Result<(), FrameErrorKind> {
        let item = reader.item_past_tags()?;
        match key {
            b"seq" => match item {
                Item::Uint(seq) if i64::try_from(seq).is_ok() => self.seq = i64::try_from(seq).ok(),
                other => self.refuse("seq", other, reader)?,
            },
            b"repo" | b"did" => self.did = self.text("did", item, reader)?,
            b"time" => self.time = self.text("time", item, reader)?,
            b"rev" => self.rev = self.text("rev", item, reader)?,
            b"handle" => self.handle = self.text("handle", item, reader)?,
            b"status" => self.status = self.text("status", item, reader)?,
            b"name" => self.name = self.text("name", item, reader)?,
            b"error" => self.error = self.text("error", item, reader)?,
            b"message" => self.message = self.text("message", item, reader)?,
            b"active" => self.active = self.boolean("active", item, reader)?,
            b"tooBig" => self.too_big = self.boolean("tooBig", item, reader)?.unwrap_or(false),
            b"commit" => self.commit = self.link("commit", item, reader)?,
            b"ops" => self.ops(item, reader)?,
            b"blocks" => match item {
                Item::Bytes(bytes) => self.blocks = Some(bytes),
                other => self.refuse("blocks", other, reader)?,
            },
            _ => reader.skip_rest_of(item)?,
        }
        Ok(())
    }

    fn ops(&mut self, item: Item<'a>, reader: &mut Reader<'a>) -> Result<(), FrameErrorKind> {
        let Item::Array(count) = item else { return Ok(self.refuse("ops", item, reader)?) };
        let mut ops = Vec::new();
        let mut left = count;
        while left != Some(0) {
            left = left.map(|left| left - 1);
            match reader.item_past_tags()? {
                Item::Break if count.is_none() => break,
                Item::Map(pairs) => ops.extend(self.op(pairs, reader)?),
                other => self.refuse("ops", other, reader)?,
            }
        }
        self.ops = Some(ops);
        Ok(())
    }

    fn op(&mut self, pairs: Option<u64>, reader: &mut Reader<'a>) -> Result<Option<Op<'a>>, FrameErrorKind> {
        let mut action = None;
        let mut path = None;
        let mut cid = None;
        let mut fields = Fields::new(pairs);
        while let Some(key) = fields.next(reader)? {
            let item = reader.item_past_tags()?;
            match key {
                b"action" => action = self.text("ops.action", item, reader)?,
                b"path" => path = self.text("ops.path", item, reader)?,
                b"cid" => cid = self.link("ops.cid", item, reader)?,
                _ => reader.skip_rest_of(item)?,
            }
        }
        if let (Some(action), Some(path)) = (action, path) {
            return Ok(Some(Op { action, path, cid }));
        }
        self.bad_field.get_or_insert("ops");
        Ok(None)
    }

    fn refuse(&mut self, field: &'static str, item: Item<'a>, reader: &mut Reader<'a>) -> Result<(), CborError> {
        self.bad_field.get_or_insert(field);
        reader.skip_rest_of(item)
    }

    fn text(
        &mut self,
        field: &'static str,
        item: Item<'a>,
        reader: &mut Reader<'a>,
    ) -> Result<Option<&'a str>, CborError> {
        match item {
            Item::Text(bytes) => match str::from_utf8(bytes) {
                Ok(text) => return Ok(Some(text)),
                Err(_) => {
                    self.bad_field.get_or_insert(field);
                }
            },
            Item::Null | Item::Undefined => {}
            other => self.refuse(field, other, reader)?,
        }
        Ok(None)
    }

    fn boolean(
        &mut self,
        field: &'static str,
        item: Item<'a>,
        reader: &mut Reader<'a>,
    ) -> Result<Option<bool>, CborError> {
        match item {
            Item::Bool(value) => return Ok(Some(value)),
            Item::Null | Item::Undefined => {}
            other => self.refuse(field, other, reader)?,
        }
        Ok(None)
    }

    /// The bytes of a CID, without the zero byte that leads them in a link.
    fn link(
        &mut self,
        field: &'static str,
        item: Item<'a>,
        reader: &mut Reader<'a>,
    ) -> Result<Option<&'a [u8]>, CborError> {
        match item {
            Item::Tag(CID_TAG) => match reader.item()? {
                Item::Bytes([0, cid @ ..]) => return Ok(Some(cid)),
                other => self.refuse(field, other, reader)?,
            },
            Item::Null | Item::Undefined => {}
            other => self.refuse(field, other, reader)?,
        }
        Ok(None)
    }

    fn take_frame(&mut self, header: Header<'a>) -> Result<Frame<'a>, FrameErrorKind> {
        // A wrong type matters only in messages that use the field.
        let known = header.is_error
            || matches!(repos_type(header.t), "#commit" | "#identity" | "#account" | "#sync" | "#info");
        if let (true, Some(field)) = (known, self.bad_field) {
            return Err(FrameErrorKind::BadField(field));
        }
        if header.is_error {
            return Ok(Frame::Error { error: required("error", self.error)?, message: self.message });
        }
        Ok(match repos_type(header.t) {
            "#commit" => Frame::Commit(Commit {
                seq: required("seq", self.seq)?,
                did: required("did", self.did)?,
                commit: required("commit", self.commit)?,
                rev: required("rev", self.rev)?,
                time: required("time", self.time)?,
                too_big: self.too_big,
                ops: required("ops", self.ops.take())?,
                blocks: required("blocks", self.blocks)?,
            }),
            "#identity" => Frame::Identity(Identity {
                seq: required("seq", self.seq)?,
                did: required("did", self.did)?,
                time: required("time", self.time)?,
                handle: self.handle,
            }),
            "#account" => Frame::Account(Account {
                seq: required("seq", self.seq)?,
                did: required("did", self.did)?,
                time: required("time", self.time)?,
                active: required("active", self.active)?,
                status: self.status,
            }),
            "#sync" => Frame::Sync(Sync {
                seq: required("seq", self.seq)?,
                did: required("did", self.did)?,
                rev: self.rev,
            }),
            "#info" => Frame::Info { name: self.name.unwrap_or_default(), message: self.message },
            _ => Frame::Other { t: header.t },
        })
    }
}

fn required<T>(field: &'static str, value: Option<T>) -> Result<T, FrameErrorKind> {
    value.ok_or(FrameErrorKind::MissingField(field))
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
