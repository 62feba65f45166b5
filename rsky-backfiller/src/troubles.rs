//! What keeps repositories waiting that is not theirs nor one host's: said by readiness, and in the log once.

use std::time::{Duration, Instant};

use rsky_common::admin::{Health, Readiness};

use crate::outcome::{Action, Class, Told};

/// The classes that the operator is told of, each with its part of readiness.
#[derive(Debug)]
pub struct Troubles {
    parts: Vec<Part>,
    /// How long after the last sign of it a trouble is over for which repositories are put off: longer than they are. One
    /// that they wait for in line is over when it is seen to be.
    lasts: Duration,
}

#[derive(Debug)]
struct Part {
    class: Class,
    readiness: Readiness,
    last_seen: Option<Instant>,
}

impl Troubles {
    /// All parts ready. `longest_delay`: for how long at most a repository is put off that waits for one of them.
    pub fn new(health: &Health, longest_delay: Duration) -> Self {
        let told = Class::ALL.iter().copied().filter(|class| class.row().told == Told::Readiness);
        let part = |class: Class| {
            let readiness = health.part(class.name().replace('_', " "));
            readiness.ready();
            Part { class, readiness, last_seen: None }
        };
        Self {
            parts: told.map(part).collect(),
            lasts: longest_delay.saturating_mul(2) + Duration::from_secs(1),
        }
    }

    /// An outcome was of this class: if it is one that the operator is told of, it is told.
    pub fn seen(&mut self, class: Class, error: &str, now: Instant) {
        let Some(part) = self.parts.iter_mut().find(|part| part.class == class) else { return };
        let why = format!("{} ({error})", class.row().sentence);
        if part.last_seen.is_none() {
            tracing::warn!("{why}");
        }
        part.last_seen = Some(now);
        part.readiness.not_ready(why);
    }

    /// Something went well that does not while there is this trouble.
    pub fn over(&mut self, class: Class) {
        self.end(|part| part.class == class);
    }

    /// Ends the troubles that have not been seen for long.
    pub fn look(&mut self, now: Instant) {
        let lasts = self.lasts;
        self.end(|part| {
            let is_put_off = part.class.action() == Action::Later;
            is_put_off && part.last_seen.is_some_and(|at| now.duration_since(at) > lasts)
        });
    }

    fn end(&mut self, which: impl Fn(&Part) -> bool) {
        for part in self.parts.iter_mut().filter(|part| part.last_seen.is_some()) {
            if which(part) {
                tracing::info!("over: {}", part.class.name().replace('_', " "));
                part.last_seen = None;
                part.readiness.ready();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_told_until_it_is_over() {
        let (health, now) = (Health::new(), Instant::now());
        let mut troubles = Troubles::new(&health, Duration::from_secs(10));
        troubles.seen(Class::Gone, "that of one account", now);
        assert!(health.reasons().is_empty());
        troubles.seen(Class::DirectoryDown, "HTTP 500", now);
        troubles.seen(Class::Files, "no space", now);
        let reasons = health.reasons();
        assert_eq!(reasons.len(), 2, "{reasons:?}");
        assert!(reasons[0].1.contains("PLC_URL") && reasons[0].1.contains("HTTP 500"), "{reasons:?}");
        troubles.over(Class::DirectoryDown);
        assert_eq!(health.reasons().len(), 1);
        troubles.look(now + Duration::from_secs(20));
        assert_eq!(health.reasons().len(), 1);
        troubles.look(now + Duration::from_secs(22));
        assert!(health.reasons().is_empty());
    }
}
