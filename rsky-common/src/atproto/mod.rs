//! The AT Protocol on the wire: frames of the two subscriptions, CARs, CIDs, and what they become in the streams.

pub mod car;
pub mod cid;
pub mod cid_text;
mod collection_filter;
mod commit_entries;
mod commit_records;
pub mod frame;
mod frame_body;
mod frame_message;
mod frame_parts;
mod label_frame;
pub mod path;
pub mod reject;
pub mod syntax;
pub mod tid;

pub use collection_filter::{CollectionFilter, FilterError};
pub use commit_entries::{Converted, OpCounts, convert};
pub use label_frame::convert_labels;
pub use reject::{FrameKind, Rejected};
