//! Whether the parts of a daemon are connected to what they need.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::text::{SHOWN, shown};

/// Why a part is not ready that has not said anything yet.
pub const STARTING: &str = "starting";

type Question = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// The parts by name. Cloning gives another handle to the same parts.
#[derive(Clone, Default)]
pub struct Health {
    parts: Arc<Mutex<BTreeMap<String, Option<String>>>>,
    asked: Arc<Mutex<BTreeMap<String, Question>>>,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("parts", &self.parts).finish_non_exhaustive()
    }
}

impl Health {
    /// No parts: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a part, which is not ready until it says so.
    pub fn part(&self, name: impl Into<String>) -> Readiness {
        let readiness = Readiness { health: self.clone(), name: name.into() };
        readiness.not_ready(STARTING);
        readiness
    }

    /// Registers a part that is asked each time: why is it not ready? It must answer from memory, at once.
    pub fn ask(&self, name: impl Into<String>, why_not: impl Fn() -> Option<String> + Send + Sync + 'static) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.insert(name.into(), Arc::new(why_not));
    }

    /// Names and reasons of the parts that are not ready; empty: all are.
    pub fn reasons(&self) -> Vec<(String, String)> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let answers =
            asked.iter().filter_map(|(name, why_not)| Some((name.clone(), shown(&why_not()?, SHOWN))));
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let told = parts.iter().filter_map(|(name, reason)| Some((name.clone(), reason.clone()?)));
        told.chain(answers).collect()
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

    /// It is not, and why. Readers are people: say what is waited for. What peers say is made fit for a page.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.health.set(&self.name, Some(shown(&reason.into(), SHOWN)));
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
        redis.not_ready("gone\n".repeat(1000));
        let reasons = health.reasons();
        let (part, reason) = &reasons[0];
        assert!(part == "redis" && reason.starts_with("gone\\ngone") && reason.len() < 1_300, "{reason}");
        redis.ready();
        health.ask("age", || Some("old".to_owned()));
        assert_eq!(health.reasons(), [("age".to_owned(), "old".to_owned())]);
    }
}
