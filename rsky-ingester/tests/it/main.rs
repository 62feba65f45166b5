//! The real `ingester` against a simulated network and a private Redis.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout
)]

mod support;

mod doctors;
mod follows_new_sequences;
mod forgets_with_redis;
mod holds_back_at_the_mark;
mod keeps_its_place;
mod keeps_sockets_alive;
mod killed_between_steps;
mod lists_all_repositories;
mod loses_nothing_when_killed;
mod passes_over_bad_input;
mod proxy;
mod refuses_bad_configuration;
mod shares_commits_between_relays;
mod shows_the_pipeline;
mod stands_alone;
mod stays_within_memory;
mod survives_redis;
mod tells_the_service_manager;
mod tells_the_truth;
mod tells_what_is_declared;
mod writes_what_the_reference_wrote;
