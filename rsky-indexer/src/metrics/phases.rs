//! Where the time of a transaction goes.

use std::time::Instant;

use rsky_common::admin::{Histograms, Registry};

use super::declared;

/// A part of a transaction; its name is one of [`declared::PHASES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for a connection.
    Connection,
    /// The beginning of the transaction.
    Begin,
    /// Reading what is stored.
    Load,
    /// Finding out what does not depend on what.
    Plan,
    /// Records and their rows.
    Write,
    /// Counters and accounts.
    Count,
    /// The end of the transaction.
    Commit,
    /// The look at what other processes wrote meanwhile.
    SecondLook,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Begin => "begin",
            Self::Load => "load",
            Self::Plan => "plan",
            Self::Write => "write",
            Self::Count => "count",
            Self::Commit => "commit",
            Self::SecondLook => "second_look",
        }
    }
}

/// The histogram of phases; the default tells nobody. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Phases(Option<Histograms>);

impl Phases {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let phases: Histograms = declared::PHASE_SECONDS.many(registry);
        phases.introduce(&[]);
        Self(Some(phases))
    }

    /// Starts to look at the time.
    pub fn watch(&self) -> Watch<'_> {
        Watch { phases: self, since: Instant::now() }
    }
}

/// A look at the time.
#[derive(Debug)]
pub struct Watch<'p> {
    phases: &'p Phases,
    since: Instant,
}

impl Watch<'_> {
    /// A phase has ended, and the next begins. What fails is not told of.
    pub fn ended(&mut self, phase: Phase) {
        let now = Instant::now();
        if let Some(phases) = &self.phases.0 {
            let elapsed = now.saturating_duration_since(self.since);
            phases.with(&[phase.name()]).observe(elapsed.as_secs_f64());
        }
        self.since = now;
    }
}
