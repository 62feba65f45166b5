//! Flows of the indexer on a real Postgres and a real Redis.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

mod support;

mod as_if_sequential;
mod golden;
