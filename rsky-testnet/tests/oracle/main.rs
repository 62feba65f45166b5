//! The simulated world, and the oracle that says what must become of it.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout
)]

mod outages;
mod pipeline;
mod plan;
mod side_by_side;
mod troubled;
mod whole_pipeline;
mod worlds;
