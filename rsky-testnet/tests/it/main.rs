//! Integration tests of rsky-testnet: real servers, one binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod network;
mod reference_schema;
mod servers;
