//! A record block straight to its JSON text, as the reference writes it on its live stream (PIPELINE 3.5).
//!
//! One pass, no value tree: members are written as they come, and what must move (blobs, array indices as keys,
//! duplicates) is moved as text when its map ends. Work is bounded by size times [`MAX_DEPTH`].

use std::borrow::Cow;

use super::error::{CborError, RecordError};
use super::members::{self, Kind, Member};
use super::reader::{CID_TAG, Item, MAX_DEPTH, Mode, Reader};
use crate::atproto::cid;
use crate::wire::json_text;

/// 2^53 - 1, the largest integer that JavaScript holds exactly.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// Appends the JSON of a record block.
///
/// # Errors
/// Blocks that the reference cannot convert either (PIPELINE 4.3). `out` is then as it was.
pub fn write_record_json(block: &[u8], out: &mut String) -> Result<(), RecordError> {
    write_map(block, out, Mode::Strict)
}

/// Appends the JSON of a label map out of a frame: key order kept, bytes as `{"$bytes":…}` (PIPELINE 3.4, DECISIONS 4),
/// no blob rules.
///
/// # Errors
/// As [`write_record_json`], with the tolerance of frames (PIPELINE 4.2).
pub fn write_label_json(map: &[u8], out: &mut String) -> Result<(), RecordError> {
    write_map(map, out, Mode::Lenient)
}

fn write_map(block: &[u8], out: &mut String, mode: Mode) -> Result<(), RecordError> {
    let before = out.len();
    let mut writer = Writer { reader: Reader::new(block, mode), mode, members: Vec::with_capacity(32), out };
    let written = writer.top_level();
    if written.is_err() {
        out.truncate(before);
    }
    written
}

struct Writer<'a, 'o> {
    reader: Reader<'a>,
    mode: Mode,
    /// Members of all maps that are open, innermost last.
    members: Vec<Member<'a>>,
    out: &'o mut String,
}

impl<'a> Writer<'a, '_> {
    fn top_level(&mut self) -> Result<(), RecordError> {
        match self.next_item()? {
            Item::Map(pairs) => self.map(pairs, 1)?,
            _ => return Err(RecordError::NotAMap),
        }
        Ok(self.reader.finish()?)
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
                json_text::push_string(self.out, &to_text(text));
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
            Item::Bytes(bytes) => json_text::push_bytes(self.out, bytes),
            Item::Bool(true) => self.out.push_str("true"),
            Item::Bool(false) => self.out.push_str("false"),
            Item::Null | Item::Undefined => self.out.push_str("null"),
            Item::Tag(tag) => return Err(RecordError::Tag(tag)),
            Item::Simple(_) => return Err(CborError::Simple.into()),
            Item::Chunked => return Err(CborError::Indefinite.into()),
            Item::Break => return Err(CborError::StrayBreak.into()),
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
            written += 1;
        }
        self.out.push(']');
        Ok(())
    }

    fn map(&mut self, pairs: Option<u64>, depth: usize) -> Result<(), RecordError> {
        check_depth(depth)?;
        let start = self.out.len();
        let base = self.members.len();
        let mut plain = true;
        let mut written = 0_u64;
        self.out.push('{');
        while pairs != Some(written) {
            let key = match self.next_item()? {
                Item::Text(text) => to_text(text),
                Item::Break if pairs.is_none() => break,
                _ => return Err(RecordError::NonTextKey),
            };
            if plain {
                let previous = if written > 0 { self.members.last() } else { None };
                plain = !members::is_special_key(&key)
                    && previous.is_none_or(|previous| members::in_canonical_order(&previous.key, &key));
            }
            if written > 0 {
                self.out.push(',');
            }
            let member_start = self.out.len();
            json_text::push_string(self.out, &key);
            self.out.push(':');
            let item = self.next_item()?;
            let kind = self.value(item, depth)?;
            self.members.push(Member { key, start: member_start, end: self.out.len(), kind });
            written += 1;
        }
        self.out.push('}');
        self.settle(start, base, plain)?;
        self.members.truncate(base);
        Ok(())
    }

    /// Puts a finished map into its final form. `plain`: its keys came in canonical order and none is special.
    fn settle(&mut self, start: usize, base: usize, plain: bool) -> Result<(), RecordError> {
        let own = self.members.get(base..).unwrap_or_default();
        if plain {
            return match own {
                [a, b] => self.check_legacy_blob([a, b]),
                [a, b, c, d] if self.mode == Mode::Strict => {
                    if let Some(blob) = members::typed_blob([a, b, c, d], self.out) {
                        members::rewrite(self.out, start, &blob);
                    }
                    Ok(())
                }
                _ => Ok(()),
            };
        }
        let ordered = members::javascript_order(own);
        let blob = match ordered.as_slice() {
            [a, b, c, d] if self.mode == Mode::Strict => members::typed_blob([a, b, c, d], self.out),
            _ => None,
        };
        if let [a, b] = ordered.as_slice() {
            self.check_legacy_blob([a, b])?;
        }
        match blob {
            Some(blob) => members::rewrite(self.out, start, &blob),
            None => members::rewrite(self.out, start, &ordered),
        }
        Ok(())
    }

    fn check_legacy_blob(&self, members: [&Member<'_>; 2]) -> Result<(), RecordError> {
        if self.mode == Mode::Lenient {
            return Ok(());
        }
        match members::legacy_blob_cid(members, self.out) {
            Some(text) if !cid::is_cid_text(text) => Err(RecordError::BadLegacyBlob),
            _ => Ok(()),
        }
    }
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
