//! The admin port of a daemon: metrics for machines, health for supervisors, pages for people.

mod health;
mod healthcheck;
mod metrics;
mod page;
mod server;
mod status;
mod text;

pub use health::{Health, Readiness, STARTING};
pub use healthcheck::healthcheck;
pub use metrics::{
    COMMON, Counter, Counters, Declaration, Gauge, Group, Histogram, Histograms, Kind, Label,
    OF_EVERY_DAEMON, Registry, Series, Values, counter, differences, document, gauge, histogram,
    print_document, registry,
};
pub use prometheus_client;
pub use server::Admin;
pub use status::Status;
pub use text::{SHOWN, shown};
