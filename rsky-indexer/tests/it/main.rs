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

mod accounts;
mod counters;
mod entries;
mod gated_threads;
mod histories;
mod load;
mod process;
mod repositories;
mod support;
mod worlds;

mod as_if_sequential;
mod editions;
mod generations;
mod generations_engine;
mod golden;
mod golden_actors;
mod index_repo;
mod index_repo_downloads;
mod index_repo_live;
mod lanes_share_subjects;
mod lanes_share_threads;

mod deleted_between_processes;
mod deletes_accounts;
mod looks_again_while_delayed;
mod looks_with_commits;
mod resolves_handles;
mod waits_for_the_directory;

mod backfill_order;
mod behind_a_pooler;
mod come_again;
mod histories_at_any_concurrency;
mod inspects;
mod interrupted_look;
mod killed_between_steps;
mod left_quotes;
mod narrow_claims;
mod nul_characters;
mod one_slow_row;
mod outcome_of_stream_order;
mod processes_side_by_side;
mod set_aside_in_order;
mod third_records;

mod connections_are_shared;
mod dead_letters_by_hand;
mod doctors;
mod drains_a_full_redis;
mod drains_the_recording;
mod moves_over;
mod outlives_postgres_outage;
mod outlives_redis_outage;
mod reads_pages;
mod recount_quotes;
mod recount_signals;
mod recounts;
mod sets_poison_aside;
mod shadows;
mod shadows_live;
mod states_its_limits;
mod stays_within_memory;
mod stops_and_starts;
mod survives_kill_9;
mod takes_over_from_the_dead;
mod tells_how_it_stands;
mod tells_what_is_declared;
mod threads_as_if_sequential;
mod verifies;
mod whose_fault_it_is;
