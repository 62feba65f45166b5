//! Contacting hosts whose names come from the network.
//!
//! DID documents and redirects may name any host, so a request made for them could be aimed at the machines beside us.
//! [`Outbound`] decides what may be contacted; it looks at the address that is connected to, not at the name.

mod address;
mod answer;
mod outbound;
mod patience;

pub use address::is_public;
pub use answer::beginning;
pub use outbound::{NoHttps, Outbound, Refused, build, refusal};
pub use patience::{asked_to_wait, exhausted};
