//! Whole repositories from their PDS into the output stream.
//!
//! | stage | file |
//! |---|---|
//! | settings, start, how the stages are joined | [`config`], [`pipeline`] |
//! | entries are read from the repository streams | [`intake`], [`job`] |
//! | which need not be fetched | [`known`], [`remembered`], [`indexed`] |
//! | which repository is next, and how much a host is asked | [`dispatch`], [`lines`], [`hosts`] |
//! | its DID document, its CAR | [`worker`], [`download`], `headers` |
//! | blocks, signature and tree are checked, entries made | [`repository`], [`records`] |
//! | for what was lost: the records the AppView has | [`reconcile`], [`unread`] |
//! | entries are written behind the gate | [`output`] |
//! | acknowledged, put off, or a dead letter | [`outcome`], [`troubles`], [`ledger`], [`put_off`], [`delayed`] |
//! | what is told about it | [`report`], [`metrics`], [`observed`] |
//! | the queue by hand | [`tools`] |

/// The daemon's name, in logs and on the pages.
pub const NAME: &str = "backfiller";

pub mod config;
pub mod pipeline;
pub mod sizes;
mod variables;

pub mod indexed;
pub mod intake;
pub mod job;
pub mod known;
pub mod remembered;

pub mod dispatch;
pub mod hosts;
pub mod lines;

pub mod download;
pub mod worker;

pub mod reconcile;
pub mod records;
pub mod repository;
pub mod unread;

pub mod output;

pub mod delayed;
pub mod ledger;
pub mod outcome;
pub mod put_off;
pub mod troubles;

pub mod doctor;
pub mod tools;

mod board;
pub mod metrics;
pub mod observed;
pub mod report;
