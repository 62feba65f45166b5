//! The daemon against real Redis and a simulated network.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::string_slice,
    missing_docs
)]

mod behind_a_pooler;
mod deletes_what_is_gone;
mod doctors;
mod forgets_with_redis;
mod full_disk;
mod hosts;
mod kinds;
mod many_hosts;
mod moves_meanwhile;
mod moves_over;
mod namespaces;
mod passes_over_what_is_known;
mod private_addresses;
mod public_addresses;
mod puts_off_and_gives_up;
mod queue_tools;
mod respects_hosts;
mod resynchronises;
mod stays_within_memory;
mod support;
mod survives_kills_and_a_full_redis;
mod tells_the_service_manager;
use rsky_testnet::network::repos as synthetic;
mod tells_the_truth;
mod tells_what_is_declared;
mod verifies_real_repositories;
mod walks_the_mst_suite;
mod whose_fault;
mod writes_what_the_reference_wrote;
