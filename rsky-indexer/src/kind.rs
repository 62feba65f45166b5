//! The two kinds of stream the indexer drains: events and labels. Reader and lane are the same for both.

use sqlx::PgConnection;

use crate::engine::{self, EngineError, Statements, Work};
use crate::intake::{self, Intake};
use crate::labels::{self, LabelRow};

/// How entries of one kind of stream are read and written.
pub trait Kind: Send + Sync + 'static {
    /// What an entry becomes.
    type Item: Send + Sync + 'static;

    /// Payload fields, in the order they are looked for.
    const FIELDS: &'static [&'static str];

    /// Reads a payload.
    fn read(payload: &str) -> Intake<Self::Item>;

    /// What decides the lane, so that what must stay in order does.
    fn route(payload: &str) -> Option<String>;

    /// Writes items in one transaction; returns how many rows were written or deleted.
    fn apply(
        connection: &mut PgConnection,
        statements: &Statements,
        items: &[&Self::Item],
    ) -> impl Future<Output = Result<usize, EngineError>> + Send;
}

/// Record, account and identity events: in order per repository.
#[derive(Debug)]
pub struct Events;

impl Kind for Events {
    type Item = Work;

    const FIELDS: &'static [&'static str] = &["event"];

    fn read(payload: &str) -> Intake<Work> {
        intake::read(payload)
    }

    fn route(payload: &str) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Route<'a> {
            #[serde(borrow)]
            did: std::borrow::Cow<'a, str>,
        }
        serde_json::from_str::<Route<'_>>(payload).ok().map(|route| route.did.into_owned())
    }

    async fn apply(
        connection: &mut PgConnection,
        statements: &Statements,
        items: &[&Work],
    ) -> Result<usize, EngineError> {
        engine::apply(connection, statements, items).await
    }
}

/// Labels: all in one lane.
#[derive(Debug)]
pub struct Labels;

impl Kind for Labels {
    type Item = Vec<LabelRow>;

    // The second is old rsky's (PIPELINE §8).
    const FIELDS: &'static [&'static str] = &["event", "labels"];

    fn read(payload: &str) -> Intake<Vec<LabelRow>> {
        labels::read(payload)
    }

    fn route(_: &str) -> Option<String> {
        None
    }

    async fn apply(
        connection: &mut PgConnection,
        statements: &Statements,
        items: &[&Vec<LabelRow>],
    ) -> Result<usize, EngineError> {
        let labels: Vec<&LabelRow> = items.iter().flat_map(|item| item.iter()).collect();
        labels::apply(connection, statements, &labels).await
    }
}
