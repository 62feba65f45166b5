//! The members of one map that was written to the output: putting them in the order JavaScript would list them in, and
//! recognising blobs. Works on spans of the text already written, so that no value is decoded twice.

use std::borrow::Cow;

/// What is remembered of a written value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Link,
    Other,
}

/// One written member: `"key":value` at `start..end` of the output.
#[derive(Debug)]
pub(super) struct Member<'a> {
    pub(super) key: Cow<'a, str>,
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) kind: Kind,
}

impl Member<'_> {
    /// The text of the value.
    fn value<'o>(&self, out: &'o str) -> &'o str {
        // Only asked of keys that need no escaping: quote, key, quote, colon.
        out.get(self.start + self.key.len() + 3..self.end).unwrap_or_default()
    }
}

/// Whether `next` after `previous` is the order of canonical DAG-CBOR (shorter first, then bytewise), which also means
/// that it is no duplicate.
pub(super) fn in_canonical_order(previous: &str, next: &str) -> bool {
    (previous.len(), previous.as_bytes()) < (next.len(), next.as_bytes())
}

/// Keys that JavaScript objects treat in their own way.
pub(super) fn is_special_key(key: &str) -> bool {
    key == "__proto__" || array_index(key).is_some()
}

/// The value of a key that is a canonical array index (0 to 2^32 - 2).
fn array_index(key: &str) -> Option<u32> {
    let first = *key.as_bytes().first()?;
    if !first.is_ascii_digit() || (first == b'0' && key.len() > 1) || key.len() > 10 {
        return None;
    }
    key.parse().ok().filter(|index| *index != u32::MAX)
}

/// The members as a JavaScript object built from them in turn would list them: a later duplicate replaces the value in
/// the place of the first, array indices come first in ascending order, `__proto__` is lost.
pub(super) fn javascript_order<'m, 'a>(members: &'m [Member<'a>]) -> Vec<&'m Member<'a>> {
    let mut by_key: Vec<(usize, &Member<'a>)> = members.iter().enumerate().collect();
    by_key.sort_by(|(at, left), (other, right)| left.key.cmp(&right.key).then(at.cmp(other)));
    let mut distinct: Vec<(usize, &Member<'a>)> = Vec::with_capacity(members.len());
    for (at, member) in by_key {
        match distinct.last_mut() {
            Some((_, previous)) if previous.key == member.key => *previous = member,
            _ => distinct.push((at, member)),
        }
    }
    distinct.retain(|(_, member)| member.key != "__proto__");
    distinct.sort_by_key(|(at, member)| match array_index(&member.key) {
        Some(index) => (0, usize::try_from(index).unwrap_or(usize::MAX)),
        None => (1, *at),
    });
    distinct.into_iter().map(|(_, member)| member).collect()
}

/// A typed blob in the order the reference always writes it in: exactly `$type` "blob", `ref` a link, `mimeType` text,
/// `size` a number (PIPELINE 3.6).
pub(super) fn typed_blob<'m, 'a>(members: [&'m Member<'a>; 4], out: &str) -> Option<[&'m Member<'a>; 4]> {
    let find =
        |key: &str, kind: Kind| members.into_iter().find(|member| member.key == key && member.kind == kind);
    let tag = find("$type", Kind::Text).filter(|member| member.value(out) == "\"blob\"")?;
    Some([tag, find("ref", Kind::Link)?, find("mimeType", Kind::Text)?, find("size", Kind::Number)?])
}

/// The `cid` of a legacy blob: an object of exactly `cid` and `mimeType`, both text (PIPELINE 3.6).
pub(super) fn legacy_blob_cid<'o>(members: [&Member<'_>; 2], out: &'o str) -> Option<&'o str> {
    let find = |key: &str| members.into_iter().find(|member| member.key == key && member.kind == Kind::Text);
    find("mimeType")?;
    // A CID has no character that JSON escapes, so the raw text between the quotes decides.
    find("cid")?.value(out).strip_prefix('"')?.strip_suffix('"')
}

/// Replaces the object that starts at `start` and ends the output by one of `members`, in that order.
pub(super) fn rewrite(out: &mut String, start: usize, members: &[&Member<'_>]) {
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
            assert!(is_special_key(key), "{key}");
        }
        for key in
            ["", "00", "01", "-1", "+1", "1.0", "1e3", "4294967295", "4294967296", "99999999999", "a", "١"]
        {
            assert!(!is_special_key(key), "{key}");
        }
    }

    #[test]
    fn canonical_order_is_by_length_then_bytes() {
        assert!(in_canonical_order("b", "aa"));
        assert!(in_canonical_order("a", "b"));
        assert!(!in_canonical_order("a", "a"));
        assert!(!in_canonical_order("aa", "b"));
    }
}
