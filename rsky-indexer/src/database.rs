//! Postgres: what is found there.

use rsky_common::postgres::transaction::Preamble;
use rsky_common::postgres::{Peer, PostgresServer, PostgresSettings, survey};
use sqlx::PgConnection;
use tracing::{info, warn};

use crate::engine::Statements;
use crate::schema::{self, Schema, SchemaError};

/// What the server is told about who connects.
const APPLICATION_NAME: &str = "rsky-indexer";

/// What a database turned out to be. Fixed for the life of the process.
#[derive(Debug, Clone)]
pub struct Inspected {
    /// Its tables and columns.
    pub schema: Schema,
    /// What every transaction says.
    pub preamble: Preamble,
    /// Whether prepared statements outlive their use.
    pub persistent: bool,
}

impl Inspected {
    /// The engine's statements for it.
    pub fn statements(&self) -> Statements {
        Statements::new(self.persistent, self.schema.clone()).with_preamble(self.preamble.clone())
    }
}

/// Where the indexer and its commands connect.
///
/// # Errors
/// The URL is malformed; the message does not show it.
pub fn server(settings: &PostgresSettings) -> anyhow::Result<PostgresServer> {
    PostgresServer::new(settings, APPLICATION_NAME)
}

/// Looks what is there. Says in the log what an operator may want to know.
///
/// # Errors
/// See [`SchemaError`].
pub async fn inspect(
    server: &PostgresServer,
    connection: &mut PgConnection,
) -> Result<Inspected, SchemaError> {
    let schema = schema::inspect(connection, server.preamble()).await?;
    let survey = survey(server, connection).await?;
    let persistent = server.keeps_statements() && survey.peer == Peer::Server;
    info!("the database has the AppView's schema: {schema}");
    if server.keeps_statements() && !persistent {
        warn!(
            "at the other end of a connection to Postgres is {}: no statement stays prepared \
             (as with DATABASE_STATEMENT_CACHE=0)",
            survey.peer
        );
    }
    let preamble = server.preamble().clone().looking_for_client(survey.looks_for_client);
    Ok(Inspected { schema, preamble, persistent })
}
