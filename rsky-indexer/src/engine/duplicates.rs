//! `duplicate_record`: records that say what another record says already (INDEXING §2).
//!
//! Indexes used: `duplicate_record_pkey`, its index on `"duplicateOf"`, each typed table's duplicate key.

use foldhash::{HashMap, HashSet};
use futures::TryStreamExt as _;
use sqlx::{PgConnection, Row as _};

use super::change::{Change, Content};
use super::promotion;
use super::sql::Statements;
use crate::collections::declaration_of;
use crate::text::at_uri::AtUri;

/// A record that stands behind a deleted one, with what `record` holds of it.
#[derive(Debug)]
pub(super) struct Candidate {
    /// The deleted one.
    pub stands_behind: String,
    pub uri: String,
    pub cid: String,
    pub did: String,
    pub json: String,
    pub time: String,
}

/// For each change whose row has a duplicate key, the uri that holds the key (its own included).
/// All changes are of one collection.
pub(crate) async fn holders<'c>(
    connection: &mut PgConnection,
    statements: &Statements,
    changes: &[&'c Change],
) -> Result<HashMap<&'c str, String>, sqlx::Error> {
    let mut holders = HashMap::default();
    let Some(table) = changes.first().and_then(|change| change.collection.table) else {
        return Ok(holders);
    };
    if table.duplicate_key.is_empty() {
        return Ok(holders);
    }
    let keys = (0_i64..).zip(changes).filter_map(|(place, change)| Some((change.duplicate_key()?, place)));
    let mut keyed: Vec<(Vec<&str>, i64)> = keys.collect();
    if keyed.is_empty() {
        return Ok(holders);
    }
    // Neighbours in the index are asked for one after the other.
    keyed.sort_unstable();
    let places: Vec<i64> = keyed.iter().map(|(_, place)| *place).collect();
    let mut query = statements.query(statements.table(table).find_duplicate());
    for at in 0..table.duplicate_key.len() {
        query = query.bind(keyed.iter().filter_map(|(key, _)| key.get(at).copied()).collect::<Vec<&str>>());
    }
    let rows = query.bind(places).fetch_all(connection).await?;
    let mut found: Vec<(i64, String)> =
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, sqlx::Error>>()?;
    // Of two changes of one record the later one's holder counts.
    found.sort_unstable();
    for (place, holder) in found {
        if let Some(change) = usize::try_from(place).ok().and_then(|at| changes.get(at)) {
            holders.insert(change.uri.as_str(), holder);
        }
    }
    Ok(holders)
}

/// Notes records as duplicates of their holders; a record that is noted already stays as it is.
pub(super) async fn add(
    connection: &mut PgConnection,
    statements: &Statements,
    duplicates: &[(&Change, &Content, String)],
) -> Result<(), sqlx::Error> {
    let sql = r#"INSERT INTO duplicate_record (uri, cid, "duplicateOf", "indexedAt")
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) ON CONFLICT DO NOTHING"#;
    write(connection, statements, sql, duplicates).await
}

/// Points records that are noted as duplicates at the holder of their new key; others are left alone.
pub(super) async fn redirect(
    connection: &mut PgConnection,
    statements: &Statements,
    duplicates: &[(&Change, &Content, String)],
) -> Result<(), sqlx::Error> {
    let sql = r#"UPDATE duplicate_record SET cid = v.cid, "duplicateOf" = v.holder, "indexedAt" = v.time
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS v(uri, cid, holder, time)
        WHERE duplicate_record.uri = v.uri"#;
    write(connection, statements, sql, duplicates).await
}

async fn write(
    connection: &mut PgConnection,
    statements: &Statements,
    sql: &str,
    duplicates: &[(&Change, &Content, String)],
) -> Result<(), sqlx::Error> {
    if duplicates.is_empty() {
        return Ok(());
    }
    let uris: Vec<&str> = duplicates.iter().map(|(change, _, _)| change.uri.as_str()).collect();
    let cids: Vec<&str> = duplicates.iter().map(|(_, content, _)| content.cid.as_str()).collect();
    let holders: Vec<&str> = duplicates.iter().map(|(_, _, holder)| holder.as_str()).collect();
    let times: Vec<&str> = duplicates.iter().map(|(change, _, _)| change.time.as_str()).collect();
    statements.query(sql).bind(uris).bind(cids).bind(holders).bind(times).execute(connection).await?;
    Ok(())
}

/// Forgets that these records are duplicates.
pub(super) async fn remove(
    connection: &mut PgConnection,
    statements: &Statements,
    uris: &[&str],
) -> Result<(), sqlx::Error> {
    if uris.is_empty() {
        return Ok(());
    }
    let sql = "DELETE FROM duplicate_record WHERE uri = ANY($1)";
    statements.query(sql).bind(uris).execute(connection).await?;
    Ok(())
}

/// The oldest record behind each of these deleted ones (INDEXING §2.3, step 5).
pub(super) async fn oldest_behind(
    connection: &mut PgConnection,
    statements: &Statements,
    uris: &[&str],
) -> Result<Vec<Candidate>, sqlx::Error> {
    if uris.is_empty() {
        return Ok(Vec::new());
    }
    let sql = r#"SELECT DISTINCT ON (d."duplicateOf") r.uri, r.cid, r.did, r.json, r."indexedAt", d."duplicateOf"
        FROM duplicate_record d JOIN record r ON r.uri = d.uri
        WHERE d."duplicateOf" = ANY($1)
        ORDER BY d."duplicateOf", d."indexedAt", d.uri"#;
    let rows = statements.query(sql).bind(uris).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            Ok(Candidate {
                uri: row.try_get(0)?,
                cid: row.try_get(1)?,
                did: row.try_get(2)?,
                json: row.try_get(3)?,
                time: row.try_get(4)?,
                stands_behind: row.try_get(5)?,
            })
        })
        .collect()
}

/// Of these records, those that stand behind another as duplicates, with the one in front.
pub(crate) async fn in_waiting(
    connection: &mut PgConnection,
    statements: &Statements,
    uris: &[&str],
) -> Result<HashMap<String, String>, sqlx::Error> {
    if uris.is_empty() {
        return Ok(HashMap::default());
    }
    let sql = r#"SELECT uri, "duplicateOf" FROM duplicate_record WHERE uri = ANY($1)"#;
    let rows = statements.query(sql).bind(uris).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Most duplicate keys that are told apart behind one record. Mostly there is one; there are more where the record in front
/// was replaced again and again, each time with others that said the same.
const MOST_KEYS: usize = 64;

/// Of these records, those that others stand behind, with what the oldest `most` of the others say: the duplicate keys of
/// the rows that they would get, at most [`MOST_KEYS`]. That is not always the key that the record in front has now: it may
/// have had another.
pub(crate) async fn keys_behind(
    connection: &mut PgConnection,
    statements: &Statements,
    uris: &[&str],
    most: usize,
) -> Result<HashMap<String, HashSet<Vec<String>>>, sqlx::Error> {
    let mut keys: HashMap<String, HashSet<Vec<String>>> = HashMap::default();
    if uris.is_empty() {
        return Ok(keys);
    }
    let sql = r#"SELECT d.uri, f.uri, r.did, r.json FROM unnest($1::text[]) AS f(uri)
        CROSS JOIN LATERAL (SELECT uri FROM duplicate_record WHERE "duplicateOf" = f.uri
            ORDER BY "indexedAt", uri LIMIT $2) d
        LEFT JOIN record r ON r.uri = d.uri"#;
    // One row at a time: there may be very many.
    let query = statements.query(sql).bind(uris).bind(i64::try_from(most).unwrap_or(i64::MAX));
    let mut rows = query.fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let (uri, before): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let found = keys.entry(before).or_default();
        let recorded: (Option<String>, Option<String>) = (row.try_get(2)?, row.try_get(3)?);
        if let (Some(did), Some(json)) = recorded {
            found.extend(key_of(&uri, did, json).filter(|_| found.len() < MOST_KEYS));
        }
    }
    Ok(keys)
}

/// The duplicate key of the row that a record would get.
fn key_of(uri: &str, did: String, json: String) -> Option<Vec<String>> {
    let collection = declaration_of(AtUri::parse(uri)?.collection())?;
    let candidate = Candidate {
        stands_behind: String::new(),
        uri: uri.to_owned(),
        cid: String::new(),
        did,
        json,
        time: String::new(),
    };
    let (change, content) = promotion::as_change(collection, candidate)?;
    let context = change.context(&content);
    let row = content.row.as_ref()?;
    let columns = collection.table?.duplicate_key.iter();
    columns.map(|column| row.value(*column, &context).map(str::to_owned)).collect()
}
