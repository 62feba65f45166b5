//! Postgres: how to connect, and what is found there.

use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use rsky_common::config::Secret;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection as _, PgConnection};
use tracing::{info, warn};

use crate::engine::Statements;
use crate::schema::{self, Schema, SchemaError};
use crate::survey::{self, Peer};
use crate::transaction::Preamble;

/// Longest wait for a connection that answers.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where and how to connect.
#[derive(Debug, Clone)]
pub struct Database {
    options: PgConnectOptions,
    preamble: Preamble,
    statement_cache: usize,
}

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

impl Database {
    /// Reads the URL. `statement_cache`: prepared statements kept per connection, where they may be kept.
    ///
    /// # Errors
    /// The URL is malformed; the message does not show it.
    pub fn new(url: &Secret, schema: Option<&str>, statement_cache: usize) -> anyhow::Result<Self> {
        let options = PgConnectOptions::from_str(url.expose()).context("read DATABASE_URL")?;
        let options = options
            .application_name("rsky-indexer")
            .statement_cache_capacity(statement_cache)
            // For numbers as text, of which there are none; a pooler refuses a connection that asks for it.
            .extra_float_digits(None)
            .disable_statement_logging();
        Ok(Self { options, preamble: Preamble::new(schema), statement_cache })
    }

    /// Opens a connection. Nothing is set on it: see [`crate::transaction`].
    ///
    /// # Errors
    /// Postgres cannot be reached in time or refuses.
    pub async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let connecting = async {
            let mut connection = PgConnection::connect_with(&self.options).await?;
            // A pooler greets whoever comes, and only then looks for a server.
            connection.ping().await?;
            Ok(connection)
        };
        tokio::time::timeout(CONNECT_TIMEOUT, connecting)
            .await
            .unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::TimedOut))))
    }

    /// Looks what is there. Says in the log what an operator may want to know.
    ///
    /// # Errors
    /// See [`SchemaError`].
    pub async fn inspect(&self, connection: &mut PgConnection) -> Result<Inspected, SchemaError> {
        let schema = schema::inspect(connection, &self.preamble).await?;
        let survey = survey::survey(self, connection).await?;
        let persistent = self.statement_cache > 0 && survey.peer == Peer::Server;
        info!("the database has the AppView's schema: {schema}");
        if self.statement_cache > 0 && !persistent {
            warn!(
                "at the other end of a connection to Postgres is {}: no statement stays prepared \
                 (as with DATABASE_STATEMENT_CACHE=0)",
                survey.peer
            );
        }
        let preamble = self.preamble.clone().looking_for_client(survey.looks_for_client);
        Ok(Inspected { schema, preamble, persistent })
    }
}

/// What to do about a connection that is refused for a reason that stays; `None` where waiting helps.
pub fn refusal(error: &sqlx::Error) -> Option<&'static str> {
    let error = error.as_database_error()?;
    let code = error.code()?;
    if code.starts_with("28") || code == "3D000" {
        return Some("connect to Postgres (DATABASE_URL)");
    }
    // PgBouncer has this one code for everything, a server that is away included: only its words tell.
    let refuses_parameter = code == "08P01" && error.message().contains("startup parameter");
    refuses_parameter.then_some(
        "connect to Postgres (DATABASE_URL): the pooler refuses a start-up parameter; add it to its \
         ignore_startup_parameters, or take it out of DATABASE_URL",
    )
}
