//! `"takedownRef"` of typed rows, where the schema has it: a moderator's word, which stands whatever version of the
//! record comes next (SCHEMA-VARIANTS §2). Indexes used: the typed tables' primary keys.

use foldhash::HashMap;
use sqlx::{PgConnection, Row as _};

use super::sql::Statements;
use crate::collections::Collection;

/// Takedowns of rows that are being replaced, by uri.
pub(super) type Takedowns = HashMap<String, String>;

/// The table of a collection whose rows can be taken down.
fn table(statements: &Statements, collection: &Collection) -> Option<&'static str> {
    let name = collection.table?.name;
    (crate::schema::WITH_TAKEDOWNS.contains(&name) && statements.schema().has_column(name, "takedownRef"))
        .then_some(name)
}

/// Before rows are replaced: which of them are taken down.
pub(super) async fn load(
    connection: &mut PgConnection,
    statements: &Statements,
    collection: &Collection,
    uris: &[&str],
) -> Result<Takedowns, sqlx::Error> {
    let Some(table) = table(statements, collection).filter(|_| !uris.is_empty()) else {
        return Ok(Takedowns::default());
    };
    let sql = format!(
        "SELECT uri, \"takedownRef\" FROM \"{table}\" WHERE uri = ANY($1) AND \"takedownRef\" IS NOT NULL"
    );
    let rows = statements.query(&sql).bind(uris).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// After rows were replaced: those that were taken down are so again.
pub(super) async fn restore(
    connection: &mut PgConnection,
    statements: &Statements,
    collection: &Collection,
    takedowns: &Takedowns,
    uris: &[&str],
) -> Result<(), sqlx::Error> {
    let Some(table) = table(statements, collection) else { return Ok(()) };
    let (uris, refs): (Vec<&str>, Vec<&str>) =
        uris.iter().filter_map(|uri| Some((*uri, takedowns.get(*uri)?.as_str()))).unzip();
    if uris.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "UPDATE \"{table}\" t SET \"takedownRef\" = v.ref FROM unnest($1::text[], $2::text[]) AS v(uri, ref)
        WHERE t.uri = v.uri"
    );
    statements.query(&sql).bind(uris).bind(refs).execute(connection).await?;
    Ok(())
}
