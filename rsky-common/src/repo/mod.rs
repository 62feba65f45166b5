//! A whole repository, from the bytes of its CAR to its records: [`CarStream`] takes the blocks out, [`BlockStore`]
//! keeps them in memory or in a file, [`Commit`] and [`VerifyingKey`] say whose it is, [`Walk`] goes through its tree.

mod block_index;
mod block_store;
mod car_stream;
mod commit;
mod disk_budget;
mod mst;
mod mst_error;
mod mst_node;
mod receive;
mod signature;

pub use block_store::{BlockStore, StoreLimits};
pub use car_stream::{CarStream, CarStreamError, MAX_BLOCK_BYTES};
pub use commit::{Commit, CommitError};
pub use disk_budget::{DiskBudget, NoDisk};
pub use mst::{Leaf, Walk, key_layer};
pub use mst_error::MstError;
pub use receive::{ReceiveError, ReceivedCar};
pub use signature::{Curve, KeyError, SignatureError, VerifyingKey};
