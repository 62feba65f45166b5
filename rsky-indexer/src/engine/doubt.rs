//! Which work Postgres may refuse for its lengths, or for a character: that is known before it is tried, and such work is
//! written by itself ([`crate::isolate`]). Found only by halving, a few of them in each batch would cost it a dozen
//! transactions each.
//!
//! A btree takes an entry of at most 2704 bytes, *after* compression, which nobody but Postgres can foresee: an at-uri of
//! 4000 bytes that repeats itself goes in. So what is long is not refused here, and not taken for good either.

use super::change::{Change, Work};
use crate::collections::Source;

/// Up to here no index of the AppView's is in danger: none has more than four columns of text, and 4 × 640 bytes with the
/// rest of an entry are below its bound.
pub(crate) const SAFE: usize = 640;

/// Names of members with text for people. No index holds their columns whole.
const PROSE: &[&str] = &["text", "description", "displayName", "name"];

/// Whether Postgres may refuse a value for its length, or for U+0000, which it cannot hold.
pub(crate) fn is_doubtful(value: &str) -> bool {
    value.len() > SAFE || value.as_bytes().contains(&0)
}

/// Whether Postgres may refuse a piece of work, read from this payload, for what it is called by, or for what it refers
/// to.
pub fn may_be_refused(payload: &str, work: &Work) -> bool {
    // Mostly a look at the payload is enough: whatever has neither a long text nor an escape has nothing long in it but a
    // uri, perhaps, that is put together from its parts.
    let is_short = has_only_short_texts(payload);
    if is_short && work.change.as_ref().is_none_or(|change| change.uri.len() <= SAFE) {
        return false;
    }
    let seen = work.seen.iter().flat_map(|seen| [&seen.did, &seen.commit, &seen.rev]);
    let account = work.account.iter().flat_map(|news| [&news.did, &news.time]);
    seen.chain(account).any(|value| is_doubtful(value)) || work.change.as_ref().is_some_and(of_change)
}

/// Whether a JSON text has neither an escape nor a text that is too long to be safe.
fn has_only_short_texts(json: &str) -> bool {
    let mut after = 0_usize;
    for at in memchr::memchr2_iter(b'"', b'\\', json.as_bytes()) {
        if at.saturating_sub(after) > SAFE || json.as_bytes().get(at) == Some(&b'\\') {
            return false;
        }
        after = at;
    }
    json.len().saturating_sub(after) <= SAFE
}

fn of_change(change: &Change) -> bool {
    let names = [&change.uri, &change.did, &change.rkey, &change.rev, &change.time];
    if names.into_iter().any(|value| is_doubtful(value)) {
        return true;
    }
    let Some(content) = change.content() else { return false };
    let quoted = content.parts.post().and_then(|parts| parts.record.as_ref());
    let mentions = content.parts.post().map_or(&[][..], |parts| &parts.mentions);
    if is_doubtful(&content.cid)
        || quoted.is_some_and(|quoted| is_doubtful(&quoted.uri) || is_doubtful(&quoted.cid))
        || mentions.iter().any(|did| is_doubtful(did))
    {
        return true;
    }
    let (Some(row), Some(table)) = (&content.row, change.collection.table) else { return false };
    let context = change.context(content);
    let mut columns = table.columns.iter().enumerate().filter(|(_, column)| names_something(column.source));
    columns.any(|(at, _)| row.value(at, &context).is_some_and(is_doubtful))
}

/// Whether a column's value may stand in an index as it is.
fn names_something(source: Source) -> bool {
    match source {
        Source::Text(path) => path.last().is_none_or(|member| !PROSE.contains(member)),
        Source::CreatedAtRaw | Source::CreatedAt => true,
        // Of the change itself, and looked at there.
        Source::Uri | Source::Cid | Source::Creator | Source::Rkey | Source::IndexedAt => false,
        Source::BlobCid(_) | Source::JsonText(_) | Source::Strings(_) | Source::Flag(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::{Intake, read};

    fn entry(did: &str, rkey: &str, collection: &str, record: &str) -> bool {
        let payload = format!(
            r#"{{"type":"create","record":{record},"cid":"c","seq":5,"time":"t","did":"{did}","commit":"k","rev":"r","collection":"{collection}","rkey":"{rkey}"}}"#
        );
        let Intake::Work(work) = read(&payload) else { panic!("{payload}") };
        work.is_doubtful
    }

    #[test]
    fn long_names_and_references_are_doubtful_and_long_texts_are_not() {
        let long = "x".repeat(SAFE);
        let like = |subject: &str| {
            let cid = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq";
            format!(
                r#"{{"$type":"app.bsky.feed.like","subject":{{"uri":"at://did:plc:s/{subject}","cid":"{cid}"}},"createdAt":"2024-01-01T00:00:00.000Z"}}"#
            )
        };
        let text = "\u{1f600}".repeat(250);
        let post = format!(
            r#"{{"$type":"app.bsky.feed.post","text":"{text}","createdAt":"2024-01-01T00:00:00.000Z"}}"#
        );
        let (likes, posts) = ("app.bsky.feed.like", "app.bsky.feed.post");
        assert!(!entry("did:plc:a", "r", likes, &like("app.bsky.feed.post/1")));
        assert!(entry("did:plc:a", "r", likes, &like(&format!("app.bsky.feed.post/{long}"))));
        assert!(entry("did:plc:a", &long, likes, &like("app.bsky.feed.post/1")));
        assert!(entry(&format!("did:web:{long}"), "r", likes, &like("app.bsky.feed.post/1")));
        assert!(entry("did:plc:a", "r\\u0000", likes, &like("app.bsky.feed.post/1")));
        assert!(text.len() > SAFE && !entry("did:plc:a", "r", posts, &post));
    }
}
