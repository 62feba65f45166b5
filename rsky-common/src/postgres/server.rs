//! Connections to the database.

use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection as _, PgConnection};

use super::PostgresSettings;
use super::transaction::Preamble;

/// Longest wait for a connection that answers.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where and how to connect.
#[derive(Debug, Clone)]
pub struct PostgresServer {
    options: PgConnectOptions,
    preamble: Preamble,
    statement_cache: usize,
}

impl PostgresServer {
    /// Takes the settings; no connection is made. `application_name` is what the server is told about who connects.
    ///
    /// # Errors
    /// The URL is malformed; the message does not show it.
    pub fn new(settings: &PostgresSettings, application_name: &str) -> anyhow::Result<Self> {
        let options = PgConnectOptions::from_str(settings.url.expose()).context("read DATABASE_URL")?;
        let options = options
            .application_name(application_name)
            .statement_cache_capacity(settings.statement_cache)
            // For numbers as text, of which there are none; a pooler refuses a connection that asks for it.
            .extra_float_digits(None)
            .disable_statement_logging();
        let preamble = Preamble::new(settings.schema.as_deref());
        Ok(Self { options, preamble, statement_cache: settings.statement_cache })
    }

    /// Opens a connection. Nothing is set on it: see [`super::transaction`].
    ///
    /// # Errors
    /// Postgres cannot be reached in ten seconds, or refuses.
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

    /// What every transaction says.
    pub fn preamble(&self) -> &Preamble {
        &self.preamble
    }

    /// Whether statements may stay prepared, as far as the settings go.
    pub fn keeps_statements(&self) -> bool {
        self.statement_cache > 0
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
