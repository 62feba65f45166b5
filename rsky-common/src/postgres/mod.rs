//! The AppView's Postgres: where it is, how to connect, and how a transaction begins and ends. For the daemons that have
//! to do with it; the schema is the indexer's business.

mod server;
mod settings;
mod survey;
pub mod transaction;

pub use server::{PostgresServer, refusal};
pub use settings::PostgresSettings;
pub use survey::{Peer, Survey, survey};
