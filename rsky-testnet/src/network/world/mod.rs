//! A world: accounts, repositories and what happens to them, made from a seed.
//!
//! A world is a pure function of its [`WorldOptions`]: the same events in the same order, byte for byte. Its keys and
//! signatures are real, its repositories are Merkle search trees that are changed commit by commit, its commits carry
//! `prevData` and the blocks that prove it. [`WorldNetwork`] serves it as relay, hosts, directory and labeler.
//!
//! | step | file |
//! |---|---|
//! | who does what next | `simulation.rs` |
//! | records that are made | `writes.rs`, `records.rs` |
//! | records that are replaced or deleted | `changes.rs` |
//! | handles, hosts, keys, status | `people.rs` |
//! | what there is to refer to, by popularity | `pool.rs` |
//! | trees, signed commits | `tree.rs`, `repository.rs`, `keys.rs` |
//! | labels | `labels.rs` |
//! | served | `serve.rs`, `stage.rs`, `sources.rs` |
//! | what goes wrong on purpose | `trouble/` |

mod account;
mod changes;
mod event;
mod keys;
mod labels;
mod options;
mod people;
mod pool;
mod records;
mod repository;
mod serve;
mod simulation;
mod sources;
mod stage;
mod tree;
mod trouble;
mod writes;

pub use event::{Action, Commit, Event, Operation, What};
pub use labels::{Label, labels};
pub use options::{Mix, Time, WorldOptions};
pub use serve::{Serving, WorldNetwork};
pub use simulation::World;
pub use trouble::{Party, Trouble};
