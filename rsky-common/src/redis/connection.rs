//! Connections that come back.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, IntoConnectionInfo, Pipeline, RedisError};
use tokio_util::sync::CancellationToken;

use super::Gate;
use super::errors::{Disposition, breaks_connection, disposition, explain, refuses_writes};
use super::gate::Outage;
use crate::admin::Readiness;
use crate::config::{ConfigError, Secret};
use crate::runtime::Backoff;

/// Time for TCP, TLS and the handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a reply. A transaction of some MiB over a slow line takes less; a server that forks or loads takes longer
/// now and then, which costs a reconnect and, for a write, a look at the cursor.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// A Redis server: where it is, not a connection to it.
#[derive(Clone, Debug)]
pub struct RedisServer {
    client: Client,
    shown: String,
}

impl RedisServer {
    /// Checks the URL; no connection is made.
    ///
    /// # Errors
    /// The URL cannot be understood. The message names `REDIS_URL` and does not show its value.
    pub fn new(url: &Secret) -> Result<Self, ConfigError> {
        let parsed = url.expose().into_connection_info().and_then(Client::open);
        match parsed {
            Ok(client) => Ok(Self { client, shown: url.to_string() }),
            Err(error) => Err(ConfigError::of(format!(
                "REDIS_URL ({url}) is malformed ({}): expected redis://[user:password@]host[:port][/db]",
                error.category()
            ))),
        }
    }

    /// The URL without its password.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// A link with connections of its own. `purpose` is for the log; `readiness` says on the admin pages whether it
    /// is connected.
    pub fn link(
        &self,
        purpose: impl Into<String>,
        readiness: Readiness,
        stop: &CancellationToken,
    ) -> RedisLink {
        RedisLink {
            server: self.clone(),
            purpose: purpose.into(),
            readiness,
            stop: stop.clone(),
            connection: None,
            connections: 0,
            gate: None,
            response_timeout: RESPONSE_TIMEOUT,
            backoff: Backoff::local(),
        }
    }

    /// One attempt to connect.
    ///
    /// # Errors
    /// Whatever went wrong, within the connect timeout.
    pub async fn connect(&self, response_timeout: Duration) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(response_timeout));
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }
}

/// Why a command has no result.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// We shall stop.
    #[error("stopped while waiting for Redis")]
    Stopped,
    /// The server refused, or the connection was lost.
    #[error("Redis: {}", explain(.0))]
    Redis(#[from] RedisError),
}

impl LinkError {
    /// Whether waiting helps; never after a stop.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Stopped => false,
            Self::Redis(error) => disposition(error) == Disposition::Transient,
        }
    }

    /// Whether the user that we are may not do this.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Redis(error) if error.code() == Some("NOPERM"))
    }
}

/// A user of Redis with a connection of its own, made when first needed and made again when lost.
///
/// Nobody else shares the connection, so a blocking read holds up nothing.
#[derive(Debug)]
pub struct RedisLink {
    server: RedisServer,
    purpose: String,
    readiness: Readiness,
    stop: CancellationToken,
    connection: Option<MultiplexedConnection>,
    /// How many connections there have been.
    connections: u64,
    /// Told while nothing can be written.
    gate: Option<Gate>,
    response_timeout: Duration,
    backoff: Backoff,
}

impl RedisLink {
    /// Allows replies to take `block` longer: for a link whose reads block that long.
    #[must_use]
    pub fn blocking(mut self, block: Duration) -> Self {
        self.response_timeout = RESPONSE_TIMEOUT + block;
        self
    }

    /// Tells the gate of the stream that is written over this link while the server takes no writes.
    #[must_use]
    pub fn telling(mut self, gate: Gate) -> Self {
        self.gate = Some(gate);
        self
    }

    /// Whether there is a connection, as far as is known.
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// How many connections there have been: another number, and what was true of the server need not be true any more.
    pub fn connections(&self) -> u64 {
        self.connections
    }

    /// The token that ends every wait of this link.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Replaces that token: a writer drains after the readers were told to stop.
    #[must_use]
    pub fn stopped_by(mut self, stop: CancellationToken) -> Self {
        self.stop = stop;
        self
    }

    /// A live connection, waiting for the server as long as it takes.
    ///
    /// # Errors
    /// `Stopped`, or an error that waiting does not cure (a wrong password).
    pub async fn connection(&mut self) -> Result<&mut MultiplexedConnection, LinkError> {
        let mut backoff = Backoff::local();
        while self.connection.is_none() {
            let attempt = self.server.connect(self.response_timeout);
            let outcome = tokio::select! {
                () = self.stop.cancelled() => return Err(LinkError::Stopped),
                outcome = attempt => outcome,
            };
            match outcome {
                Ok(connection) => {
                    if backoff.attempts() > 0 {
                        tracing::info!(
                            purpose = self.purpose,
                            "connected to Redis at {} again",
                            self.server.shown
                        );
                    }
                    self.readiness.ready();
                    self.connections = self.connections.saturating_add(1);
                    self.tell(Outage::Over);
                    self.connection = Some(connection);
                }
                Err(error) if disposition(&error) == Disposition::Fatal => return Err(error.into()),
                Err(error) => {
                    let why = explain(&error);
                    self.readiness
                        .not_ready(format!("no connection to Redis at {}: {why}", self.server.shown));
                    self.tell(Outage::Connection);
                    if backoff.attempts() == 0 {
                        tracing::warn!(
                            purpose = self.purpose,
                            "no connection to Redis at {}: {why}; waiting for it",
                            self.server.shown
                        );
                    }
                    if !backoff.wait(&self.stop).await {
                        return Err(LinkError::Stopped);
                    }
                }
            }
        }
        self.connection.as_mut().ok_or(LinkError::Stopped)
    }

    /// Runs a command once, on a live connection.
    ///
    /// # Errors
    /// The command failed. After a lost connection the server may or may not have executed it.
    pub async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, LinkError> {
        let connection = self.connection().await?;
        let outcome = command.query_async(connection).await;
        self.seen(outcome)
    }

    /// Runs a pipeline once, on a live connection.
    ///
    /// # Errors
    /// As [`RedisLink::query`]; a refused command in it is an error of the whole.
    pub async fn pipeline<T: FromRedisValue>(&mut self, pipeline: &Pipeline) -> Result<T, LinkError> {
        let connection = self.connection().await?;
        let outcome = pipeline.query_async(connection).await;
        self.seen(outcome)
    }

    /// Runs a transaction, and a pipeline right behind it in the same round trip. `None`: the transaction was not
    /// executed, since a watched key had been touched.
    pub async fn pipeline_then<T: FromRedisValue, U: FromRedisValue>(
        &mut self,
        transaction: &Pipeline,
        then: &Pipeline,
    ) -> (Result<Option<T>, LinkError>, Result<U, LinkError>) {
        let mut connection = match self.connection().await {
            Ok(connection) => connection.clone(),
            Err(error) => return (Err(error), Err(LinkError::Stopped)),
        };
        let mut behind = connection.clone();
        // Polled in this order, so sent in this order.
        let (first, second) =
            futures::join!(transaction.query_async(&mut connection), then.query_async(&mut behind));
        (self.seen(first), self.seen(second))
    }

    /// Runs a command until it succeeds. Only for commands that may be executed twice.
    ///
    /// # Errors
    /// `Stopped`, or an error that waiting does not cure.
    pub async fn retry<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, LinkError> {
        loop {
            match self.query(command).await {
                Ok(value) => {
                    self.succeeded();
                    return Ok(value);
                }
                Err(error) => self.wait_out(error).await?,
            }
        }
    }

    /// After a failed attempt: pauses if waiting helps, gives the error back if not.
    ///
    /// # Errors
    /// `Stopped`, or the given error when it is not transient.
    pub async fn wait_out(&mut self, error: LinkError) -> Result<(), LinkError> {
        if !error.is_transient() {
            return Err(error);
        }
        // Said once per outage; the pages show the rest.
        if self.backoff.attempts() == 0 {
            tracing::warn!(purpose = self.purpose, "{error}; waiting");
        }
        self.readiness.not_ready(error.to_string());
        let writes_alone = matches!(&error, LinkError::Redis(error) if refuses_writes(error));
        self.tell(if writes_alone { Outage::Writes } else { Outage::Connection });
        if self.backoff.wait(&self.stop).await { Ok(()) } else { Err(LinkError::Stopped) }
    }

    /// The server does its part, but we cannot go on for another reason; said by readiness until the next success.
    pub fn held_up(&self, why: impl Into<String>) {
        self.readiness.not_ready(why);
    }

    /// The last command went through: the outage, if there was one, is over.
    pub fn succeeded(&mut self) {
        if self.backoff.attempts() > 0 {
            tracing::info!(purpose = self.purpose, "Redis works again");
        }
        self.backoff.reset();
        self.readiness.ready();
    }

    /// As [`RedisLink::succeeded`], for a write.
    pub fn wrote(&mut self) {
        self.succeeded();
        self.tell(Outage::None);
    }

    fn tell(&self, outage: Outage) {
        if let Some(gate) = &self.gate {
            gate.note_outage(outage);
        }
    }

    fn seen<T>(&mut self, outcome: Result<T, RedisError>) -> Result<T, LinkError> {
        if let Err(error) = &outcome
            && breaks_connection(error)
        {
            self.connection = None;
        }
        Ok(outcome?)
    }
}
