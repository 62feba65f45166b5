//! One frame of a labeler becomes one stream entry per label (PIPELINE 3.4 and 5).

use super::commit_entries::{Converted, undecodable};
use super::frame::{FrameError, FrameErrorKind};
use super::frame_parts::{Fields, Header, short_type, split};
use super::reject::{FrameKind, reason};
use crate::cbor::{Item, Reader, write_label_json};
use crate::wire::push_label_entry;

const SUBSCRIBE_LABELS: &str = "com.atproto.label.subscribeLabels";

/// Converts one frame of `com.atproto.label.subscribeLabels`. Only `#labels` moves the cursor. A label that is no map,
/// or that JSON cannot hold, is rejected alone.
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
}

impl<'a> Body<'a> {
    fn read(&mut self, mut reader: Reader<'a>) -> Result<(), FrameErrorKind> {
        let Item::Map(pairs) = reader.item_past_tags()? else { return Err(FrameErrorKind::BodyNotAMap) };
        let mut fields = Fields::new(pairs);
        while let Some(key) = fields.next(&mut reader)? {
            let item = reader.item_past_tags()?;
            match (key, item) {
                (b"seq", Item::Uint(seq)) if i64::try_from(seq).is_ok() => self.seq = i64::try_from(seq).ok(),
                (b"labels", Item::Array(count)) => self.labels = Some(label_slices(count, &mut reader)?),
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
        let message = self.message.map(str::to_owned);
        if header.is_error {
            let error = self.error.ok_or(FrameErrorKind::MissingField("error"))?.to_owned();
            return Ok(Converted::new(FrameKind::Error { error, message }));
        }
        match labels_type(header.t) {
            "#labels" => {}
            "#info" => {
                let name = self.name.unwrap_or_default().to_owned();
                return Ok(Converted::new(FrameKind::Info { name, message }));
            }
            _ => return Ok(Converted::new(FrameKind::Other { t: header.t.to_owned() })),
        }
        if let Some(field) = self.bad_field {
            return Err(FrameErrorKind::BadField(field));
        }
        let seq = self.seq.ok_or(FrameErrorKind::MissingField("seq"))?;
        let labels = self.labels.take().ok_or(FrameErrorKind::MissingField("labels"))?;
        let mut converted = Converted { seq: Some(seq), counted: true, ..Converted::new(FrameKind::Labels) };
        for label in labels {
            let mut entry = String::with_capacity(64 + label.len() * 3 / 2);
            match push_label_entry(&mut entry, |out| write_label_json(label, out)) {
                Ok(()) => converted.entries.push(entry),
                Err(error) => converted.reject(reason::BAD_LABEL, &error, None),
            }
        }
        Ok(converted)
    }
}

fn label_slices<'a>(count: Option<u64>, reader: &mut Reader<'a>) -> Result<Vec<&'a [u8]>, FrameErrorKind> {
    let mut slices = Vec::new();
    let mut left = count;
    while left != Some(0) {
        left = left.map(|left| left - 1);
        let start = reader.position();
        match reader.item()? {
            Item::Break if count.is_none() => break,
            item => reader.skip_rest_of(item)?,
        }
        slices.push(reader.since(start));
    }
    Ok(slices)
}

#[cfg(test)]
#[path = "label_frame_tests.rs"]
mod tests;
