//! A private Postgres cluster.

mod database;
mod psql;
mod server;
mod session;

pub use database::{Cluster, Database, Generation};
pub use psql::sql;
pub use server::{Postgres, PostgresBuilder};
pub use session::Session;
