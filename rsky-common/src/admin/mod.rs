//! The admin port of a daemon: metrics for machines, health for supervisors, pages for people.

mod backfill;
mod board;
mod health;
mod healthcheck;
mod metrics;
mod page;
pub mod samples;
pub mod seen;
mod server;
mod status;
mod text;
mod verdict;
mod view;
mod visitors;

pub use board::{Board, Bound, HostTrouble, Hosts, Lag, Level, Note, StreamNames};
pub use health::{Health, Readiness, STARTING};
pub use healthcheck::healthcheck;
pub use metrics::{
    COMMON, Counter, Counters, Declaration, Gauge, Group, Histogram, Histograms, Kind, Label,
    OF_EVERY_DAEMON, Registry, Series, Values, counter, differences, document, gauge, histogram,
    metrics_faults, print_document, registry,
};
pub use prometheus_client;
pub use server::Admin;
pub use status::Status;
pub use text::{SHOWN, shown};
