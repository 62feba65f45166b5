//! A simulated AT network for tests, benchmarks and the demonstration, and the private servers they stand on.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a tool for development: when it is used wrongly it may fail at once"
)]

pub mod network;

pub mod servers;

pub mod daemon;

pub mod oracle;

pub mod service_manager;

pub mod streams;

pub mod wire;
