//! Whether the parts of a daemon are connected to what they need.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The parts by name. Cloning gives another handle to the same parts.
#[derive(Clone, Debug, Default)]
pub struct Health {
    parts: Arc<Mutex<BTreeMap<String, Option<String>>>>,
}

impl Health {
    /// No parts: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a part, which is not ready until it says so.
    pub fn part(&self, name: impl Into<String>) -> Readiness {
        let readiness = Readiness { health: self.clone(), name: name.into() };
        readiness.not_ready("starting");
        readiness
    }

    /// Names and reasons of the parts that are not ready; empty: all are.
    pub fn reasons(&self) -> Vec<(String, String)> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.iter().filter_map(|(name, reason)| Some((name.clone(), reason.clone()?))).collect()
    }

    fn set(&self, name: &str, reason: Option<String>) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        match parts.get_mut(name) {
            Some(known) => *known = reason,
            None => drop(parts.insert(name.to_owned(), reason)),
        }
    }
}

/// The voice of one part. Clones speak for the same part.
#[derive(Clone, Debug)]
pub struct Readiness {
    health: Health,
    name: String,
}

impl Readiness {
    /// A part nobody listens to: for tests and tools.
    pub fn unheard() -> Self {
        Health::new().part("unheard")
    }

    /// The part is connected to what it needs.
    pub fn ready(&self) {
        self.health.set(&self.name, None);
    }

    /// It is not, and why. Readers are people: say what is waited for.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.health.set(&self.name, Some(reason.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_ready_when_every_part_is() {
        let health = Health::new();
        assert!(health.reasons().is_empty());
        let (redis, relay) = (health.part("redis"), health.part("relay"));
        redis.ready();
        assert_eq!(health.reasons(), [("relay".to_owned(), "starting".to_owned())]);
        relay.ready();
        assert!(health.reasons().is_empty());
        redis.not_ready("gone");
        assert_eq!(health.reasons(), [("redis".to_owned(), "gone".to_owned())]);
    }
}
