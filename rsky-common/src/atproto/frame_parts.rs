//! What frames of both subscriptions have in common: the header, and maps read field by field.

use super::frame_message::FrameErrorKind;
use crate::cbor::{CborError, Item, Mode, Reader};

const SUBSCRIBE_REPOS: &str = "com.atproto.sync.subscribeRepos";

/// What a frame says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header<'a> {
    /// Whether it is an error frame.
    pub(super) is_error: bool,
    /// `t` of the header, empty if absent.
    pub(super) t: &'a str,
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

/// Most bytes of a text that is only for people.
const SHOWN: usize = 1000;

/// A text for people, cut: it goes into logs and pages, and may be as long as a frame.
pub(super) fn shown(text: &str) -> String {
    text.get(..text.floor_char_boundary(SHOWN)).unwrap_or_default().to_owned()
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
