//! Redis Streams into the AppView's Postgres.

pub mod lexicon;
