//! `label_live` into the `label` table (INDEXING §7).
//!
//! One statement writes many labels; labels of one key that stand twice in a batch go into statements of their
//! own, in order, since "newer" is decided by the database's comparison of `cts` (DECISIONS 25). A negation is a
//! row, not a deletion. `exp` and `sig` are written where the table has them (SCHEMA-VARIANTS §4). Index used:
//! `label_pkey`.

mod signature;

use std::collections::HashMap;

use rsky_common::postgres::transaction::{self, Purpose};
use rsky_common::wire::{self, Label, LabelEntry};
use sqlx::PgConnection;

use crate::engine::{EngineError, Statements, is_doubtful};
use crate::intake::Intake;

/// One label as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelRow {
    /// DID of the labeler.
    pub src: String,
    /// What is labelled: a record's at-uri or a DID.
    pub uri: String,
    /// The version of the record; empty for all versions.
    pub cid: String,
    /// The label's value.
    pub val: String,
    /// Whether it takes an earlier label back.
    pub neg: bool,
    /// When it was made, verbatim.
    pub cts: String,
    /// When it ends, verbatim.
    pub exp: Option<String>,
    /// The labeler's signature.
    pub sig: Option<Box<[u8]>>,
}

/// Reads one entry: TypeScript's (one label in `event`) or old rsky's (several in `labels`).
pub fn read(payload: &str) -> Intake<Vec<LabelRow>> {
    match wire::parse_labels(payload) {
        Ok(LabelEntry::Labels(labels)) => {
            let mut rows: Vec<LabelRow> = labels.into_iter().map(LabelRow::from).collect();
            for (row, sig) in rows.iter_mut().zip(signature::read(payload)) {
                row.sig = sig;
            }
            Intake::Work(rows)
        }
        Ok(LabelEntry::Unknown(kind)) => Intake::Rejected {
            reason: "unknown_type",
            error: format!("entries of type {kind} are not known"),
        },
        Err(error) => Intake::Rejected { reason: "malformed_entry", error: error.to_string() },
    }
}

impl LabelRow {
    /// Whether Postgres may refuse it for the length of what it is found by.
    pub(crate) fn may_be_refused(&self) -> bool {
        [&self.src, &self.uri, &self.cid, &self.val, &self.cts].into_iter().any(|value| is_doubtful(value))
    }
}

impl From<Label<'_>> for LabelRow {
    fn from(label: Label<'_>) -> Self {
        // U+0000 cannot be stored (DECISIONS 16).
        let clean = |text: std::borrow::Cow<'_, str>| -> String {
            if text.contains('\0') { text.replace('\0', "") } else { text.into_owned() }
        };
        Self {
            src: clean(label.src),
            uri: clean(label.uri),
            cid: label.cid.map(clean).unwrap_or_default(),
            val: clean(label.val),
            neg: label.neg,
            cts: clean(label.cts),
            exp: label.exp.map(clean),
            sig: None,
        }
    }
}

/// Writes labels in order, in one transaction; returns how many rows changed.
///
/// # Errors
/// See [`EngineError`]. Nothing has taken effect then.
pub async fn apply(
    connection: &mut PgConnection,
    statements: &Statements,
    labels: &[&LabelRow],
) -> Result<usize, EngineError> {
    transaction::begin(connection, statements.preamble(), Purpose::Batch).await?;
    let outcome = write_rounds(connection, statements, labels).await;
    transaction::end(connection, outcome).await
}

async fn write_rounds(
    connection: &mut PgConnection,
    statements: &Statements,
    labels: &[&LabelRow],
) -> Result<usize, EngineError> {
    let mut rows = 0;
    for round in rounds(labels) {
        rows += write(connection, statements, &round).await?;
    }
    Ok(rows)
}

/// The n-th round holds the n-th label of each key, sorted by key: every process locks rows in one order.
fn rounds<'l>(labels: &[&'l LabelRow]) -> Vec<Vec<&'l LabelRow>> {
    let mut seen: HashMap<(&str, &str, &str, &str), usize> = HashMap::new();
    let mut rounds: Vec<Vec<&LabelRow>> = Vec::new();
    for label in labels {
        let times = seen.entry((&label.src, &label.uri, &label.cid, &label.val)).or_insert(0);
        match rounds.get_mut(*times) {
            Some(round) => round.push(label),
            None => rounds.push(vec![label]),
        }
        *times += 1;
    }
    for round in &mut rounds {
        round
            .sort_unstable_by(|a, b| (&a.src, &a.uri, &a.cid, &a.val).cmp(&(&b.src, &b.uri, &b.cid, &b.val)));
    }
    rounds
}

async fn write(
    connection: &mut PgConnection,
    statements: &Statements,
    labels: &[&LabelRow],
) -> Result<usize, EngineError> {
    let schema = statements.schema();
    let mut columns = String::from("src, uri, cid, val, neg, cts");
    let mut values = String::from(
        "unnest($1::text[]), unnest($2::text[]), unnest($3::text[]), unnest($4::text[]), unnest($5::bool[]), \
         unnest($6::text[])",
    );
    let mut set = String::from("neg = excluded.neg, cts = excluded.cts");
    if schema.label_expiry() {
        columns.push_str(", exp");
        values.push_str(", unnest($7::text[])");
        set.push_str(", exp = excluded.exp");
    }
    if schema.label_signatures() {
        columns.push_str(", sig");
        let place = if schema.label_expiry() { 8 } else { 7 };
        values.push_str(&format!(", unnest(${place}::bytea[])"));
        set.push_str(", sig = excluded.sig");
    }
    let sql = format!(
        "INSERT INTO label ({columns}) SELECT {values}
        ON CONFLICT (src, uri, cid, val) DO UPDATE SET {set} WHERE label.cts < excluded.cts"
    );
    let column =
        |value: fn(&LabelRow) -> &str| -> Vec<&str> { labels.iter().map(|label| value(label)).collect() };
    let mut query = statements
        .query(&sql)
        .bind(column(|label| &label.src))
        .bind(column(|label| &label.uri))
        .bind(column(|label| &label.cid))
        .bind(column(|label| &label.val))
        .bind(labels.iter().map(|label| label.neg).collect::<Vec<bool>>())
        .bind(column(|label| &label.cts));
    if schema.label_expiry() {
        query = query.bind(labels.iter().map(|label| label.exp.as_deref()).collect::<Vec<Option<&str>>>());
    }
    if schema.label_signatures() {
        query = query.bind(labels.iter().map(|label| label.sig.as_deref()).collect::<Vec<Option<&[u8]>>>());
    }
    let done = query.execute(connection).await?;
    Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(val: &str, cts: &str) -> LabelRow {
        LabelRow {
            src: "did:plc:l".into(),
            uri: "at://x".into(),
            cid: String::new(),
            val: val.into(),
            neg: false,
            cts: cts.into(),
            exp: None,
            sig: None,
        }
    }

    #[test]
    fn labels_of_one_key_keep_their_order_in_rounds_of_their_own() {
        let labels = [label("b", "1"), label("a", "2"), label("b", "3"), label("b", "2")];
        let labels: Vec<&LabelRow> = labels.iter().collect();
        let rounds: Vec<Vec<&str>> = rounds(&labels)
            .into_iter()
            .map(|round| round.into_iter().map(|l| l.cts.as_str()).collect())
            .collect();
        assert_eq!(rounds, [vec!["2", "1"], vec!["3"], vec!["2"]]);
    }
}
