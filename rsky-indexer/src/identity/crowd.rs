//! How many of the places in the work beside the lanes one domain may take: whoever has a domain has as many names in it as
//! he likes, each of them an account or the handle of one, and all of them may be slow.
//!
//! Of a did:web the domain is known at once. Of others it is known when their document has named the host of a handle or a
//! PDS ([`super::learned`]); it counts where that host is not known to be quick.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::hosts;

/// The domain that answers for an account, where its own DID names it; none where a directory answers for all.
pub(super) fn domain_of(did: &str) -> Option<String> {
    let host = did.strip_prefix("did:web:")?;
    // The port follows percent-encoded. A path is refused later, by whoever asks.
    host.split(['%', ':']).next().map(hosts::of_name)
}

/// The places that domains have. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Crowds {
    share: usize,
    /// By domain; none has zero.
    held: Arc<Mutex<HashMap<String, usize>>>,
}

/// A place of a domain; dropped, it is free.
#[derive(Debug)]
pub struct CrowdPlace {
    domain: String,
    crowds: Crowds,
}

impl Crowds {
    /// At most so many for one domain, at least one.
    pub(super) fn new(share: usize) -> Self {
        Self { share: share.max(1), held: Arc::default() }
    }

    /// A place for a domain, unless it has its share.
    pub(super) fn enter(&self, domain: &str) -> Option<CrowdPlace> {
        let mut held = self.held();
        let count = held.entry(domain.to_owned()).or_default();
        if *count >= self.share {
            return None;
        }
        *count += 1;
        Some(CrowdPlace { domain: domain.to_owned(), crowds: self.clone() })
    }

    /// Whether a domain has half of its share at most.
    pub(super) fn is_thin(&self, domain: &str) -> bool {
        self.held().get(domain).is_none_or(|count| *count <= self.share / 2)
    }

    /// Places of one domain.
    pub(super) fn share(&self) -> usize {
        self.share
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CrowdPlace {
    /// Whether it is one of this domain.
    pub(super) fn is_of(&self, domain: &str) -> bool {
        self.domain == domain
    }
}

impl Drop for CrowdPlace {
    fn drop(&mut self) {
        let mut held = self.crowds.held();
        if let Some(count) = held.get_mut(&self.domain) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                held.remove(&self.domain);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_has_its_share_whatever_its_names() {
        for (did, domain) in [
            ("did:web:a.b.example.com", Some("example.com")),
            ("did:web:c.example.com%3A8080", Some("example.com")),
            ("did:web:127.0.0.1%3a80", Some("127.0.0.1")),
            ("did:plc:abc", None),
        ] {
            assert_eq!(domain_of(did).as_deref(), domain, "{did}");
        }
        let crowds = Crowds::new(2);
        let mut places = vec![crowds.enter("a").unwrap(), crowds.enter("a").unwrap()];
        assert!(crowds.enter("a").is_none() && crowds.enter("b").is_some() && !crowds.is_thin("a"));
        drop(places.pop());
        assert!(crowds.is_thin("a"));
        assert!(crowds.enter("a").is_some());
        drop(places);
        assert!(crowds.held().is_empty());
    }
}
