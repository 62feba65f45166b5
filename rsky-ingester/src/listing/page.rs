//! One page of `listRepos`, checked.

use std::fmt;

use rsky_common::atproto::syntax::is_did;
use rsky_common::atproto::tid::is_tid;
use rsky_common::redis::DeadLetter;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::source::Source;

/// Reason of repositories that are listed in a way that cannot be used.
pub(super) const INVALID: &str = "invalid_repo";
/// Reason of a repository the host cannot list.
pub(super) const UNREADABLE: &str = "unlistable_repo";

/// Most items of a page; ten times what is asked for at most. A page of millions of bytes that are no repositories would
/// make as many dead letters.
const MOST_ITEMS: usize = 10_000;
/// Longest cursor, in bytes: it must fit into an address.
const MOST_CURSOR: usize = 4096;
/// Longest status, in bytes. Known ones have at most fourteen.
const MOST_STATUS: usize = 256;

/// A page: what is usable, and what is not.
#[derive(Debug, Default)]
pub struct Page {
    /// In the host's order.
    pub repos: Vec<Repo>,
    /// Items that are not valid, with why.
    pub invalid: Vec<(String, String)>,
    /// Cursors after which a single repository could not be listed.
    pub passed_over: Vec<String>,
    /// Where the next page begins; `None`: this is the last.
    pub cursor: Option<String>,
}

/// A listed repository.
#[derive(Debug, PartialEq, Eq)]
pub struct Repo {
    pub did: String,
    /// Empty where the host gives none that is a TID: then nothing tells whether it was queued before.
    pub rev: String,
    pub status: Option<String>,
    pub active: Option<bool>,
}

#[derive(Deserialize)]
struct Answer<'a> {
    cursor: Option<String>,
    #[serde(borrow)]
    repos: Items<'a>,
}

/// The items of a page, not yet looked at. More than [`MOST_ITEMS`] are refused before they take memory.
struct Items<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemsVisitor;

        impl<'de> Visitor<'de> for ItemsVisitor {
            type Value = Vec<&'de RawValue>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "at most {MOST_ITEMS} repositories")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut read = Vec::new();
                while let Some(item) = items.next_element()? {
                    if read.len() >= MOST_ITEMS {
                        return Err(A::Error::invalid_length(read.len().saturating_add(1), &self));
                    }
                    read.push(item);
                }
                Ok(read)
            }
        }

        deserializer.deserialize_seq(ItemsVisitor).map(Self)
    }
}

#[derive(Deserialize)]
struct Item {
    did: String,
    #[serde(default)]
    rev: Option<String>,
    status: Option<String>,
    active: Option<bool>,
}

impl Page {
    /// Reads the answer of a host. A single bad item does not spoil the others, as it does in the reference.
    ///
    /// # Errors
    /// The answer is no page at all.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let answer: Answer<'_> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        if answer.cursor.as_ref().is_some_and(|cursor| cursor.len() > MOST_CURSOR) {
            return Err(format!("a cursor of more than {MOST_CURSOR} bytes"));
        }
        let mut page = Self { cursor: answer.cursor.filter(|cursor| !cursor.is_empty()), ..Self::default() };
        for raw in answer.repos.0 {
            match Repo::parse(raw.get()) {
                Ok(repo) => page.repos.push(repo),
                Err(why) => page.invalid.push((raw.get().to_owned(), why)),
            }
        }
        Ok(page)
    }

    /// The dead letters for what is not usable.
    pub(super) fn letters(&self, source: &Source) -> Vec<DeadLetter> {
        let host = source.host.configured();
        let invalid =
            self.invalid.iter().map(|(json, why)| DeadLetter::new(source.field(), json, INVALID, why, host));
        let unreadable = self.passed_over.iter().map(|cursor| {
            let why = format!("the host cannot list the repository after cursor {cursor}");
            DeadLetter::new(source.field(), "", UNREADABLE, &why, &format!("{host}@after {cursor}"))
        });
        invalid.chain(unreadable).collect()
    }
}

impl Repo {
    fn parse(json: &str) -> Result<Self, String> {
        let item: Item = serde_json::from_str(json).map_err(|error| error.to_string())?;
        if !is_did(&item.did) {
            return Err("did is no DID".to_owned());
        }
        if item.status.as_ref().is_some_and(|status| status.len() > MOST_STATUS) {
            return Err(format!("status has more than {MOST_STATUS} bytes"));
        }
        // What nobody needs is no reason to leave an account out: hosts list some with empty heads and revisions.
        let rev = item.rev.filter(|rev| is_tid(rev)).unwrap_or_default();
        Ok(Self { did: item.did, rev, status: item.status, active: item.active })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        r#"{"did":"did:plc:abc","head":"bafyreiaaaa","rev":"3jzfcijpj2z2a","active":true,"more":1}"#;

    #[test]
    fn a_bad_item_does_not_spoil_the_others() {
        let body =
            format!(r#"{{"cursor":"20","repos":[{GOOD},{{"did":1}},{}]}}"#, GOOD.replace("abc", "def"));
        let page = Page::parse(body.as_bytes()).unwrap();
        assert_eq!(
            page.repos.iter().map(|repo| repo.did.as_str()).collect::<Vec<_>>(),
            ["did:plc:abc", "did:plc:def"]
        );
        assert_eq!((page.invalid.len(), page.cursor.as_deref()), (1, Some("20")));
    }

    #[test]
    fn the_did_is_checked_and_a_revision_that_is_none_is_unknown() {
        assert_eq!(Repo::parse(GOOD).unwrap().rev, "3jzfcijpj2z2a");
        assert!(Repo::parse(&GOOD.replace("did:plc:abc", "did:plc:")).is_err());
        for (from, to) in [
            ("\"3jzfcijpj2z2a\"", "\"\""),
            ("\"3jzfcijpj2z2a\"", "null"),
            ("3jzfcijpj2z2a", "z2jzfcijpj2z2"),
            ("bafyreiaaaa\",\"rev\":\"3jzfcijpj2z2a", "\",\"rev\":\""),
            ("\"head\":\"bafyreiaaaa\",\"rev\":\"3jzfcijpj2z2a\",", ""),
        ] {
            assert_eq!(Repo::parse(&GOOD.replace(from, to)).unwrap().rev, "", "{to}");
        }
    }

    #[test]
    fn what_goes_into_an_entry_is_bounded() {
        let with_status = |status: &str| GOOD.replace("\"more\":1", &format!("\"status\":\"{status}\""));
        assert!(Repo::parse(&with_status(&"s".repeat(256))).is_ok());
        assert!(Repo::parse(&with_status(&"s".repeat(257))).is_err());
        assert!(Repo::parse(&GOOD.replace("did:plc:abc", &format!("did:plc:{}", "a".repeat(2041)))).is_err());
    }

    #[test]
    fn a_page_of_far_more_than_was_asked_for_is_none() {
        let of =
            |count: usize| Page::parse(format!("{{\"repos\":[{}]}}", vec!["1"; count].join(",")).as_bytes());
        assert_eq!(of(10_000).unwrap().invalid.len(), 10_000);
        let error = of(10_001).unwrap_err();
        assert!(error.contains("at most 10000 repositories"), "{error}");
        let cursor = |length: usize| {
            Page::parse(format!("{{\"repos\":[],\"cursor\":\"{}\"}}", "1".repeat(length)).as_bytes())
        };
        assert!(cursor(4096).is_ok() && cursor(4097).is_err());
    }

    #[test]
    fn hostile_pages_take_a_small_multiple_of_their_bytes() {
        let of = |items: String| format!("{{\"repos\":[{items}]}}");
        let many = |item: &str| vec![item; (8 << 20) / (item.len() + 1)].join(",");
        let long = |item: &str| vec![item.replace('?', &"x".repeat(800)); 10_000].join(",");
        let cursor = format!("{{\"repos\":[],\"cursor\":\"{}\"}}", "1".repeat(8 << 20));
        for body in [
            of(many("1")),
            of(many("{}")),
            of(long("\"?\"")),
            of(long("{\"did\":\"?\"}")),
            of(long(&GOOD.replace("\"more\":1", "\"more\":\"?\""))),
            of(format!("\"{}\"", "\\u0001".repeat(8 << 17))),
            of(format!("{}1{}", "[".repeat(100), "]".repeat(100))),
            of("[".repeat(8 << 20)),
            cursor,
        ] {
            let mut read = None;
            let info = allocation_counter::measure(|| read = Some(Page::parse(body.as_bytes())));
            assert!(info.bytes_max <= 4 * body.len() as u64 + (1 << 20), "{}", info.bytes_max);
        }
    }

    #[test]
    fn an_empty_cursor_is_none_and_no_page_is_an_error() {
        assert_eq!(Page::parse(br#"{"repos":[],"cursor":""}"#).unwrap().cursor, None);
        assert!(Page::parse(b"<html>").is_err());
        assert!(Page::parse(br#"{"error":"x"}"#).is_err());
    }
}
