//! Asks the database what entries claim beyond what they say ([`crate::order::look`]).
//!
//! What passes is waited out. A question that fails for what it asks about, or takes too long, is handed back to be asked in
//! halves, until it is about one entry. About that one nothing can be found out: it goes on with what it says itself, and the
//! lane that gets it finds out whether it can be written, is refused, or is to be set aside. Against entries that depend on it by
//! what is stored it has the order that two processes have.

use std::sync::Arc;
use std::time::Duration;

use rsky_common::admin::Readiness;
use rsky_common::runtime::backoff::Backoff;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::connections::Connections;
use crate::disposition::{Act, Condition};
use crate::engine::{EngineError, Statements};
use crate::metrics::Metrics;
use crate::order::claims::Rules;
use crate::order::look::Question;
use crate::order::{Entry, Keys, Looked};

/// Longest time of one question.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Who asks, with a connection for as long as a question takes.
pub struct Looker {
    connections: Connections,
    statements: Statements,
    max_attempts: u32,
    readiness: Readiness,
    metrics: Arc<Metrics>,
}

/// Whether a question was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It was.
    Given,
    /// It cannot be, for something that it asks about.
    Fails,
    /// The process stops; the entries are not to be worked on.
    Stopped,
}

impl Looker {
    /// A question that fails unforeseen is asked `max_attempts` times. `readiness` counts as ready until a question has to wait.
    pub fn new(
        connections: Connections,
        statements: Statements,
        max_attempts: u32,
        readiness: Readiness,
        metrics: Arc<Metrics>,
    ) -> Self {
        readiness.ready();
        Self { connections, statements, max_attempts, readiness, metrics }
    }

    /// What decides beside the entries which claims they have.
    pub fn rules(&self) -> Rules {
        Rules { notifications: self.statements.notifications(), rev: self.statements.schema().rev() }
    }

    /// Asks until there is an answer, and adds what the entries claim by it, or until the process stops. `is_part` of a question
    /// that has failed: it is not tried many times over again.
    pub async fn look<T>(
        self,
        question: Question,
        keys: Keys,
        mut entries: Vec<Entry<T>>,
        is_part: bool,
        stop: CancellationToken,
    ) -> (Self, Vec<Entry<T>>, Answer) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        let tries = if is_part { 1 } else { self.max_attempts };
        let mut failures = 0;
        let answer = loop {
            let asked = tokio::time::timeout(TIMEOUT, self.ask(&question, &keys)).await;
            match asked.unwrap_or(Err(EngineError::TooLong)) {
                Ok(looked) => {
                    for (at, Looked(claims)) in looked {
                        if let Some(entry) = entries.get_mut(at) {
                            entry.claims.join(&claims);
                        }
                    }
                    break Answer::Given;
                }
                Err(error) => {
                    let condition = Condition::of(&error);
                    let ruling = condition.ruling();
                    if backoff.attempts() == 0 {
                        let advice = ruling.advice;
                        warn!(
                            entries = entries.len(),
                            "Postgres cannot be asked what is stored: {advice}: {error}"
                        );
                    }
                    if condition == Condition::PreparedStatement {
                        self.statements.keep_nothing_prepared();
                    }
                    let cause = match ruling.act {
                        Act::Bury => break self.in_halves(),
                        Act::SetApart | Act::Halve => {
                            failures += 1;
                            if failures >= tries {
                                break self.in_halves();
                            }
                            "unknown"
                        }
                        Act::Wait | Act::Again | Act::Locked => "transient",
                    };
                    self.metrics.retried(cause);
                    self.readiness.not_ready(format!("{}: {error}", ruling.advice));
                }
            }
            if !backoff.wait(&stop).await {
                return (self, entries, Answer::Stopped);
            }
        };
        if backoff.attempts() > 0 {
            self.readiness.ready();
        }
        (self, entries, answer)
    }

    fn in_halves(&self) -> Answer {
        self.metrics.retried("split");
        Answer::Fails
    }

    async fn ask(&self, question: &Question, keys: &Keys) -> Result<Vec<(usize, Looked)>, EngineError> {
        let mut lease = self.connections.take().await?;
        // After an error it is closed.
        let looked = question.ask(&mut lease, &self.statements, keys).await?;
        lease.give_back();
        Ok(looked)
    }
}
