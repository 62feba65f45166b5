//! Who looks at the tables: one connection, one batch at a time, as often as it takes until Postgres has answered.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rsky_common::admin::{Readiness, shown};
use rsky_common::postgres::PostgresServer;
use rsky_common::runtime::Backoff;
use sqlx::{Connection as _, PgConnection};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::expected::Beside;
use super::judge::{Verdict, judge};
use super::stands::{Asked, look};
use crate::disposition::Condition;
use crate::engine::{EngineError, Statements};

/// Longest wait for what a look asks.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Most bytes of an error that are told.
const SHOWN: usize = 300;

/// See the module.
pub(super) struct Looker {
    pub(super) server: PostgresServer,
    pub(super) statements: Arc<Statements>,
    pub(super) besides: Vec<Beside>,
    pub(super) connection: Option<PgConnection>,
    pub(super) readiness: Readiness,
    pub(super) stop: CancellationToken,
}

/// Why a part of a batch has no verdicts yet.
enum Trouble {
    /// It passes.
    Wait(String),
    /// It is in what is asked.
    Asked(String),
    /// It stays.
    Stays(anyhow::Error),
}

impl Looker {
    /// A verdict for each; fewer when it is stopped before.
    ///
    /// # Errors
    /// Postgres refuses for a reason that stays.
    pub(super) async fn look(&mut self, asked: &[Asked]) -> anyhow::Result<Vec<Verdict>> {
        let mut verdicts: Vec<Verdict> = Vec::with_capacity(asked.len());
        // From and to.
        let mut left: Vec<(usize, usize)> = vec![(0, asked.len())];
        let mut backoff = Backoff::local();
        while let Some((from, to)) = left.pop() {
            let Some(part) = asked.get(from..to).filter(|part| !part.is_empty()) else { continue };
            match self.try_look(part).await {
                Ok(mut found) => {
                    verdicts.append(&mut found);
                    backoff.reset();
                    self.readiness.ready();
                }
                Err(Trouble::Asked(_)) if part.len() > 1 => {
                    let middle = from.midpoint(to);
                    left.push((middle, to));
                    left.push((from, middle));
                }
                Err(Trouble::Asked(why)) => verdicts.push(Verdict::Failed(why)),
                Err(Trouble::Stays(error)) => return Err(error),
                Err(Trouble::Wait(why)) => {
                    self.connection = None;
                    self.readiness.not_ready(why);
                    left.push((from, to));
                    if !backoff.wait(&self.stop).await {
                        return Ok(verdicts);
                    }
                }
            }
        }
        Ok(verdicts)
    }

    async fn try_look(&mut self, asked: &[Asked]) -> Result<Vec<Verdict>, Trouble> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                let connected = self.server.connect().await;
                let trouble = |error| trouble(Condition::of_connecting(&error), &EngineError::from(error));
                none.insert(connected.map_err(trouble)?)
            }
        };
        let looking = look(connection, &self.statements, &self.besides, asked);
        let stands = match timeout(TIMEOUT, looking).await {
            Ok(Ok(stands)) => stands,
            Ok(Err(error)) => return Err(trouble(Condition::of(&error), &error)),
            Err(_) => return Err(Trouble::Wait(format!("Postgres does not answer within {TIMEOUT:?}"))),
        };
        let judged = asked.iter().enumerate();
        Ok(judged.map(|(at, asked)| judge(&stands, &self.statements, &self.besides, at, asked)).collect())
    }

    /// Says goodbye.
    pub(super) async fn close(self) {
        if let Some(connection) = self.connection {
            // What was to be known is known.
            drop(timeout(Duration::from_secs(1), connection.close()).await);
        }
    }
}

fn trouble(condition: Condition, error: &EngineError) -> Trouble {
    let words = shown(&error.to_string(), SHOWN);
    match condition {
        Condition::LoginRefused
        | Condition::NotPermitted
        | Condition::SchemaChanged
        | Condition::UnknownColumn => Trouble::Stays(anyhow!(words).context(condition.ruling().advice)),
        Condition::EntryRefused
        | Condition::TooMuch
        | Condition::Unforeseen
        | Condition::Cancelled
        | Condition::LockTimeout
        | Condition::Conflict
        | Condition::BeyondTheServer => Trouble::Asked(words),
        Condition::ConnectionLost
        | Condition::OutOfResources
        | Condition::ServerUnavailable
        | Condition::SystemFailure
        | Condition::ObjectNotReady
        | Condition::SessionState
        | Condition::PreparedStatement => Trouble::Wait(format!("{}: {words}", condition.ruling().advice)),
    }
}

/// Connects before anything is watched: without tables there is nothing to compare with.
///
/// # Errors
/// The database cannot be reached or is not the AppView's.
pub(super) async fn open(
    server: PostgresServer,
    shown_url: &str,
    readiness: Readiness,
    stop: CancellationToken,
) -> anyhow::Result<Looker> {
    let mut connection =
        server.connect().await.with_context(|| format!("connect to the database {shown_url}"))?;
    let found = crate::database::inspect(&server, &mut connection).await?;
    readiness.ready();
    let besides = super::expected::beside(&found.schema);
    let statements = Arc::new(found.statements());
    Ok(Looker { server, statements, besides, connection: Some(connection), readiness, stop })
}
