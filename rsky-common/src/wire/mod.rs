//! The JSON that travels through Redis: reading what TypeScript and old rsky write, writing what TypeScript writes.

mod backfill_event;
mod entry;
mod error;
pub mod json_text;
mod label_event;
pub mod names;
mod stream_event;
mod text;
mod write;

pub use backfill_event::{BackfillEvent, parse_backfill};
pub use entry::{Entry, heap_bytes};
pub use error::WireError;
pub use label_event::{Label, LabelEntry, parse_labels, push_label_entry};
pub use stream_event::{
    AccountEvent, DeleteEvent, IdentityEvent, RecordEvent, RepoEvent, StreamEvent, parse,
};
pub use write::{BackfilledRepo, LiveCommit, LiveCommitWriter, RecordAction, push_account, push_identity};
