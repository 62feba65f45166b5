use std::collections::HashSet;

use thiserror::Error;

/// Which collections are let through (DECISIONS 22).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionFilter {
    /// `None` lets everything through.
    patterns: Option<Patterns>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Patterns {
    exact: HashSet<String>,
    /// With their final dot: `app.bsky.`.
    prefixes: Vec<String>,
}

/// A pattern that is neither `*`, nor an NSID, nor `prefix.*`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a collection, `prefix.*` or `*`")]
pub struct FilterError(pub String);

impl CollectionFilter {
    /// Lets every collection through.
    pub fn all() -> Self {
        Self { patterns: None }
    }

    /// Parses a comma-separated list of `*`, collections and `prefix.*`. Spaces around items and empty items are
    /// ignored.
    ///
    /// # Errors
    /// An item of another form, or no item at all (which would silently drop everything).
    pub fn parse(list: &str) -> Result<Self, FilterError> {
        Self::from_patterns(list.split(',').map(str::trim).filter(|item| !item.is_empty()))
            .and_then(|filter| filter.ok_or_else(|| FilterError(list.to_owned())))
    }

    fn from_patterns<'a>(items: impl Iterator<Item = &'a str>) -> Result<Option<Self>, FilterError> {
        let mut patterns = Patterns { exact: HashSet::new(), prefixes: Vec::new() };
        let mut any = false;
        let mut all = false;
        for item in items {
            any = true;
            if item == "*" {
                all = true;
            } else if let Some(prefix) = item.strip_suffix(".*").filter(|prefix| is_dotted(prefix)) {
                patterns.prefixes.push(format!("{prefix}."));
            } else if is_dotted(item) && item.contains('.') {
                patterns.exact.insert(item.to_owned());
            } else {
                return Err(FilterError(item.to_owned()));
            }
        }
        if !any {
            return Ok(None);
        }
        Ok(Some(if all { Self::all() } else { Self { patterns: Some(patterns) } }))
    }

    /// Whether records of `collection` are let through.
    pub fn allows(&self, collection: &str) -> bool {
        let Some(patterns) = &self.patterns else { return true };
        patterns.exact.contains(collection)
            || patterns.prefixes.iter().any(|prefix| collection.starts_with(prefix))
    }
}

impl<'a> FromIterator<&'a str> for CollectionFilter {
    /// Exactly these collections.
    fn from_iter<I: IntoIterator<Item = &'a str>>(collections: I) -> Self {
        let exact = collections.into_iter().map(str::to_owned).collect();
        Self { patterns: Some(Patterns { exact, prefixes: Vec::new() }) }
    }
}

fn is_dotted(text: &str) -> bool {
    text.split('.')
        .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_names_prefixes_and_the_star() {
        let filter = CollectionFilter::parse(" app.bsky.feed.post, chat.bsky.*,,").unwrap();
        for (collection, allowed) in [
            ("app.bsky.feed.post", true),
            ("app.bsky.feed.postgate", false),
            ("chat.bsky.actor.declaration", true),
            ("chat.bskyx.actor", false),
            ("chat.bsky", false),
        ] {
            assert_eq!(filter.allows(collection), allowed, "{collection}");
        }
        assert!(CollectionFilter::parse("*").unwrap().allows("xyz.anything"));
        assert!(CollectionFilter::parse("app.bsky.*,*").unwrap().allows("xyz.anything"));
        let only: CollectionFilter = ["a.b.c"].into_iter().collect();
        assert!(only.allows("a.b.c") && !only.allows("a.b.d"));
    }

    #[test]
    fn malformed_patterns_are_named() {
        for bad in ["app", "app.bsky*", "app..bsky", ".*", "a b.c"] {
            assert_eq!(CollectionFilter::parse(bad), Err(FilterError(bad.to_owned())));
        }
        assert!(CollectionFilter::parse(" , ").is_err());
    }
}
