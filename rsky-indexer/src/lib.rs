//! Redis Streams into the AppView's Postgres.
//!
//! | stage | file |
//! |---|---|
//! | settings, start, how the stages are joined | [`config`], [`pipeline`] |
//! | a stream's entries are read and dealt out to lanes by repository | [`reader`] |
//! | a lane collects batches, writes and settles them | [`lane`], [`job`], [`kind`] |
//! | an entry becomes work, or the reason why it does not | [`intake`] ([`text`], [`lexicon`], [`collections`]), [`labels`] |
//! | work becomes rows, in one transaction | [`engine`] |
//! | what Postgres refuses is found, what passes is waited out | [`isolate`], [`disposition`], [`database`] |
//! | what the database has of the AppView's tables, looked at once | [`schema`] |
//! | acknowledged, or kept as a dead letter | [`acks`] |
//! | handles and deleted accounts, beside the lanes | [`identity`] |

pub mod config;
pub mod pipeline;

pub mod reader;

pub mod job;
pub mod kind;
pub mod lane;
pub mod supply;

pub mod collections;
pub mod intake;
pub mod labels;
pub mod lexicon;
pub mod text;

pub mod engine;

pub mod identity;

pub mod database;
pub mod disposition;
pub mod isolate;
pub mod schema;

pub mod acks;

pub mod check_records;
pub mod index_repo;
pub mod metrics;
pub mod recount;
