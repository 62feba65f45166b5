use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::DidDocument;

/// Documents kept in this process: at most so many, the least recently used half forgotten at once when they are more.
#[derive(Debug)]
pub struct DocumentCache {
    half: usize,
    max_age: Duration,
    generations: Mutex<Generations>,
}

type Documents = HashMap<String, (Instant, Arc<DidDocument>)>;

#[derive(Debug, Default)]
struct Generations {
    young: Documents,
    old: Documents,
}

impl DocumentCache {
    /// A cache of at most `most` documents (about 700 bytes each), each for at most `max_age`.
    pub fn new(most: usize, max_age: Duration) -> Self {
        Self { half: (most / 2).max(1), max_age, generations: Mutex::default() }
    }

    /// The document, if it is there and not too old.
    pub fn get(&self, did: &str) -> Option<Arc<DidDocument>> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match generations.young.get(did) {
            Some(found) => found.clone(),
            None => {
                let found = generations.old.remove(did)?;
                self.keep(&mut generations, did, found.clone());
                found
            }
        };
        (found.0.elapsed() < self.max_age).then_some(found.1)
    }

    /// Keeps a document that was just resolved.
    pub fn put(&self, document: Arc<DidDocument>) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let did = document.did.clone();
        self.keep(&mut generations, &did, (Instant::now(), document));
    }

    /// Forgets a document: it turned out to be out of date.
    pub fn remove(&self, did: &str) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.young.remove(did);
        generations.old.remove(did);
    }

    fn keep(&self, generations: &mut Generations, did: &str, document: (Instant, Arc<DidDocument>)) {
        if generations.young.len() >= self.half {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(did.to_owned(), document);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(did: &str) -> Arc<DidDocument> {
        Arc::new(DidDocument::parse(format!(r#"{{"id":"{did}"}}"#).as_bytes(), did).unwrap())
    }

    #[test]
    fn keeps_what_is_used_and_is_bounded() {
        let cache = DocumentCache::new(10, Duration::from_secs(60));
        cache.put(document("did:plc:kept"));
        for number in 0..1000 {
            cache.put(document(&format!("did:plc:{number}")));
            assert!(cache.get("did:plc:kept").is_some());
        }
        assert!(cache.get("did:plc:1").is_none());
        let generations = cache.generations.lock().unwrap();
        assert!(generations.young.len() + generations.old.len() <= 10);
    }

    #[test]
    fn forgets_by_age_and_by_word() {
        let cache = DocumentCache::new(10, Duration::ZERO);
        cache.put(document("did:plc:a"));
        assert!(cache.get("did:plc:a").is_none());
        let cache = DocumentCache::new(10, Duration::from_secs(60));
        cache.put(document("did:plc:a"));
        cache.remove("did:plc:a");
        assert!(cache.get("did:plc:a").is_none());
    }
}
