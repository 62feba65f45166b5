//! What conversion reports beside the entries it made.

use thiserror::Error;

/// Entries of one frame, in bytes; they are written in one transaction, a few times in memory meanwhile. A frame of the
/// protocol has at most 5 MB, of which 2 MB are blocks, and no byte of an honest one becomes more than six (a control
/// character); more comes only of operations that repeat a block, up to many gigabytes if nothing stopped it.
pub const MAX_ENTRY_BYTES: usize = 16 << 20;

/// Most operations of a commit. The protocol allows 200.
pub const MAX_OPS: usize = 10_000;

/// Rejected parts that are listed per frame; more are only counted, or a frame of a million bad labels would make a
/// million dead letters.
pub const MAX_LISTED: usize = 100;

/// More than [`MAX_ENTRY_BYTES`], or far too many entries, out of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the frame has too many entries, or they exceed {MAX_ENTRY_BYTES} bytes")]
pub struct TooLarge;

/// Why something was not written to a stream: the closed set of values of [`Rejected::reason`].
pub mod reason {
    /// The frame is not CBOR or lacks what its type requires.
    pub const BAD_FRAME: &str = "bad_frame";
    /// The CAR of a commit cannot be read.
    pub const BAD_CAR: &str = "bad_car";
    /// A block of a commit's CAR does not match its CID.
    pub const HASH_MISMATCH: &str = "hash_mismatch";
    /// An operation's path, or the account, makes no record address.
    pub const BAD_PATH: &str = "bad_path";
    /// A CID of a commit or an operation is not one.
    pub const BAD_CID: &str = "bad_cid";
    /// A record block cannot be converted to JSON.
    pub const BAD_RECORD: &str = "bad_record";
    /// A label cannot be converted to JSON.
    pub const BAD_LABEL: &str = "bad_label";

    /// The entries of a frame are far larger than the frame: it names the same block again and again, or has far more
    /// labels than an honest one.
    pub const TOO_LARGE: &str = "too_large";

    /// All of them, for metrics.
    pub const ALL: [&str; 8] =
        [BAD_FRAME, BAD_CAR, HASH_MISMATCH, BAD_PATH, BAD_CID, BAD_RECORD, BAD_LABEL, TOO_LARGE];
}

/// Something that was not written, for the counter and the dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// One of [`reason::ALL`].
    pub reason: &'static str,
    /// The error in full.
    pub error: String,
    /// The account, if it could be read.
    pub did: Option<String>,
    /// The operation; `None` if the whole frame is rejected.
    pub path: Option<String>,
}

/// What a frame turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameKind {
    /// `#commit` of a repository subscription.
    Commit,
    /// `#identity`.
    Identity,
    /// `#account`.
    Account,
    /// `#sync`.
    Sync,
    /// `#labels` of a label subscription.
    Labels,
    /// `#info`.
    Info {
        /// Such as `OutdatedCursor`.
        name: String,
        /// For people.
        message: Option<String>,
    },
    /// An error frame: the server is about to close.
    Error {
        /// Such as `FutureCursor` or `ConsumerTooSlow`.
        error: String,
        /// For people.
        message: Option<String>,
    },
    /// A type that is not known, or none.
    Other {
        /// The type as written, empty if absent.
        t: String,
    },
    /// Not a frame.
    Undecodable,
}

impl FrameKind {
    /// A name from a closed set, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Identity => "identity",
            Self::Account => "account",
            Self::Sync => "sync",
            Self::Labels => "labels",
            Self::Info { .. } => "info",
            Self::Error { .. } => "error",
            Self::Other { .. } => "other",
            Self::Undecodable => "undecodable",
        }
    }
}
