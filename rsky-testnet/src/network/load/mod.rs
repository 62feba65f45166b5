//! Seeded load: a firehose of synthetic commits as fast as it is read, and stream entries for the indexer.
//!
//! The same seed gives the same bytes on every machine. The commits are real ones as far as a reader that does not
//! check signatures can tell: CARs with a commit block, a path of eight MST nodes and the record, correct SHA-256 CIDs,
//! records valid by their lexicons, and revs and rkeys that increase per DID. They are 4 to 5 KB, as on the production
//! network. Subjects are drawn by Zipf's law, but no DID likes, reposts, follows or blocks the same subject twice.

mod activity;
mod commits;
pub(crate) mod draw;
mod events;
mod notes;
mod rich;

pub use commits::{CommitRing, LoadOptions};
pub use events::{EventMix, EventOptions, StreamEvents, stream_events};
pub use notes::Notes;

/// The seq of the first frame: about where the production relay is, and wide enough to be patched in place.
pub const FIRST_SEQ: u64 = 31_527_000_000;
