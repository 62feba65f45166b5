//! What the connections lead to, beside the schema: a server each, or a pooler that gives one out per transaction; and
//! what the server can do. Looked at once, at the start.

use std::fmt;

use sqlx::{Connection as _, PgConnection};

use super::PostgresServer;
use super::transaction::{self, Preamble, Purpose};

/// Transactions on each of two connections. A pooler with several idle servers gives out the same ones again and again,
/// a busy one others all the time: either shows after a few.
const ROUNDS: usize = 8;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Survey {
    /// What is at the other end.
    pub peer: Peer,
    /// Whether a statement whose client is gone can be made to end.
    pub looks_for_client: bool,
}

/// What is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A server process that is this connection's own: it remembers what was prepared.
    Server,
    /// A pooler that gives out server processes per transaction: what was prepared may be gone, or somebody else's.
    TransactionPooler,
    /// There was no second connection to find out with.
    Unknown,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "a server",
            Self::TransactionPooler => "a pooler that gives out servers per transaction",
            Self::Unknown => "unknown, for lack of a second connection",
        })
    }
}

/// Looks at what is behind a connection.
///
/// # Errors
/// Those of the database.
pub async fn survey(server: &PostgresServer, connection: &mut PgConnection) -> Result<Survey, sqlx::Error> {
    let preamble = Preamble::new(None);
    let looks_for_client = looks_for_client(connection, &preamble).await;
    let Ok(mut other) = server.connect().await else {
        return Ok(Survey { peer: Peer::Unknown, looks_for_client });
    };
    let mut seen = None;
    let mut peer = Peer::Server;
    for _ in 0..ROUNDS {
        let these = [backend(connection, &preamble).await?, backend(&mut other, &preamble).await?];
        // Two clients that are both connected have two processes, and keep them, unless somebody deals them out.
        if these[0] == these[1] || seen.is_some_and(|before| before != these) {
            peer = Peer::TransactionPooler;
            break;
        }
        seen = Some(these);
    }
    // What was to be known is known.
    drop(other.close().await);
    Ok(Survey { peer, looks_for_client })
}

/// The server process of a transaction.
async fn backend(connection: &mut PgConnection, preamble: &Preamble) -> Result<i32, sqlx::Error> {
    transaction::begin(connection, preamble, Purpose::Catalogue).await?;
    let asked = sqlx::query_scalar("SELECT pg_backend_pid()").persistent(false).fetch_one(&mut *connection);
    let asked = asked.await;
    transaction::end(connection, asked).await
}

/// Older servers do not know the setting, and on some systems it can only be zero.
async fn looks_for_client(connection: &mut PgConnection, preamble: &Preamble) -> bool {
    let preamble = preamble.clone().looking_for_client(true);
    let tried = transaction::begin(connection, &preamble, Purpose::Catalogue).await;
    tried.is_ok() && transaction::end(connection, tried).await.is_ok()
}
