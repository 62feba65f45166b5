//! The only code that speaks Redis commands.
//!
//! Writers: [`gate`] decides whether and how much, [`writer`] puts a batch in one transaction, [`cursor`] one with a
//! cursor that nobody else may move.
//! Readers: [`consumer`], and [`page`] where what is read may be large. Both stand on [`connection`], which reconnects, and on [`errors`], which knows what to wait
//! out. What cannot be processed goes to [`dead_letters`], as long as there is [`letter_room`], and is dealt with by hand
//! in [`letters`]. Where something waits is found by [`search`]; what others read is watched by [`tail`].

pub mod connection;
pub mod errors;
pub mod startup;

pub mod cursor;
pub mod gate;
pub mod gate_metrics;
pub mod writer;

pub mod consumer;
pub mod page;

pub mod dead_letters;
pub mod figures;
pub mod letter_room;
pub mod letters;
pub mod overview;
pub mod search;
pub mod tail;

pub use connection::{LinkError, RedisLink, RedisServer};
pub use cursor::{CursorWriter, Found, Outcome};
pub use dead_letters::DeadLetter;
pub use figures::RedisFigures;
pub use gate::{Gate, GateConfig, Outage, Permit, Shut};
pub use writer::{Batch, StreamWriter, Written};
