//! The two kinds of stream the indexer drains: events and labels. Reader and lane are the same for both.

use sqlx::PgConnection;

use crate::engine::{self, AccountNews, EngineError, Statements, Work};
use crate::intake::{self, Intake};
use crate::labels::{self, LabelRow};
use crate::lexicon::Edition;

/// Something that is written into the database, many at a time.
pub trait Effect: Send + Sync + 'static {
    /// One of them.
    type Item: Send + Sync + 'static;

    /// Writes items in one transaction; returns how many rows were written or deleted.
    fn apply(
        connection: &mut PgConnection,
        statements: &Statements,
        items: &[&Self::Item],
    ) -> impl Future<Output = Result<usize, EngineError>> + Send;
}

/// How entries of one kind of stream are read; what they become is written as an [`Effect`].
pub trait Kind: Effect {
    /// Payload fields, in the order they are looked for.
    const FIELDS: &'static [&'static str];

    /// Reads a payload, as an AppView of an edition would.
    fn read(edition: Edition, payload: &str) -> Intake<Self::Item>;

    /// What decides the lane, so that what must stay in order does.
    fn route(payload: &str) -> Option<String>;

    /// What is left to do for an item after it has been written, beside the lanes.
    fn left_to_do(_: Self::Item) -> Option<AccountNews> {
        None
    }
}

/// Record, account and identity events: in order per repository.
#[derive(Debug)]
pub struct Events;

impl Effect for Events {
    type Item = Work;

    async fn apply(
        connection: &mut PgConnection,
        statements: &Statements,
        items: &[&Work],
    ) -> Result<usize, EngineError> {
        engine::apply(connection, statements, items).await
    }
}

impl Kind for Events {
    const FIELDS: &'static [&'static str] = &["event"];

    fn read(edition: Edition, payload: &str) -> Intake<Work> {
        intake::read_in(edition, payload)
    }

    fn route(payload: &str) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Route<'a> {
            #[serde(borrow)]
            did: std::borrow::Cow<'a, str>,
        }
        serde_json::from_str::<Route<'_>>(payload).ok().map(|route| route.did.into_owned())
    }

    fn left_to_do(work: Work) -> Option<AccountNews> {
        work.account
    }
}

/// Labels: all in one lane.
#[derive(Debug)]
pub struct Labels;

impl Effect for Labels {
    type Item = Vec<LabelRow>;

    async fn apply(
        connection: &mut PgConnection,
        statements: &Statements,
        items: &[&Vec<LabelRow>],
    ) -> Result<usize, EngineError> {
        let labels: Vec<&LabelRow> = items.iter().flat_map(|item| item.iter()).collect();
        labels::apply(connection, statements, &labels).await
    }
}

impl Kind for Labels {
    // The second is old rsky's (PIPELINE §8).
    const FIELDS: &'static [&'static str] = &["event", "labels"];

    fn read(_: Edition, payload: &str) -> Intake<Vec<LabelRow>> {
        labels::read(payload)
    }

    fn route(_: &str) -> Option<String> {
        None
    }
}
