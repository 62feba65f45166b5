//! A private Postgres cluster.

mod database;
mod psql;
mod server;

pub use database::{Cluster, Database, Generation};
pub use psql::sql;
pub use server::{Postgres, PostgresBuilder};
