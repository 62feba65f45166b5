//! The two kinds of stream the indexer drains: events and labels. Reader and lane are the same for both.

use sqlx::PgConnection;

use crate::engine::{self, AccountNews, EngineError, Statements, Tries, Work};
use crate::held_rows::Row;
use crate::intake::{self, Intake};
use crate::labels::{self, LabelRow};
use crate::lexicon::Edition;
use crate::metrics::What;
use crate::order::claims::Rules;
use crate::order::{Claims, Keys, Touch};

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

    /// As [`Self::apply`], after `tries` with the same items.
    fn apply_after(
        connection: &mut PgConnection,
        statements: &Statements,
        items: &[&Self::Item],
        _: &mut Tries,
    ) -> impl Future<Output = Result<usize, EngineError>> + Send {
        Self::apply(connection, statements, items)
    }

    /// Whether Postgres may refuse an item for what it says, as far as that is known before it is tried: then it is written
    /// by itself.
    fn may_be_refused(_: &Self::Item) -> bool {
        false
    }

    /// Of each item, whether it replaces no version of its record, neither a stored one nor one of an item before it. Asked
    /// where items may pass each other if they are new.
    fn find_new(
        _: &mut PgConnection,
        _: &Statements,
        items: &[&Self::Item],
    ) -> impl Future<Output = Result<Vec<bool>, EngineError>> + Send {
        let none = vec![false; items.len()];
        async { Ok(none) }
    }

    /// Rows of others' making that an item is known to write, beside its own: those that somebody else may hold.
    fn rows(_: &Self::Item) -> Vec<Row> {
        Vec::new()
    }
}

/// How entries of one kind of stream are read; what they become is written as an [`Effect`].
pub trait Kind: Effect {
    /// How often an entry's bytes stand in memory on its way at most, as it was read and taken apart.
    const COPIES: usize;

    /// Payload fields, in the order they are looked for.
    const FIELDS: &'static [&'static str];

    /// Reads a payload, as an AppView of an edition would.
    fn read(edition: Edition, payload: &str) -> Intake<Self::Item>;

    /// What an item claims by what it says itself ([`crate::order`]).
    fn claims(item: &Self::Item, keys: &Keys, rules: Rules) -> Claims;

    /// What it is, for the metrics.
    fn what(item: &Self::Item) -> What;

    /// The item as the engine's work, if it is: then what is stored makes it claim more.
    fn work(_: &Self::Item) -> Option<&Work> {
        None
    }

    /// The item was delivered before, to this process or another.
    fn set_again(_: &mut Self::Item) {}

    /// What is left to do for an item after it has been written, beside the lanes.
    fn left_to_do(_: Self::Item) -> Option<AccountNews> {
        None
    }
}

/// Record, account and identity events.
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

    async fn apply_after(
        connection: &mut PgConnection,
        statements: &Statements,
        items: &[&Work],
        tries: &mut Tries,
    ) -> Result<usize, EngineError> {
        engine::apply_after(connection, statements, items, tries).await
    }

    fn may_be_refused(work: &Work) -> bool {
        work.is_doubtful
    }

    async fn find_new(
        connection: &mut PgConnection,
        statements: &Statements,
        items: &[&Work],
    ) -> Result<Vec<bool>, EngineError> {
        engine::find_new(connection, statements, items).await
    }

    fn rows(work: &Work) -> Vec<Row> {
        engine::rows_of(work)
    }
}

impl Kind for Events {
    const COPIES: usize = 2;
    const FIELDS: &'static [&'static str] = &["event"];

    fn read(edition: Edition, payload: &str) -> Intake<Work> {
        intake::read_in(edition, payload)
    }

    fn claims(work: &Work, keys: &Keys, rules: Rules) -> Claims {
        keys.of_work(work, rules)
    }

    fn what(work: &Work) -> What {
        What::Event(work.event)
    }

    fn work(work: &Work) -> Option<&Work> {
        Some(work)
    }

    fn set_again(work: &mut Work) {
        work.again = true;
    }

    fn left_to_do(work: Work) -> Option<AccountNews> {
        work.account
    }
}

/// Labels.
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

    fn may_be_refused(labels: &Vec<LabelRow>) -> bool {
        labels.iter().any(LabelRow::may_be_refused)
    }
}

impl Kind for Labels {
    // Many small labels in one entry are larger as rows.
    const COPIES: usize = 6;
    // The second is old rsky's (PIPELINE §8).
    const FIELDS: &'static [&'static str] = &["event", "labels"];

    fn read(_: Edition, payload: &str) -> Intake<Vec<LabelRow>> {
        labels::read(payload)
    }

    fn what(labels: &Vec<LabelRow>) -> What {
        let count = |neg: bool| labels.iter().filter(|label| label.neg == neg).count();
        let [added, removed] = [false, true].map(|neg| u32::try_from(count(neg)).unwrap_or(u32::MAX));
        What::Labels { added, removed }
    }

    /// Labels of one key keep their order, and nobody knows which those are: one batch at a time.
    fn claims(_: &Vec<LabelRow>, _: &Keys, _: Rules) -> Claims {
        Claims::of(vec![(0, Touch::Own)])
    }
}
