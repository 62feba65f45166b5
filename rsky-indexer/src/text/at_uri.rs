//! The two readings of an at-uri: the strict one of the record validator and the loose one of the index.

use std::fmt;

use rsky_common::atproto::syntax::{is_did, is_handle, is_js_space, is_nsid};

/// Whether the lexicon format `at-uri` accepts `text` (VALIDATION 4.2). The record key is not looked at.
pub fn is_valid_at_uri(text: &str) -> bool {
    let (body, fragment) = match text.split_once('#') {
        Some((body, fragment)) => (body, Some(fragment)),
        None => (text, None),
    };
    // The limit of 8192 is on what stands before the fragment.
    if body.len() > 8192 || !body.bytes().all(is_uri_char) || !fragment.is_none_or(is_fragment) {
        return false;
    }
    let Some(rest) = body.strip_prefix("at://") else { return false };
    let mut segments = rest.split('/');
    let authority = segments.next().unwrap_or_default();
    let authority_is_valid =
        if authority.starts_with("did:") { is_did(authority) } else { is_handle(authority) };
    authority_is_valid
        && segments.next().is_none_or(is_nsid)
        && segments.next().is_none_or(|rkey| !rkey.is_empty())
        && segments.next().is_none()
}

fn is_uri_char(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"._~:@!$&')(*+,;=%/-".contains(&b)
}

fn is_fragment(fragment: &str) -> bool {
    fragment.starts_with('/') && fragment.bytes().all(|b| is_uri_char(b) || b == b'[' || b == b']')
}

/// An at-uri as the index takes it apart (VALIDATION 4.3).
///
/// Looser than [`is_valid_at_uri`], and not a superset of it: an authority with characters that this reading does not
/// know (`did:web:exa_mple.com`) makes it take `at:` for the host and the rest for the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtUri<'a> {
    host: &'a str,
    path: &'a str,
    query: &'a str,
    fragment: &'a str,
}

impl<'a> AtUri<'a> {
    /// `None` where the reference throws.
    pub fn parse(text: &'a str) -> Option<Self> {
        let scheme =
            text.as_bytes().first_chunk::<5>().is_some_and(|start| start.eq_ignore_ascii_case(b"at://"));
        scheme
            .then(|| text.get(5..))
            .flatten()
            .and_then(Self::parse_schemeless)
            .or_else(|| Self::parse_schemeless(text))
    }

    fn parse_schemeless(text: &'a str) -> Option<Self> {
        let (host, rest) = text.split_at_checked(authority_len(text)?)?;
        if !rest.is_empty() && !rest.starts_with(['/', '?', '#']) || rest.contains(is_js_space) {
            return None;
        }
        let (rest, fragment) = rest.split_at_checked(rest.find('#').unwrap_or(rest.len()))?;
        let (path, query) = rest.split_at_checked(rest.find('?').unwrap_or(rest.len()))?;
        (query.len() != 1 && fragment.len() != 1).then_some(AtUri { host, path, query, fragment })
    }

    /// The uri as the reference writes it: with a path in any case.
    pub fn normalized(&self) -> String {
        let path = if self.path.is_empty() { "/" } else { self.path };
        let slash = if path.starts_with('/') { "" } else { "/" };
        ["at://", self.host, slash, path, self.query, self.fragment].concat()
    }

    /// The DID or handle; `at:` for an authority that could not be read.
    pub fn host(&self) -> &'a str {
        self.host
    }

    /// The first non-empty path segment, or an empty string.
    pub fn collection(&self) -> &'a str {
        self.segment(0)
    }

    /// The second non-empty path segment, or an empty string.
    pub fn rkey(&self) -> &'a str {
        self.segment(1)
    }

    fn segment(&self, n: usize) -> &'a str {
        self.path.split('/').filter(|segment| !segment.is_empty()).nth(n).unwrap_or_default()
    }
}

/// Always `at://host/path?query#fragment`, the path at least `/`. A query is given back as it was written (the
/// reference would escape it anew; no validated at-uri has one).
impl fmt::Display for AtUri<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "/" } else { self.path };
        write!(f, "at://{}{path}{}{}", self.host, self.query, self.fragment)
    }
}

/// The length of the authority at the start of `text`: `did:` + `[a-z0-9:%-]+`, or `[a-z0-9][a-z0-9.:-]*`, in any case,
/// whichever is followed by the end or a delimiter.
fn authority_len(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let run = |extra: &[u8]| {
        bytes.iter().position(|b| !b.is_ascii_alphanumeric() && !extra.contains(b)).unwrap_or(bytes.len())
    };
    let is_did = bytes.first_chunk::<4>().is_some_and(|start| start.eq_ignore_ascii_case(b"did:"));
    let as_did = run(b":%-");
    let ends = |len: usize| matches!(bytes.get(len), None | Some(b'/' | b'?' | b'#'));
    if is_did && as_did > 4 && ends(as_did) {
        return Some(as_did);
    }
    let as_name = run(b".:-");
    (bytes.first().is_some_and(u8::is_ascii_alphanumeric) && ends(as_name)).then_some(as_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_validator_accepts() {
        for good in [
            "at://did:plc:abc",
            "at://did:plc:abc#/",
            "at://did:plc:abc#/a[0]",
            "at://a.b/app.bsky.feed.post",
            "at://did:web:exa_mple.com/app.bsky.feed.post/x",
            "at://did:plc:abc/app.bsky.feed.post/..",
            "at://did:plc:abc/app.bsky.feed.post/$%&",
        ] {
            assert!(is_valid_at_uri(good), "{good}");
        }
    }

    #[test]
    fn what_the_validator_refuses() {
        for bad in [
            "",
            "at://",
            "at:/did:plc:abc",
            "AT://did:plc:abc",
            "did:plc:abc",
            "at://did:plc:abc/",
            "at://did:plc:abc/app.bsky.feed.post/",
            "at://did:plc:abc/app.bsky.feed.post/x/",
            "at://did:plc:abc/app.bsky.feed.post/x/y",
            "at://did:plc:abc/app.bsky.feed.post/x?q=1",
            "at://did:plc:abc/notnsid/x",
            "at://nodot/app.bsky.feed.post/x",
            "at://did:plc:abc#",
            "at://did:plc:abc#x",
            "at://did:plc:abc#/a#/b",
            "at://did:plc:abc#/a b",
            "at://did:plc:abc/app.bsky.feed.post/é",
        ] {
            assert!(!is_valid_at_uri(bad), "{bad}");
        }
        let stem = "at://did:plc:abc/app.bsky.feed.post/";
        let longest = format!("{stem}{}", "x".repeat(8192 - stem.len()));
        assert!(is_valid_at_uri(&format!("{longest}#/fragment")));
        assert!(!is_valid_at_uri(&format!("{longest}x")));
    }

    #[test]
    fn parts_and_normal_form() {
        for (text, host, collection, rkey, normal) in [
            ("at://did:plc:abc", "did:plc:abc", "", "", "at://did:plc:abc/"),
            ("at://did:plc:abc/a.b.c/d", "did:plc:abc", "a.b.c", "d", "at://did:plc:abc/a.b.c/d"),
            ("AT://DID:PLC:abc//a/b/c", "DID:PLC:abc", "a", "b", "at://DID:PLC:abc//a/b/c"),
            ("alice.test/x", "alice.test", "x", "", "at://alice.test/x"),
            ("at://did:web:a.com/x/y#/f", "did:web:a.com", "x", "y", "at://did:web:a.com/x/y#/f"),
            ("at://did:web:a%3A1/x", "did:web:a%3A1", "x", "", "at://did:web:a%3A1/x"),
            ("at://did:plc:abc?q=1#f", "did:plc:abc", "", "", "at://did:plc:abc/?q=1#f"),
            (
                "at://did:web:exa_mple.com/a.b.c/d",
                "at:",
                "did:web:exa_mple.com",
                "a.b.c",
                "at://at://did:web:exa_mple.com/a.b.c/d",
            ),
        ] {
            let uri = AtUri::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((uri.host(), uri.collection(), uri.rkey()), (host, collection, rkey), "{text}");
            assert_eq!(uri.to_string(), normal, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_taken_apart() {
        for text in
            ["", "/a/b", "at://did:plc:abc/a b", "at://did:plc:abc?", "at://did:plc:abc#", "_x", "é.com"]
        {
            assert_eq!(AtUri::parse(text), None, "{text}");
        }
    }
}
