//! Asks the database what entries claim beyond what they say ([`crate::order::look`]), for as long as it takes.

use std::sync::Arc;
use std::time::Duration;

use rsky_common::admin::Readiness;
use rsky_common::runtime::backoff::Backoff;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::connections::Connections;
use crate::disposition::Condition;
use crate::engine::{EngineError, Statements};
use crate::metrics::{Metrics, RetryLabels};
use crate::order::claims::Rules;
use crate::order::look::Question;
use crate::order::{Entry, Keys, Looked};

/// Longest time of one question.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Who asks, with a connection for as long as a question takes.
pub struct Looker {
    connections: Connections,
    statements: Statements,
    readiness: Readiness,
    metrics: Arc<Metrics>,
}

/// Whether a question was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It was.
    Given,
    /// The process stops; the entries are not to be worked on.
    Stopped,
}

impl Looker {
    /// `readiness` counts as ready until a question has to wait.
    pub fn new(
        connections: Connections,
        statements: Statements,
        readiness: Readiness,
        metrics: Arc<Metrics>,
    ) -> Self {
        readiness.ready();
        Self { connections, statements, readiness, metrics }
    }

    /// What decides beside the entries which claims they have.
    pub fn rules(&self) -> Rules {
        Rules { notifications: self.statements.notifications(), rev: self.statements.schema().rev() }
    }

    /// Asks until there is an answer, and adds what the entries claim by it, or until the process stops.
    pub async fn look<T>(
        self,
        question: Question,
        keys: Keys,
        mut entries: Vec<Entry<T>>,
        stop: CancellationToken,
    ) -> (Self, Vec<Entry<T>>, Answer) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        loop {
            let asked = tokio::time::timeout(TIMEOUT, self.ask(&question, &keys)).await;
            match asked.unwrap_or(Err(EngineError::TooLong)) {
                Ok(looked) => {
                    if backoff.attempts() > 0 {
                        self.readiness.ready();
                    }
                    for (at, Looked(claims)) in looked {
                        if let Some(entry) = entries.get_mut(at) {
                            entry.claims.extend(&claims);
                        }
                    }
                    return (self, entries, Answer::Given);
                }
                Err(error) => {
                    if backoff.attempts() == 0 {
                        warn!("Postgres cannot be asked what is stored, waiting: {error}");
                    }
                    self.metrics.retries.get_or_create(&RetryLabels { cause: "transient" }).inc();
                    let condition = Condition::of(&error);
                    if condition == Condition::PreparedStatement {
                        self.statements.keep_nothing_prepared();
                    }
                    self.readiness.not_ready(format!("{}: {error}", condition.ruling().advice));
                }
            }
            if !backoff.wait(&stop).await {
                return (self, entries, Answer::Stopped);
            }
        }
    }

    async fn ask(&self, question: &Question, keys: &Keys) -> Result<Vec<(usize, Looked)>, EngineError> {
        let mut lease = self.connections.take().await?;
        // After an error it is closed.
        let looked = question.ask(&mut lease, &self.statements, keys).await?;
        lease.give_back();
        Ok(looked)
    }
}
