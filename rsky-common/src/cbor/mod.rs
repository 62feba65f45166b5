//! DAG-CBOR: pulling items out of bytes, and turning a record straight into its JSON text.

mod error;
mod members;
mod reader;
mod to_json;

pub use error::{CborError, RecordError};
pub use reader::{CID_TAG, Item, MAX_DEPTH, Mode, Reader};
pub use to_json::{MAX_TEXT_BYTES, Scratch, write_label_json, write_record_json};
