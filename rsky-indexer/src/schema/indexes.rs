//! The indexes that the indexer's statements find their rows by. Without one of them a statement reads a whole table, for
//! each batch.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{PgConnection, Row as _};

use super::{Schema, SchemaError};
use crate::collections::ALL;
use rsky_common::postgres::transaction::{self, Preamble, Purpose};

/// What the declarations of the collections do not name: a table, and columns that rows are found by.
const NEEDED: &[(&str, &[&str])] = &[
    ("record", &["uri"]),
    ("record", &["did"]),
    ("duplicate_record", &["uri"]),
    ("duplicate_record", &["duplicateOf"]),
    ("post", &["replyParent"]),
    ("post_embed_image", &["postUri"]),
    ("post_embed_external", &["postUri"]),
    ("post_embed_record", &["postUri"]),
    ("post_embed_video", &["postUri"]),
    ("post_embed_gallery_image", &["postUri"]),
    ("quote", &["uri"]),
    ("quote", &["subject"]),
    ("feed_item", &["uri"]),
    ("feed_item", &["postUri"]),
    ("notification", &["recordUri"]),
    ("post_agg", &["uri"]),
    ("profile_agg", &["did"]),
    ("actor", &["did"]),
    ("actor", &["handle"]),
    ("actor_sync", &["did"]),
    ("label", &["src", "uri", "cid", "val"]),
];

/// An index that is missing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MissingIndex {
    /// The table.
    pub table: &'static str,
    /// Its columns, which may stand in any order at the beginning of the index.
    pub columns: Vec<&'static str>,
}

impl MissingIndex {
    /// The statement that makes it.
    pub fn statement(&self) -> String {
        let columns: Vec<String> = self.columns.iter().map(|column| format!("\"{column}\"")).collect();
        format!("CREATE INDEX CONCURRENTLY ON \"{}\" ({})", self.table, columns.join(", "))
    }
}

/// The indexes that the statements need and the database does not have.
///
/// # Errors
/// Those of the database.
pub async fn missing(
    connection: &mut PgConnection,
    preamble: &Preamble,
    schema: &Schema,
) -> Result<Vec<MissingIndex>, SchemaError> {
    transaction::begin(connection, preamble, Purpose::Catalogue).await?;
    let found = read(connection, preamble.schema()).await;
    let found = transaction::end(connection, found).await?;
    let mut missing: Vec<MissingIndex> = needed(schema)
        .into_iter()
        .filter(|(table, columns)| {
            !found.get(*table).is_some_and(|there| there.iter().any(|index| serves(index, columns)))
        })
        .map(|(table, columns)| MissingIndex { table, columns })
        .collect();
    missing.sort_unstable();
    missing.dedup();
    Ok(missing)
}

/// Whether an index begins with these columns, in whatever order.
fn serves(index: &[String], columns: &[&str]) -> bool {
    let first: BTreeSet<&str> = index.iter().take(columns.len()).map(String::as_str).collect();
    first == columns.iter().copied().collect()
}

fn needed(schema: &Schema) -> Vec<(&'static str, Vec<&'static str>)> {
    let fixed = NEEDED.iter().map(|(table, columns)| (*table, columns.to_vec()));
    let declared = ALL.iter().flat_map(|collection| {
        let table = collection.table.filter(|_| collection.is_in(schema.lexicons()));
        let of = move |at: &usize| table.and_then(|table| table.columns.get(*at)).map(|column| column.name);
        table.into_iter().flat_map(move |table| {
            let key: Vec<&str> = table.duplicate_key.iter().filter_map(of).collect();
            let counted =
                collection.aggregates.iter().filter_map(move |one| Some((table.name, vec![of(&one.by)?])));
            [(table.name, vec!["uri"]), (table.name, key)]
                .into_iter()
                .filter(|(_, columns)| !columns.is_empty())
                .chain(counted)
        })
    });
    fixed.chain(declared).filter(|(table, _)| schema.has_table(table)).collect()
}

/// Columns of every index that serves all rows, by table.
async fn read(
    connection: &mut PgConnection,
    schema: Option<&str>,
) -> Result<BTreeMap<String, Vec<Vec<String>>>, sqlx::Error> {
    let sql = "SELECT c.relname::text, array_agg(a.attname::text ORDER BY k.at)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, at)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
        WHERE i.indisvalid AND i.indpred IS NULL AND k.at <= i.indnkeyatts
            AND pg_table_is_visible(c.oid) AND ($1::text IS NULL OR n.nspname = $1)
        GROUP BY c.relname, i.indexrelid";
    let mut indexes: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
    for row in sqlx::query(sql).bind(schema).persistent(false).fetch_all(connection).await? {
        indexes.entry(row.try_get(0)?).or_default().push(row.try_get(1)?);
    }
    Ok(indexes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_a_key_is_of_no_matter_and_its_place_is() {
        let index = ["subject".to_owned(), "creator".to_owned(), "cid".to_owned()];
        assert!(serves(&index, &["creator", "subject"]) && serves(&index, &["subject"]));
        assert!(!serves(&index, &["creator"]) && !serves(&index[..1], &["creator", "subject"]));
    }

    #[test]
    fn a_statement_makes_it() {
        let missing = MissingIndex { table: "like", columns: vec!["subject"] };
        assert_eq!(missing.statement(), "CREATE INDEX CONCURRENTLY ON \"like\" (\"subject\")");
    }
}
