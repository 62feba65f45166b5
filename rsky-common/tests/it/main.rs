//! The codec against recorded traffic, the reference's output, suites of others, and random input.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout
)]

mod car_files;
mod corpus;
mod dag_cbor_suites;
mod meter;
mod poison;
mod production_frames;
mod properties;
mod support;
