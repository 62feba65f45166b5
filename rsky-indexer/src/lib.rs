//! Redis Streams into the AppView's Postgres.
//!
//! | stage | file |
//! |---|---|
//! | settings, start, how the stages are joined | [`config`], [`pipeline`] |
//! | a stream's entries are read, in order | [`reader`], [`job`], [`kind`] |
//! | an entry becomes work, or the reason why it does not | [`prepare`], [`intake`] ([`text`], [`lexicon`], [`collections`]), [`labels`] |
//! | what may be worked on at the same time, so that the outcome is that of stream order | [`dispatch`], [`outcome`], [`order`], [`looker`] |
//! | a lane writes its batch: work becomes rows, in one transaction | [`lane`], [`engine`] |
//! | what Postgres refuses is found, what passes is waited out | [`isolate`], `partition`, [`disposition`] |
//! | connections that are shared, and what they lead to | [`connections`], [`database`], [`rsky_common::postgres`] |
//! | entries whose rows somebody else holds wait by themselves | [`held_rows`], [`left_out`], [`aside`] |
//! | what the database has of the AppView's tables, looked at once | [`schema`] |
//! | acknowledged, or kept as a dead letter | [`settle`], [`acks`] |
//! | handles and deleted accounts, beside the lanes | [`identity`] |

pub mod config;
pub mod pipeline;

pub mod reader;

pub mod job;
pub mod kind;
pub mod prepare;
pub mod supply;

pub mod aside;
pub mod dispatch;
pub mod lane;
pub mod looker;
pub mod order;
pub mod outcome;

pub mod collections;
pub mod intake;
pub mod labels;
pub mod lexicon;
pub mod text;

pub mod engine;

pub mod identity;

pub mod connections;
pub mod database;
pub mod disposition;
pub mod held_rows;
pub mod hold;
pub mod isolate;
pub mod left_out;
mod partition;
pub mod schema;

pub mod acks;
pub mod settle;

mod board;
pub mod check_records;
pub mod dead_letters;
pub mod doctor;
pub mod index_repo;
pub mod inspect;
pub mod metrics;
pub mod observed;
pub mod progress;
pub mod recount;
pub mod shadow;
mod signals;
pub mod verify;

#[cfg(test)]
mod meter_tests;
