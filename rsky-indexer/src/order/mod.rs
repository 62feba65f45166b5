//! Stream order: which entries may be worked on at the same time.
//!
//! The outcome of a stream is that of one entry after the other. What is judged by other accounts' records (is the parent
//! there, what does the thread gate allow, who holds the duplicate key) therefore has to be judged when everything before
//! it in the stream has taken effect and nothing after it has. Most entries have nothing to do with each other, so most
//! can be worked on side by side all the same:
//!
//! ```text
//! entry ─► claims (what it says) ─► + look (what the database has of it) ─► queue ─► batch for an idle lane
//! ```
//!
//! Each entry *claims* keys: what it may read or write beside its own row ([`claims`], [`registry`] for what others on their way make of it, and [`look`] for what only the
//! stored version tells). An entry is given to a lane when no entry before it that is still on its way, waiting or being
//! written, has a claim that conflicts ([`table`], [`queue`]). Whatever two lanes work on at the same time is therefore
//! independent of each other, and what depends on each other is in one batch, in stream order, or in batches one of which
//! has committed before the other begins. That holds whatever the number of lanes and the size of batches.
//!
//! A claim too many costs a wait of one batch. A claim too few is a wrong row, so claims are taken wide; the engine's plan
//! of a batch ([`crate::engine`]) has finer keys of its own.

pub mod claims;
pub mod look;
pub mod queue;
pub mod registry;
pub mod table;

pub use claims::{Claims, Keys, Touch};
pub use look::Looked;
pub use queue::{Entry, Queue};
