//! Private Redis, Postgres and PgBouncer servers on free ports of 127.0.0.1.
//!
//! Tests, benchmarks and the two xtask commands start their own servers here, so that nothing depends on (or
//! disturbs) servers of the machine. All of this is synchronous: call it from `spawn_blocking` when inside an async
//! test, or before the runtime does its work; starting Redis takes some 20 ms, a Postgres cluster some 2 s.
//!
//! Nothing survives its owner: `Drop` kills and removes, and where `setpriv` (util-linux) exists the kernel kills the
//! server when this process dies, even by SIGKILL.

pub mod install;
mod launch;
mod pgbouncer;
mod ports;
mod postgres;
mod process;
mod redis;
mod resp;
mod workdir;

pub use pgbouncer::{PgBouncer, PgBouncerBuilder};
pub use ports::free_port;
pub use postgres::{Cluster, Database, Generation, Postgres, PostgresBuilder, Session, sql};
pub use process::{Process, Signal, User, command, run};
pub use redis::{Redis, RedisBuilder};
pub use resp::{RespClient, Value};
pub use workdir::target_dir;
