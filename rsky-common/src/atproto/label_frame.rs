//! One frame of a labeler becomes one stream entry per label (PIPELINE 3.4 and 5).

use super::commit_entries::{Converted, undecodable};
use super::frame_message::{FrameError, FrameErrorKind};
use super::frame_parts::{Fields, Header, short_type, shown, split};
use super::reject::{FrameKind, MAX_ENTRY_BYTES, TooLarge, reason};
use crate::cbor::{Item, MAX_TEXT_BYTES, Reader, Scratch};
use crate::wire::push_label_entry;

const SUBSCRIBE_LABELS: &str = "com.atproto.label.subscribeLabels";

/// Most labels of a frame. One takes 150 bytes, so a frame of the protocol's 5 MB has at most some 30 000. A label can be a
/// single byte, though, and takes a hundred as an entry; a frame of millions of them would not fit into memory, nor be
/// written within the time that Redis is given.
const MAX_LABELS: usize = 100_000;

/// Converts one frame of `com.atproto.label.subscribeLabels`. Only `#labels` moves the cursor. A label that is no map,
/// or that JSON cannot hold, is rejected alone; a frame of more than [`MAX_LABELS`] or [`MAX_ENTRY_BYTES`] as a whole.
pub fn convert_labels(bytes: &[u8]) -> Converted {
    let mut body = Body::default();
    let mut t = None;
    let read = split(bytes).and_then(|(header, reader)| {
        t = Some(header.t.to_owned());
        body.read(reader)?;
        body.take(header)
    });
    match read {
        Ok(converted) => converted,
        Err(kind) => undecodable(FrameError { kind, t, seq: body.seq, did: None }, labels_type, &["#labels"]),
    }
}

fn labels_type(t: &str) -> &str {
    short_type(t, SUBSCRIBE_LABELS)
}

#[derive(Default)]
struct Body<'a> {
    seq: Option<i64>,
    labels: Option<Vec<&'a [u8]>>,
    name: Option<&'a str>,
    error: Option<&'a str>,
    message: Option<&'a str>,
    bad_field: Option<&'static str>,
    too_many: bool,
}

impl<'a> Body<'a> {
    fn read(&mut self, mut reader: Reader<'a>) -> Result<(), FrameErrorKind> {
        let Item::Map(pairs) = reader.item_past_tags()? else { return Err(FrameErrorKind::BodyNotAMap) };
        let mut fields = Fields::new(pairs);
        while let Some(key) = fields.next(&mut reader)? {
            let item = reader.item_past_tags()?;
            match (key, item) {
                (b"seq", Item::Uint(seq)) if i64::try_from(seq).is_ok() => self.seq = i64::try_from(seq).ok(),
                (b"labels", Item::Array(count)) => self.label_slices(count, &mut reader)?,
                (b"name", Item::Text(text)) => self.name = str::from_utf8(text).ok(),
                (b"error", Item::Text(text)) => self.error = str::from_utf8(text).ok(),
                (b"message", Item::Text(text)) => self.message = str::from_utf8(text).ok(),
                (b"seq", _) => self.refuse("seq", item, &mut reader)?,
                (b"labels", _) => self.refuse("labels", item, &mut reader)?,
                _ => reader.skip_rest_of(item)?,
            }
        }
        reader.finish()?;
        Ok(())
    }

    fn label_slices(&mut self, count: Option<u64>, reader: &mut Reader<'a>) -> Result<(), FrameErrorKind> {
        let mut slices = Vec::new();
        let mut left = count;
        while left != Some(0) {
            left = left.map(|left| left - 1);
            let start = reader.position();
            match reader.item()? {
                Item::Break if count.is_none() => break,
                item => reader.skip_rest_of(item)?,
            }
            // What comes after the array is still read: the sequence number may be there.
            if slices.len() < MAX_LABELS {
                slices.push(reader.since(start));
            } else {
                self.too_many = true;
            }
        }
        self.labels = Some(slices);
        Ok(())
    }

    fn refuse(
        &mut self,
        field: &'static str,
        item: Item<'a>,
        reader: &mut Reader<'a>,
    ) -> Result<(), FrameErrorKind> {
        self.bad_field.get_or_insert(field);
        Ok(reader.skip_rest_of(item)?)
    }

    fn take(&mut self, header: Header<'a>) -> Result<Converted, FrameErrorKind> {
        let message = self.message.map(shown);
        if header.is_error {
            let error = shown(self.error.ok_or(FrameErrorKind::MissingField("error"))?);
            return Ok(Converted::new(FrameKind::Error { error, message }));
        }
        match labels_type(header.t) {
            "#labels" => {}
            "#info" => {
                let name = shown(self.name.unwrap_or_default());
                return Ok(Converted::new(FrameKind::Info { name, message }));
            }
            _ => return Ok(Converted::new(FrameKind::Other { t: shown(header.t) })),
        }
        if let Some(field) = self.bad_field {
            return Err(FrameErrorKind::BadField(field));
        }
        let seq = self.seq.ok_or(FrameErrorKind::MissingField("seq"))?;
        let labels = self.labels.take().ok_or(FrameErrorKind::MissingField("labels"))?;
        let mut converted = Converted { seq: Some(seq), counted: true, ..Converted::new(FrameKind::Labels) };
        converted.entries.reserve_exact(labels.len());
        let (mut scratch, mut text, mut bytes) = (Scratch::default(), String::new(), 0_usize);
        for label in labels {
            text.clear();
            match push_label_entry(&mut text, |out| scratch.write_label(label, out, MAX_TEXT_BYTES)) {
                Ok(()) => {
                    bytes = bytes.saturating_add(text.len());
                    converted.entries.push(text.as_str().into());
                }
                Err(error) => converted.reject(reason::BAD_LABEL, &error, None),
            }
            if self.too_many || bytes > MAX_ENTRY_BYTES {
                (converted.entries, converted.rejected) = (Vec::new(), Vec::new());
                converted.rejected_unlisted = 0;
                converted.reject(reason::TOO_LARGE, &TooLarge, None);
                break;
            }
        }
        converted.entries.shrink_to_fit();
        Ok(converted)
    }
}

#[cfg(test)]
#[path = "label_frame_tests.rs"]
mod tests;
