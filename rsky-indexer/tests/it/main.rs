//! Flows of the indexer on a real Postgres and a real Redis.
#![allow(
    unreachable_pub,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice
)]

mod load;
mod process;
mod support;

mod as_if_sequential;
mod golden;
mod lanes_share_subjects;

mod drains_a_full_redis;
mod drains_the_recording;
mod outlives_postgres_outage;
mod outlives_redis_outage;
mod sets_poison_aside;
mod stays_within_memory;
mod stops_and_starts;
mod survives_kill_9;
mod takes_over_from_the_dead;
