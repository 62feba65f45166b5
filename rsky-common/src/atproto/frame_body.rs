//! The body of a subscribeRepos frame, read field by field whatever its type.

use super::frame_message::{Account, Commit, Frame, FrameErrorKind, Identity, Op, Sync};
use super::frame_parts::{Fields, Header, repos_type};
use super::reject::MAX_OPS;
use crate::cbor::{CID_TAG, CborError, Item, Reader};

/// Longest DID, in bytes: what the protocol's syntax allows.
const MAX_DID: usize = 2048;
/// Longest revision, time, status and handle, in bytes. Honest ones have at most 253; each entry of a commit repeats its
/// revision and time, so without a bound a frame could become hundreds of times its size.
const MAX_TEXT: usize = 256;

/// The fields of all message types, as far as they were read.
#[derive(Default)]
pub(super) struct Body<'a> {
    pub(super) seq: Option<i64>,
    pub(super) did: Option<&'a str>,
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
    pub(super) fn read(&mut self, mut reader: Reader<'a>) -> Result<(), FrameErrorKind> {
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
            b"repo" | b"did" => self.did = self.text_within(MAX_DID, "did", item, reader)?,
            b"time" => self.time = self.text_within(MAX_TEXT, "time", item, reader)?,
            b"rev" => self.rev = self.text_within(MAX_TEXT, "rev", item, reader)?,
            b"handle" => self.handle = self.text_within(MAX_TEXT, "handle", item, reader)?,
            b"status" => self.status = self.text_within(MAX_TEXT, "status", item, reader)?,
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
                Item::Map(pairs) => {
                    let op = self.op(pairs, reader)?;
                    if ops.len() < MAX_OPS {
                        ops.extend(op);
                    } else {
                        self.bad_field.get_or_insert("ops");
                    }
                }
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

    fn refuse(
        &mut self,
        field: &'static str,
        item: Item<'a>,
        reader: &mut Reader<'a>,
    ) -> Result<(), CborError> {
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

    /// A text that goes into entries, which it must not blow up.
    fn text_within(
        &mut self,
        most: usize,
        field: &'static str,
        item: Item<'a>,
        reader: &mut Reader<'a>,
    ) -> Result<Option<&'a str>, CborError> {
        let text = self.text(field, item, reader)?;
        if text.is_some_and(|text| text.len() > most) {
            self.bad_field.get_or_insert(field);
            return Ok(None);
        }
        Ok(text)
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

    /// The message of the header's type, if it has all that its type requires.
    pub(super) fn take_frame(&mut self, header: Header<'a>) -> Result<Frame<'a>, FrameErrorKind> {
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
