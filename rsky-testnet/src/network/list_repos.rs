//! `com.atproto.sync.listRepos`: recorded pages, cut smaller on request, with the recorded cursors where they fit.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::ensure;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::control::{lock, remember};

/// Repositories on a page of a recorded relay.
pub const PAGE_SIZE: usize = 20;
/// Milliseconds in made-up cursors where no recorded one comes before them.
const FIRST_MILLIS: u64 = 1_795_478_350_000;

/// One page of an answer of listRepos.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct RepoPage {
    /// Where the next page begins, as the relay said it; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// `did`, `head`, `rev`, and where given `active` and `status`.
    pub repos: Vec<Value>,
}

impl RepoPage {
    /// Pages of `size` with made-up cursors.
    pub fn split(repos: Vec<Value>, size: usize) -> Vec<Self> {
        repos.chunks(size.max(1)).map(|repos| Self { cursor: None, repos: repos.to_vec() }).collect()
    }
}

/// How long a page fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Until [`ListRepos::heal`].
    Always,
    /// This many times.
    Times(u32),
}

/// The listing of a running network; clones are the same listing.
#[derive(Clone)]
pub struct ListRepos(Arc<Shared>);

struct Shared {
    repos: Vec<Value>,
    /// Positions where a page ends, with the recorded cursor.
    borders: BTreeMap<usize, Option<String>>,
    page_size: usize,
    numeric: AtomicBool,
    failures: Mutex<Vec<(usize, Failure)>>,
    queries: Mutex<VecDeque<String>>,
}

/// An error of listRepos: status, error name, message.
pub(super) type Rejected = (u16, &'static str, &'static str);

impl ListRepos {
    pub(super) fn new(pages: Vec<RepoPage>, page_size: usize) -> anyhow::Result<Self> {
        ensure!(page_size > 0, "a page of no repositories");
        let mut repos = Vec::new();
        let mut borders = BTreeMap::new();
        for page in pages {
            // An empty page ends where the one before it does and adds nothing.
            if !page.repos.is_empty() {
                repos.extend(page.repos);
                borders.insert(repos.len(), page.cursor);
            }
        }
        Ok(Self(Arc::new(Shared {
            repos,
            borders,
            page_size,
            numeric: AtomicBool::new(false),
            failures: Mutex::default(),
            queries: Mutex::default(),
        })))
    }

    /// Switches between opaque cursors (the default) and numbers, which are positions. A relay of one kind refuses the
    /// cursors of the other.
    pub fn numeric_cursors(&self, numeric: bool) {
        self.0.numeric.store(numeric, Ordering::SeqCst);
    }

    /// Answers 500 for every page that holds the repository at `index` (0 is the first).
    pub fn fail_at(&self, index: usize, failure: Failure) {
        lock(&self.0.failures).push((index, failure));
    }

    /// Ends all failures.
    pub fn heal(&self) {
        lock(&self.0.failures).clear();
    }

    /// The query string of every request, oldest first; the last 10 000.
    pub fn queries(&self) -> Vec<String> {
        lock(&self.0.queries).iter().cloned().collect()
    }

    /// Repositories listed in all.
    pub fn len(&self) -> usize {
        self.0.repos.len()
    }

    /// Whether no repository is listed.
    pub fn is_empty(&self) -> bool {
        self.0.repos.is_empty()
    }

    /// The DID of every repository listed, in order.
    pub fn dids(&self) -> Vec<String> {
        (0..self.len()).map(|index| self.did(index).to_owned()).collect()
    }

    pub(super) fn note(&self, query: &str) {
        remember(&self.0.queries, query);
    }

    /// The page after `cursor`.
    pub(super) fn page(&self, cursor: Option<&str>, limit: usize) -> Result<RepoPage, Rejected> {
        let start = self.begins_at(cursor).ok_or((400, "InvalidRequest", "Malformed cursor"))?;
        let border = self.0.borders.range(start + 1..).next().map_or(self.len(), |(border, _)| *border);
        let end = start.saturating_add(limit.min(self.0.page_size)).min(border).min(self.len());
        if self.fails(start, end) {
            return Err((500, "InternalServerError", "Internal Server Error"));
        }
        let repos = self.0.repos.get(start..end).unwrap_or_default().to_vec();
        let cursor = (end < self.len()).then(|| self.cursor(end));
        Ok(RepoPage { cursor, repos })
    }

    /// The number of the first repository after a cursor; `None`: it is none of this relay's.
    pub(super) fn begins_at(&self, cursor: Option<&str>) -> Option<usize> {
        cursor.map_or(Some(0), |cursor| self.position(cursor))
    }

    fn fails(&self, start: usize, end: usize) -> bool {
        let mut failures = lock(&self.0.failures);
        let failing = failures
            .iter_mut()
            .find(|(index, failure)| (start..end).contains(index) && *failure != Failure::Times(0));
        match failing {
            Some((_, Failure::Times(left))) => *left -= 1,
            Some((_, Failure::Always)) => {}
            None => return false,
        }
        true
    }

    /// Where the page after `cursor` begins. A number beyond the end is the end, as a relay with numeric cursors has it.
    fn position(&self, cursor: &str) -> Option<usize> {
        if self.0.numeric.load(Ordering::SeqCst) {
            return cursor.parse::<usize>().ok().map(|position| position.min(self.len()));
        }
        (1..self.len()).find(|position| self.cursor(*position) == cursor)
    }

    /// The cursor of the page that begins at `position`.
    fn cursor(&self, position: usize) -> String {
        if self.0.numeric.load(Ordering::SeqCst) {
            return position.to_string();
        }
        if let Some(Some(recorded)) = self.0.borders.get(&position) {
            return recorded.clone();
        }
        let millis =
            |cursor: &str| cursor.split_once("::").and_then(|(millis, _)| millis.parse::<u64>().ok());
        let recorded = |(at, cursor): (&usize, &Option<String>)| Some((*at, millis(cursor.as_deref()?)?));
        let (at, base) =
            self.0.borders.range(..position).rev().find_map(recorded).unwrap_or((0, FIRST_MILLIS));
        format!("{}::{}", base + (position - at) as u64, self.did(position - 1))
    }

    fn did(&self, index: usize) -> &str {
        self.0.repos.get(index).and_then(|repo| repo.get("did")).and_then(Value::as_str).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn repo(index: usize) -> Value {
        json!({ "did": format!("did:plc:{index}") })
    }

    fn listing() -> ListRepos {
        let page = |range: std::ops::Range<usize>, cursor: Option<&str>| RepoPage {
            cursor: cursor.map(str::to_owned),
            repos: range.map(repo).collect(),
        };
        let pages = vec![
            page(0..20, Some("100::did:plc:19")),
            page(20..39, Some("200::did:plc:38")),
            page(39..39, None),
        ];
        ListRepos::new([pages, vec![page(39..45, None)]].concat(), PAGE_SIZE).unwrap()
    }

    fn walk(listing: &ListRepos, limit: usize) -> (Vec<usize>, Vec<String>, Vec<String>) {
        let (mut sizes, mut cursors, mut dids) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            let page = listing.page(cursors.last().map(String::as_str), limit).unwrap();
            sizes.push(page.repos.len());
            dids.extend(page.repos.iter().map(|repo| repo["did"].as_str().unwrap().to_owned()));
            match page.cursor {
                Some(cursor) => cursors.push(cursor),
                None => return (sizes, cursors, dids),
            }
        }
    }

    #[test]
    fn large_limits_give_the_recorded_pages_and_cursors() {
        let (sizes, cursors, _) = walk(&listing(), 1000);
        assert_eq!(sizes, [20, 19, 6]);
        assert_eq!(cursors, ["100::did:plc:19", "200::did:plc:38"]);
    }

    #[test]
    fn every_limit_lists_every_repository_once() {
        for numeric in [false, true] {
            let listing = listing();
            listing.numeric_cursors(numeric);
            for limit in 1..=25 {
                let (sizes, _, dids) = walk(&listing, limit);
                assert_eq!(dids, listing.dids(), "limit {limit}");
                assert!(sizes.iter().all(|size| *size <= limit.min(PAGE_SIZE)));
            }
        }
    }

    #[test]
    fn foreign_cursors_are_refused() {
        let listing = listing();
        assert_eq!(listing.page(Some("20"), 10).unwrap_err().0, 400);
        listing.numeric_cursors(true);
        assert_eq!(listing.page(Some("100::did:plc:19"), 10).unwrap_err().0, 400);
        assert_eq!(listing.page(Some("20"), 10).unwrap().repos.len(), 10);
        assert!(listing.page(Some("1000"), 10).unwrap().repos.is_empty());
    }

    #[test]
    fn a_failing_index_fails_its_pages_only() {
        let listing = listing();
        listing.fail_at(7, Failure::Times(2));
        assert_eq!([5, 10, 10].map(|limit| listing.page(None, limit).is_ok()), [true, false, false]);
        assert!(listing.page(None, 10).is_ok());
        listing.fail_at(7, Failure::Always);
        assert!(listing.page(None, 10).is_err() && listing.page(None, 10).is_err());
        listing.heal();
        assert!(listing.page(None, 10).is_ok());
    }
}
