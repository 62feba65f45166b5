//! How a daemon lives and dies: start, named tasks, signals, waiting, what its service manager is told, and what memory it
//! may use.

pub mod daemon;
pub mod logging;
pub mod service;
pub mod vitals;

pub mod stages;

pub mod backoff;
pub mod budget;
pub mod memory;
pub mod memory_limit;
pub mod memory_plan;

pub use backoff::Backoff;
pub use budget::{ByteBudget, Charge};
pub use daemon::{Context, Startup};
pub use memory_limit::MemoryLimit;
pub use memory_plan::Planned;
pub use service::Service;
pub use stages::Stages;
pub use tokio_util::sync::CancellationToken;
pub use vitals::{Rounds, Standstill, Vitals};
