//! What the database's catalogue says. Asking it needs no privilege on the tables.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{PgConnection, Row as _};

/// Tables and their columns, by unquoted name.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    pub tables: BTreeMap<String, BTreeMap<String, Column>>,
    /// Whether an insertion into `notification` runs a trigger.
    pub notification_trigger: bool,
}

/// A column's facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub not_null: bool,
    /// Whether a row can be inserted without naming it: a default, generated, an identity.
    pub fills_itself: bool,
    /// Name of its type, as `format_type` writes it.
    pub kind: String,
}

/// Whether a schema exists and is where the connection's tables are looked for first.
pub(super) async fn is_current_schema(
    connection: &mut PgConnection,
    schema: &str,
) -> Result<bool, sqlx::Error> {
    let sql = "SELECT current_schema() IS NOT DISTINCT FROM $1";
    sqlx::query_scalar(sql).bind(schema).persistent(false).fetch_one(connection).await
}

/// Reads what is known of these tables: in this schema, or in the first of the search path that has each.
pub(super) async fn read(
    connection: &mut PgConnection,
    schema: Option<&str>,
    tables: &BTreeSet<&'static str>,
) -> Result<Catalogue, sqlx::Error> {
    let sql = "SELECT c.relname::text, a.attname::text, a.attnotnull,
            a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> '', format_type(a.atttypid, NULL)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relname = ANY($1) AND c.relkind IN ('r', 'p', 'v', 'f')
            AND pg_table_is_visible(c.oid) AND ($2::text IS NULL OR n.nspname = $2)";
    let names: Vec<&str> = tables.iter().copied().collect();
    let mut catalogue = Catalogue::default();
    let rows =
        sqlx::query(sql).bind(names).bind(schema).persistent(false).fetch_all(&mut *connection).await?;
    for row in rows {
        let column =
            Column { not_null: row.try_get(2)?, fills_itself: row.try_get(3)?, kind: row.try_get(4)? };
        catalogue.tables.entry(row.try_get(0)?).or_default().insert(row.try_get(1)?, column);
    }
    // Of `tgtype`, the bit of 4 is INSERT; a disabled trigger is 'D'.
    let sql = "SELECT EXISTS (SELECT FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE c.relname = 'notification' AND pg_table_is_visible(c.oid)
            AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgtype & 4 <> 0)";
    catalogue.notification_trigger = sqlx::query_scalar(sql).persistent(false).fetch_one(connection).await?;
    Ok(catalogue)
}
