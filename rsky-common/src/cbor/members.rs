//! The members of one map that was written to the output: refusing equal keys, putting members in the order JavaScript
//! would list them in, and recognising blobs. Works on spans of the text already written, so that no value is decoded
//! twice and nothing is copied to compare it.

use super::error::RecordError;

/// Members of all maps that are open at a time. Lexicons have no maps of free keys, and the largest records known have
/// some hundreds of members; what is remembered of a member takes [`Member`]'s size, so this many take 2 MiB.
pub(super) const MAX_MEMBERS: usize = 1 << 16;

/// [`Member::rank`] of keys that stay in their place.
const NO_INDEX: u32 = u32::MAX;

/// What is remembered of a written value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Link,
    Other,
}

/// One written member: `"key":` at `start..value` of the output, its value at `value..end`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub(super) start: usize,
    pub(super) value: usize,
    pub(super) end: usize,
    /// The key as array index, or [`NO_INDEX`].
    rank: u32,
    pub(super) kind: Kind,
}

impl Member {
    /// A member whose key and value were just written.
    pub(super) fn new(key: &str, start: usize, value: usize, end: usize, kind: Kind) -> Self {
        Self { start, value, end, rank: array_index(key).unwrap_or(NO_INDEX), kind }
    }

    /// The key as it stands in the output: quotes, escapes, colon. Equal for equal keys only.
    fn key<'o>(&self, out: &'o str) -> &'o str {
        out.get(self.start..self.value).unwrap_or_default()
    }

    /// Whether the key is `name`, which needs no escaping.
    fn is(&self, name: &str, out: &str) -> bool {
        self.key(out).strip_prefix('"').and_then(|key| key.strip_suffix("\":")) == Some(name)
    }

    fn text<'o>(&self, out: &'o str) -> &'o str {
        out.get(self.value..self.end).unwrap_or_default()
    }
}

/// What the keys of a map have shown while they were read.
#[derive(Debug, Default)]
pub(super) struct Keys<'a> {
    previous: Option<&'a [u8]>,
    /// They do not ascend in the order of canonical DAG-CBOR, so equal ones need not be neighbours.
    unordered: bool,
    /// There is an array index among them.
    indexed: bool,
    lost: bool,
}

impl<'a> Keys<'a> {
    /// Takes note of the next key, given as it is in the block and as text; `false`: JavaScript loses it with its value.
    ///
    /// # Errors
    /// [`RecordError::DuplicateKey`], as far as it shows yet.
    pub(super) fn see(&mut self, raw: &'a [u8], text: &str) -> Result<bool, RecordError> {
        let ascends = self.previous.is_none_or(|previous| in_canonical_order(previous, raw));
        // Different bytes that are no UTF-8 may become the same text.
        self.unordered |= !ascends || raw != text.as_bytes();
        if self.previous == Some(raw) {
            return Err(RecordError::DuplicateKey);
        }
        self.previous = Some(raw);
        if text == "__proto__" {
            if std::mem::replace(&mut self.lost, true) {
                return Err(RecordError::DuplicateKey);
            }
            return Ok(false);
        }
        self.indexed |= array_index(text).is_some();
        Ok(true)
    }

    /// Puts the members of the finished map into the order in which JavaScript lists them: array indices first,
    /// ascending, the others as they came. `true`: that is another order than the one they are written in.
    ///
    /// # Errors
    /// [`RecordError::DuplicateKey`].
    pub(super) fn arrange(&self, members: &mut [Member], out: &str) -> Result<bool, RecordError> {
        if self.unordered {
            members.sort_unstable_by(|left, right| left.key(out).cmp(right.key(out)));
            let is_twice = |pair: &[Member]| matches!(pair, [one, other] if one.key(out) == other.key(out));
            if members.windows(2).any(is_twice) {
                return Err(RecordError::DuplicateKey);
            }
        }
        if self.unordered || self.indexed {
            members.sort_unstable_by_key(|member| (member.rank, member.start));
        }
        Ok(self.indexed && !members.is_sorted_by_key(|member| member.start))
    }
}

/// Whether `next` after `previous` is the order of canonical DAG-CBOR (shorter first, then bytewise), which also means
/// that it is no duplicate.
fn in_canonical_order(previous: &[u8], next: &[u8]) -> bool {
    (previous.len(), previous) < (next.len(), next)
}

/// The value of a key that is a canonical array index (0 to 2^32 - 2).
fn array_index(key: &str) -> Option<u32> {
    let first = *key.as_bytes().first()?;
    if !first.is_ascii_digit() || (first == b'0' && key.len() > 1) || key.len() > 10 {
        return None;
    }
    key.parse().ok().filter(|index| *index != NO_INDEX)
}

/// A typed blob in the order the reference always writes it in: exactly `$type` "blob", `ref` a link, `mimeType` text,
/// `size` a number (PIPELINE 3.6).
pub(super) fn typed_blob(members: [Member; 4], out: &str) -> Option<[Member; 4]> {
    let find = |name: &str, kind: Kind| {
        members.into_iter().find(|member| member.kind == kind && member.is(name, out))
    };
    let tag = find("$type", Kind::Text).filter(|member| member.text(out) == "\"blob\"")?;
    Some([tag, find("ref", Kind::Link)?, find("mimeType", Kind::Text)?, find("size", Kind::Number)?])
}

/// The `cid` of a legacy blob: an object of exactly `cid` and `mimeType`, both text (PIPELINE 3.6).
pub(super) fn legacy_blob_cid(members: [Member; 2], out: &str) -> Option<&str> {
    let find =
        |name: &str| members.into_iter().find(|member| member.kind == Kind::Text && member.is(name, out));
    find("mimeType")?;
    // A CID has no character that JSON escapes, so the raw text between the quotes decides.
    find("cid")?.text(out).strip_prefix('"')?.strip_suffix('"')
}

/// Replaces the object that starts at `start` and ends the output by one of `members`, in that order.
pub(super) fn rewrite(out: &mut String, start: usize, members: &[Member]) {
    let end = out.len();
    out.push('{');
    for (at, member) in members.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.extend_from_within(member.start..member.end);
    }
    out.push('}');
    out.drain(start..end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_array_indices_are_special() {
        for key in ["0", "7", "17", "4294967294"] {
            assert!(array_index(key).is_some(), "{key}");
        }
        for key in
            ["", "00", "01", "-1", "+1", "1.0", "1e3", "4294967295", "4294967296", "99999999999", "a", "١"]
        {
            assert!(array_index(key).is_none(), "{key}");
        }
    }

    #[test]
    fn canonical_order_is_by_length_then_bytes() {
        assert!(in_canonical_order(b"b", b"aa"));
        assert!(in_canonical_order(b"a", b"b"));
        assert!(!in_canonical_order(b"a", b"a"));
        assert!(!in_canonical_order(b"aa", b"b"));
    }

    #[test]
    fn what_is_remembered_of_a_member_is_small() {
        assert!(MAX_MEMBERS * size_of::<Member>() <= 2 << 20);
    }
}
