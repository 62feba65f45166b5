//! Configuration: environment variables, read once at start into one documented struct per daemon.
//!
//! Every daemon declares its variables as [`Variable`]s (name, other family's name, form and unit, default,
//! consequence); `--help`, defaults, fault messages and the warning about misspelt names all come from there.

mod common;
mod document;
mod environment;
mod host_name;
mod identity;
mod queue;
mod secret;
mod settings;
mod shown;
mod size;
mod variable;

pub use common::{
    CommonConfig, DLQ_MAX_BYTES, DLQ_MAX_LEN, LOG_FORMAT, LetterBounds, METRICS_HOST, REDIS_ALLOW_EVICTION,
    REDIS_URL, RUST_LOG, SHUTDOWN_TIMEOUT_MS, redis_url,
};
pub use document::{OF_EVERY_DAEMON, print_settings, settings_document, settings_faults};
pub use environment::Environment;
pub use host_name::host_name;
pub use identity::{ALLOW_PRIVATE_ADDRESSES, PLC_URL};
pub use queue::{BACKFILLER_BACKFILL_STREAM, BACKFILLER_GROUP, BACKFILLER_PRIORITY_STREAM};
pub use secret::Secret;
pub use settings::{ConfigError, Settings};
pub use shown::{Shown, shown};
pub use size::parse_size;
pub use variable::{Variable, help};
