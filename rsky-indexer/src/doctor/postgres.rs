//! Postgres: reachable, of a version that will do, with the AppView's tables, rights on them, and the indexes they need.

use std::collections::BTreeMap;
use std::time::Duration;

use rsky_common::doctor::{Doctor, Finding, Level, authority, host};
use rsky_common::postgres::{Peer, PostgresServer, refusal, survey};
use sqlx::postgres::PgRow;
use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::time::timeout;

use crate::config::Config;
use crate::database::{self, Inspected};
use crate::schema::{self, Generation, SchemaError, indexes};
use rsky_common::postgres::transaction::{self, Preamble, Purpose};

/// The oldest version whose statements are used, as `server_version_num` has it.
const LEAST: i32 = 130_000;
/// Time for one question.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Age of a transaction that holds up vacuum, and perhaps rows.
const OLD_SECONDS: i64 = 900;

/// Looks at the database.
pub(super) async fn look(config: &Config, doctor: &mut Doctor) {
    if let Some((name, port)) = authority(&config.database.url, 5432) {
        doctor.note(&host::name("postgres", &name, port).await);
    }
    let server = match database::server(&config.database) {
        Ok(server) => server,
        Err(error) => {
            return doctor.note(&Finding::broken("postgres", format!("{error:#}"), "correct DATABASE_URL"));
        }
    };
    let mut connection = match server.connect().await {
        Ok(connection) => connection,
        Err(error) => {
            let says = format!("no connection to {}: {error}", config.database.url);
            let todo = refusal(&error).unwrap_or("start it, or correct DATABASE_URL");
            return doctor.note(&Finding::broken("postgres", says, todo));
        }
    };
    doctor.check("postgres", facts(&mut connection, config)).await;
    doctor.check("pooler", pooler(&server, &mut connection, config)).await;
    let preamble = Preamble::new(config.database.schema.as_deref());
    match timeout(TIMEOUT, schema::inspect(&mut connection, &preamble)).await {
        Ok(Ok(found)) => {
            doctor.note(&generation(&found));
            let found = Inspected { schema: found, preamble, persistent: false };
            doctor.check("rights", rights(&mut connection, &found)).await;
            doctor.check("indexes", missing(&mut connection, &found)).await;
        }
        Ok(Err(SchemaError::Differs(differences))) => doctor.note(&Finding::broken(
            "schema",
            format!("it is not the AppView's: {}", differences.join("; ")),
            "see that DATABASE_URL and DATABASE_SCHEMA lead to the AppView's tables, and that its migrations ran",
        )),
        Ok(Err(SchemaError::Database(error))) => {
            doctor.note(&Finding::broken("schema", format!("it cannot be looked at: {error}"), "see the error"));
        }
        Err(_) => doctor.note(&Finding::broken("schema", "the catalogue gives no answer", "see what locks it")),
    }
    // What was to be known is known.
    drop(timeout(Duration::from_secs(1), connection.close()).await);
}

/// Facts of the server, in one question.
struct Server {
    version: i32,
    shown: String,
    standby: bool,
    read_only: bool,
    now: f64,
    most: i32,
    role_most: i32,
    taken: i64,
    oldest: i64,
}

impl Server {
    fn of(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            version: row.try_get("version")?,
            shown: row.try_get("shown")?,
            standby: row.try_get("standby")?,
            read_only: row.try_get("read_only")?,
            now: row.try_get("now")?,
            most: row.try_get("most")?,
            role_most: row.try_get("role_most")?,
            taken: row.try_get("taken")?,
            oldest: row.try_get("oldest")?,
        })
    }
}

const SERVER: &str = "SELECT current_setting('server_version_num')::int AS version, \
    current_setting('server_version') AS shown, pg_is_in_recovery() AS standby, \
    current_setting('default_transaction_read_only') = 'on' AS read_only, \
    extract(epoch FROM clock_timestamp())::float8 AS now, current_setting('max_connections')::int AS most, \
    coalesce((SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user), -1) AS role_most, \
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS taken, \
    coalesce((SELECT max(extract(epoch FROM clock_timestamp() - xact_start))::int8 FROM pg_stat_activity \
        WHERE backend_type = 'client backend'), 0) AS oldest";

async fn facts(connection: &mut PgConnection, config: &Config) -> Vec<Finding> {
    let preamble = Preamble::new(None);
    let asked = async {
        transaction::begin(connection, &preamble, Purpose::Catalogue).await?;
        let row = sqlx::query(SERVER).persistent(false).fetch_one(&mut *connection).await;
        transaction::end(connection, row.and_then(|row| Server::of(&row))).await
    };
    let server: Server = match asked.await {
        Ok(server) => server,
        Err::<Server, sqlx::Error>(error) => {
            return vec![Finding::broken(
                "postgres",
                format!("it does not answer: {error}"),
                "see the error",
            )];
        }
    };
    let mut findings = vec![if server.version < LEAST {
        Finding::broken(
            "postgres",
            format!("version {} is too old", server.shown),
            "use Postgres 13 or newer",
        )
    } else {
        Finding::fine("postgres", format!("version {} at {}", server.shown, config.database.url))
    }];
    if server.standby {
        findings.push(Finding::broken(
            "postgres",
            "it is a standby: nothing can be written",
            "point DATABASE_URL at the primary",
        ));
    } else if server.read_only {
        findings.push(Finding::look(
            "postgres",
            "default_transaction_read_only is on (the indexer's transactions say otherwise themselves)",
            "see whether somebody wanted nobody to write",
        ));
    }
    let whole = if server.now.is_finite() && server.now > 0.0 { server.now as u64 } else { 0 };
    findings.push(host::clock("Postgres", host::moment(whole)));
    findings.push(connections(&server, config));
    if server.oldest > OLD_SECONDS {
        findings.push(Finding::look(
            "postgres",
            format!(
                "a transaction has been open for {} min: it keeps vacuum from its work, and may hold rows",
                server.oldest / 60
            ),
            "see pg_stat_activity, ordered by xact_start",
        ));
    }
    findings
}

fn connections(server: &Server, config: &Config) -> Finding {
    let wanted = i64::try_from(config.connections).unwrap_or(i64::MAX);
    let limit = if server.role_most >= 0 { server.role_most.min(server.most) } else { server.most };
    let says = format!(
        "{} of {} connections taken; this process takes {wanted} at most (DB_POOL_MAX_SIZE)",
        server.taken, server.most
    );
    if wanted > i64::from(limit) {
        Finding::look(
            "postgres",
            format!("{says}, of which the role gets {limit}: they are shared"),
            "lower DB_POOL_MAX_SIZE, or raise the limit",
        )
    } else if server.taken.saturating_add(3) >= i64::from(server.most) {
        Finding::look(
            "postgres",
            format!("{says}: hardly any is left"),
            "see who takes them (pg_stat_activity), or use a pooler",
        )
    } else {
        Finding::fine("postgres", says)
    }
}

async fn pooler(server: &PostgresServer, connection: &mut PgConnection, config: &Config) -> Vec<Finding> {
    vec![match survey(server, connection).await {
        Ok(found) => match found.peer {
            Peer::Server => Finding::fine("pooler", "none in between, or one that keeps sessions"),
            Peer::TransactionPooler if config.database.statement_cache > 0 => Finding::fine(
                "pooler",
                "one that gives out servers per transaction: no statement stays prepared (DATABASE_STATEMENT_CACHE=0 says so \
                 beforehand)",
            ),
            Peer::TransactionPooler => Finding::fine("pooler", "one that gives out servers per transaction"),
            Peer::Unknown => Finding::look(
                "pooler",
                "not known, for lack of a second connection",
                "see why there is only one (max_connections, the role's limit, the pooler's size)",
            ),
        },
        Err(error) => Finding::look("pooler", format!("not known: {error}"), "see the error"),
    }]
}

fn generation(found: &schema::Schema) -> Finding {
    match found.generation() {
        Generation::Between => Finding::look(
            "schema",
            format!("{found}"),
            "nothing, if the AppView that reads it is as old; otherwise see whether its migrations ran",
        ),
        _ => Finding::fine("schema", found.to_string()),
    }
}

/// What the role may do with each table.
async fn rights(connection: &mut PgConnection, found: &Inspected) -> Vec<Finding> {
    let tables = schema::tables(&found.schema);
    let sql = "SELECT t, p FROM unnest($1::text[]) AS t CROSS JOIN unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS p
        WHERE NOT has_table_privilege(quote_ident(t), p) ORDER BY 1, 2";
    let asked = async {
        transaction::begin(connection, &found.preamble, Purpose::Catalogue).await?;
        let query = sqlx::query_as::<_, (String, String)>(sql).bind(&tables).persistent(false);
        let rows = query.fetch_all(&mut *connection).await;
        transaction::end(connection, rows).await
    };
    // The indexer only reads who has muted a thread.
    let needed = |(table, right): &(String, String)| table != "thread_mute" || right == "SELECT";
    vec![match asked.await {
        Ok::<Vec<(String, String)>, sqlx::Error>(lacking) => {
            let mut by_table: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (table, right) in lacking.into_iter().filter(needed) {
                by_table.entry(table).or_default().push(right);
            }
            let mut by_rights: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (table, rights) in by_table {
                by_rights.entry(rights.join(", ")).or_default().push(table);
            }
            if by_rights.is_empty() {
                return vec![Finding::fine(
                    "rights",
                    format!("all that is needed on {} tables", tables.len()),
                )];
            }
            let said: Vec<String> = by_rights.iter().map(|(rights, tables)| lacks(rights, tables)).collect();
            let says = format!("the role lacks {}", said.join("; "));
            Finding::broken("rights", says, "GRANT them to the role of DATABASE_URL")
        }
        Err(error) => Finding::look("rights", format!("not known: {error}"), "see the error"),
    }]
}

fn lacks(rights: &str, tables: &[String]) -> String {
    const NAMED: usize = 8;
    let named: Vec<&str> = tables.iter().take(NAMED).map(String::as_str).collect();
    match tables.len().saturating_sub(NAMED) {
        0 => format!("{rights} on {}", named.join(", ")),
        more => format!("{rights} on {} and {more} more tables", named.join(", ")),
    }
}

async fn missing(connection: &mut PgConnection, found: &Inspected) -> Vec<Finding> {
    match indexes::missing(connection, &found.preamble, &found.schema).await {
        Ok(missing) if missing.is_empty() => {
            vec![Finding::fine("indexes", "all that the statements find their rows by")]
        }
        Ok(missing) => missing
            .iter()
            .map(|index| Finding {
                level: Level::Broken,
                about: "indexes".to_owned(),
                says: format!(
                    "{} has none on {}: each batch reads the whole table",
                    index.table,
                    index.columns.join(", ")
                ),
                todo: Some(index.statement()),
            })
            .collect(),
        Err(error) => vec![Finding::look("indexes", format!("not known: {error}"), "see the error")],
    }
}
