//! A record block straight to its JSON text, as the reference writes it on its live stream (PIPELINE 3.5).
//!
//! One pass, no value tree: members are written as they come, and what must move (blobs, array indices as keys) is moved
//! as text when its map ends. Work is bounded by size times [`MAX_DEPTH`], memory by the text that is allowed and by
//! [`MAX_MEMBERS`](super::members::MAX_MEMBERS).

use std::borrow::Cow;

use super::error::{CborError, RecordError};
use super::members::{self, Keys, Kind, MAX_MEMBERS, Member};
use super::reader::{CID_TAG, Item, MAX_DEPTH, Mode, Reader};
use crate::atproto::cid;
use crate::atproto::cid_text::check_cid;
use crate::wire::json_text;

/// 2^53 - 1, the largest integer that JavaScript holds exactly.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// Most bytes of text that a record or a label may become where nothing else is said. The network accepts records of a
/// mebibyte, which become six if they are nothing but control characters.
pub const MAX_TEXT_BYTES: usize = 8 << 20;

/// Members for which there is room from the beginning.
const USUAL_MEMBERS: usize = 32;

/// Longest text that is written without its escapes being counted before: so little may exceed what is allowed.
const UNCOUNTED: usize = 1 << 10;

/// Appends the JSON of a record block, of at most [`MAX_TEXT_BYTES`].
///
/// # Errors
/// Blocks that the reference cannot convert either (PIPELINE 4.3), equal keys in a map, and what has too many members or
/// becomes too long. `out` is then as it was.
pub fn write_record_json(block: &[u8], out: &mut String) -> Result<(), RecordError> {
    Scratch::default().write_record(block, out, MAX_TEXT_BYTES)
}

/// Appends the JSON of a label map out of a frame: key order kept, bytes as `{"$bytes":…}` (PIPELINE 3.4, DECISIONS 4),
/// no blob rules.
///
/// # Errors
/// As [`write_record_json`], with the tolerance of frames (PIPELINE 4.2).
pub fn write_label_json(map: &[u8], out: &mut String) -> Result<(), RecordError> {
    Scratch::default().write_label(map, out, MAX_TEXT_BYTES)
}

/// What converting needs beside the text, kept from one block to the next. Never more than 2 MiB.
#[derive(Debug, Default)]
pub struct Scratch {
    members: Vec<Member>,
}

impl Scratch {
    /// As [`write_record_json`], of at most `most` bytes. While it writes, `out` may grow by twice as many.
    ///
    /// # Errors
    /// As [`write_record_json`].
    pub fn write_record(&mut self, block: &[u8], out: &mut String, most: usize) -> Result<(), RecordError> {
        self.write_map(block, out, Mode::Strict, most)
    }

    /// As [`write_label_json`], of at most `most` bytes.
    ///
    /// # Errors
    /// As [`write_label_json`].
    pub fn write_label(&mut self, map: &[u8], out: &mut String, most: usize) -> Result<(), RecordError> {
        self.write_map(map, out, Mode::Lenient, most)
    }

    fn write_map(
        &mut self,
        block: &[u8],
        out: &mut String,
        mode: Mode,
        most: usize,
    ) -> Result<(), RecordError> {
        let before = out.len();
        self.members.clear();
        // Enough for nearly all records.
        self.members.reserve(USUAL_MEMBERS);
        let reader = Reader::new(block, mode);
        let mut writer = Writer { reader, mode, members: &mut self.members, before, most, out };
        let written = writer.top_level();
        if written.is_err() {
            out.truncate(before);
        }
        written
    }
}

struct Writer<'a, 'o> {
    reader: Reader<'a>,
    mode: Mode,
    /// Members of all maps that are open, innermost last.
    members: &'o mut Vec<Member>,
    /// Length of the output before.
    before: usize,
    /// Most bytes to write.
    most: usize,
    out: &'o mut String,
}

impl<'a> Writer<'a, '_> {
    fn top_level(&mut self) -> Result<(), RecordError> {
        match self.next_item()? {
            Item::Map(pairs) => self.map(pairs, 1)?,
            _ => return Err(RecordError::NotAMap),
        }
        self.check_room(0)?;
        Ok(self.reader.finish()?)
    }

    /// Whether so many more bytes may be written.
    fn check_room(&self, more: usize) -> Result<(), RecordError> {
        let used = self.out.len().saturating_sub(self.before).saturating_add(more);
        if used > self.most { Err(RecordError::TooLong(self.most)) } else { Ok(()) }
    }

    fn text(&mut self, text: &str) -> Result<(), RecordError> {
        self.check_room(if text.len() > UNCOUNTED { json_text::string_length(text) } else { text.len() })?;
        json_text::push_string(self.out, text);
        Ok(())
    }

    fn next_item(&mut self) -> Result<Item<'a>, CborError> {
        match self.mode {
            Mode::Strict => self.reader.item(),
            Mode::Lenient => self.reader.item_past_tags(),
        }
    }

    /// Writes the value that begins with `item`, inside of `depth` containers.
    fn value(&mut self, item: Item<'a>, depth: usize) -> Result<Kind, RecordError> {
        match item {
            Item::Text(text) => {
                self.text(&to_text(text))?;
                return Ok(Kind::Text);
            }
            Item::Uint(number) => {
                self.integer(number, false)?;
                return Ok(Kind::Number);
            }
            Item::Negint(number) => {
                self.integer(number.saturating_add(1), true)?;
                return Ok(Kind::Number);
            }
            Item::Float(number) => {
                json_text::push_float(self.out, number);
                return Ok(Kind::Number);
            }
            Item::Tag(CID_TAG) => {
                self.link()?;
                return Ok(Kind::Link);
            }
            Item::Map(pairs) => self.map(pairs, depth + 1)?,
            Item::Array(count) => self.array(count, depth + 1)?,
            Item::Bytes(bytes) => {
                self.check_room(bytes.len() / 3 * 4)?;
                json_text::push_bytes(self.out, bytes);
            }
            Item::Bool(true) => self.out.push_str("true"),
            Item::Bool(false) => self.out.push_str("false"),
            Item::Null | Item::Undefined => self.out.push_str("null"),
            Item::Tag(_) | Item::Simple(_) | Item::Chunked | Item::Break => check_scalar(item)?,
        }
        Ok(Kind::Other)
    }

    fn integer(&mut self, magnitude: u64, negative: bool) -> Result<(), RecordError> {
        if magnitude > MAX_SAFE_INTEGER {
            return Err(RecordError::IntegerTooLarge);
        }
        let magnitude = i64::try_from(magnitude).map_err(|_| RecordError::IntegerTooLarge)?;
        json_text::push_integer(self.out, if negative { -magnitude } else { magnitude });
        Ok(())
    }

    fn link(&mut self) -> Result<(), RecordError> {
        let Item::Bytes([0, bytes @ ..]) = self.reader.item()? else { return Err(RecordError::BadLink) };
        self.out.push_str("{\"$link\":\"");
        cid::push_text(self.out, bytes).map_err(|_| RecordError::BadLink)?;
        self.out.push_str("\"}");
        Ok(())
    }

    fn array(&mut self, count: Option<u64>, depth: usize) -> Result<(), RecordError> {
        check_depth(depth)?;
        self.out.push('[');
        let mut written = 0_u64;
        while count != Some(written) {
            let item = self.next_item()?;
            if count.is_none() && item == Item::Break {
                break;
            }
            if written > 0 {
                self.out.push(',');
            }
            self.value(item, depth)?;
            self.check_room(0)?;
            written += 1;
        }
        self.out.push(']');
        Ok(())
    }

    fn map(&mut self, pairs: Option<u64>, depth: usize) -> Result<(), RecordError> {
        check_depth(depth)?;
        let start = self.out.len();
        let base = self.members.len();
        let mut keys = Keys::default();
        let mut read = 0_u64;
        self.out.push('{');
        while pairs != Some(read) {
            let raw = match self.next_item()? {
                Item::Text(text) => text,
                Item::Break if pairs.is_none() => break,
                _ => return Err(RecordError::NonTextKey),
            };
            self.member(raw, &mut keys, base, depth)?;
            self.check_room(0)?;
            read += 1;
        }
        self.out.push('}');
        self.finish_map(start, base, &keys)?;
        self.members.truncate(base);
        Ok(())
    }

    fn member(
        &mut self,
        raw: &'a [u8],
        keys: &mut Keys<'a>,
        base: usize,
        depth: usize,
    ) -> Result<(), RecordError> {
        let key = to_text(raw);
        if !keys.see(raw, &key)? {
            let item = self.next_item()?;
            return self.pass_over(item, depth);
        }
        if self.members.len() >= MAX_MEMBERS {
            return Err(RecordError::TooManyMembers);
        }
        if self.members.len() > base {
            self.out.push(',');
        }
        let start = self.out.len();
        self.text(&key)?;
        self.out.push(':');
        let value = self.out.len();
        let item = self.next_item()?;
        let kind = self.value(item, depth)?;
        self.members.push(Member::new(&key, start, value, self.out.len(), kind));
        Ok(())
    }

    /// Reads the value that begins with `item` and is not written: it must be one all the same.
    fn pass_over(&mut self, item: Item<'a>, depth: usize) -> Result<(), RecordError> {
        let (count, is_map) = match item {
            Item::Array(count) => (count, false),
            Item::Map(pairs) => (pairs, true),
            Item::Tag(CID_TAG) => {
                let is_link = matches!(self.reader.item()?, Item::Bytes([0, ..]));
                return if is_link { Ok(()) } else { Err(RecordError::BadLink) };
            }
            other => return check_scalar(other),
        };
        check_depth(depth + 1)?;
        let mut read = 0_u64;
        while count != Some(read) {
            let mut next = self.next_item()?;
            if count.is_none() && next == Item::Break {
                break;
            }
            if is_map {
                if !matches!(next, Item::Text(_)) {
                    return Err(RecordError::NonTextKey);
                }
                next = self.next_item()?;
            }
            self.pass_over(next, depth + 1)?;
            read += 1;
        }
        Ok(())
    }

    /// Puts a finished map into its final form.
    fn finish_map(&mut self, start: usize, base: usize, keys: &Keys<'_>) -> Result<(), RecordError> {
        let own = self.members.get_mut(base..).unwrap_or_default();
        let moves = keys.arrange(own, self.out)?;
        match *own {
            [a, b] if self.mode == Mode::Strict => {
                let cid = members::legacy_blob_cid([a, b], self.out);
                if cid.is_some_and(|text| check_cid(text).is_err()) {
                    return Err(RecordError::BadLegacyBlob);
                }
            }
            [a, b, c, d] if self.mode == Mode::Strict => {
                if let Some(blob) = members::typed_blob([a, b, c, d], self.out) {
                    members::rewrite(self.out, start, &blob);
                    return Ok(());
                }
            }
            _ => {}
        }
        if moves {
            members::rewrite(self.out, start, own);
        }
        Ok(())
    }
}

/// Refuses the items that are no value of a record.
fn check_scalar(item: Item<'_>) -> Result<(), RecordError> {
    Err(match item {
        Item::Tag(tag) => RecordError::Tag(tag),
        Item::Simple(_) => CborError::Simple.into(),
        Item::Chunked => CborError::Indefinite.into(),
        Item::Break => CborError::StrayBreak.into(),
        _ => return Ok(()),
    })
}

fn check_depth(depth: usize) -> Result<(), CborError> {
    if depth > MAX_DEPTH { Err(CborError::TooDeep) } else { Ok(()) }
}

/// Invalid UTF-8 becomes U+FFFD, as in the reference's decoder.
fn to_text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[cfg(test)]
#[path = "to_json_tests.rs"]
mod tests;
