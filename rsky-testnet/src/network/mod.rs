//! The simulated AT network: a recording, or frames a test made up, served at one address of 127.0.0.1.
//!
//! A relay (subscribeRepos, listRepos), its PDS (getRepo, resolveHandle), the PLC directory (`/{did}`), a labeler
//! (subscribeLabels) and a handle server (`/.well-known/atproto-did`) are the same port. A subscriber without a cursor
//! begins at the beginning of the recording, unless the relay is started [`from_end`](NetworkBuilder::from_end); a
//! labeler always begins at the beginning, as the clients of labelers ask for. After the last frame a socket stays
//! open, idle, and answers pings.
//!
//! [`Control`] makes it the bad peer: it closes, resets, stalls, goes silent, refuses, and sends anything.
//! [`load`] is a seeded firehose that is as fast as its reader; [`world`] a whole network from a seed, with accounts, keys,
//! repositories and everything that happens to them.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use rsky_testnet::network::{Network, corpus};
//! let network = Network::builder().corpus(corpus::recorded()).start().await?;
//! let relay = network.relay().control();
//! println!("{} has sent {} frames", network.url(), relay.frames_sent());
//! network.stop().await
//! # }
//! ```

mod builder;
pub mod car;
pub mod cbor_in;
pub mod cbor_out;
mod control;
pub mod corpus;
mod directory;
pub mod frames;
pub mod hostile;
mod http;
mod list_repos;
pub mod load;
pub mod repos;
mod script;
mod server;
mod socket;
pub mod world;
mod wrong;

pub use builder::{Network, NetworkBuilder};
pub use control::{Control, Feed, Refusal};
pub use directory::{Directory, RepoAnswer, Source};
pub use list_repos::{Failure, ListRepos, PAGE_SIZE, RepoPage};
pub use script::{Greeting, Script};
pub use server::RunningNetwork;
pub use wrong::{Asked, Asker, Wrong};
