//! Relay firehose, labelers and repository listings into Redis Streams, with backpressure.
//!
//! | stage | file |
//! |---|---|
//! | which sources there are, and how the stages are joined | [`pipeline`] |
//! | read: one socket per relay or labeler | [`subscription`] |
//! | read: pages of `listRepos` | [`listing`] |
//! | decode: frames to the JSON of their entries, in parallel, leaving in order | [`decode`] |
//! | write: gate, batch, cursor | [`backlog`], [`sink`] |
//! | where reading goes on: keys, lost states, new sequences | [`cursor_keys`], [`place`], [`sequence`], [`sink`] |
//! | repositories to fetch first | [`resyncs`] |
//! | what may be in memory | [`budgets`], [`memory_bound`] |
//!
//! Guarantees: what is in memory has a bound in items and bytes; while a stream is at its mark nothing is read; a
//! cursor is written only together with the entries it covers, so a crash re-reads and never skips.

pub mod config;
pub mod doctor;
pub mod host;
pub mod http;
pub mod variables;

pub mod pipeline;

pub mod source;

pub mod subscription;

pub mod listing;

pub mod decode;

pub mod backlog;
pub mod duplicates;
pub mod resyncs;
pub mod sink;

pub mod cursor_keys;
pub mod place;
pub mod sequence;

mod board;
pub mod budgets;
pub mod lag;
pub mod memory_bound;
pub mod metrics;
pub mod report;
pub mod source_metrics;

/// The daemon's name.
pub const NAME: &str = "ingester";
/// The daemon's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
