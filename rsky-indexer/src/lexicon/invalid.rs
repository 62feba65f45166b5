//! Why a record is refused.

use std::fmt;

use rsky_common::atproto::cid_text::CidError;
use thiserror::Error;

use super::schema::Format;

/// Why a record is not valid. The sentences are those of the reference, so that its logs and ours can be compared.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Invalid {
    /// There is no lexicon for the collection.
    #[error("No lexicon for this collection")]
    UnknownCollection,
    /// The record holds a link, byte string or legacy blob that cannot be read.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    /// `$type` names another type than the collection. `found` is cut off after 200 characters.
    #[error("Invalid $type: must be lex:{expected}, got {found}")]
    WrongType { expected: &'static str, found: Box<str> },
    /// A `$type` that cannot be a reference to a lexicon.
    #[error("{0}")]
    MalformedType(&'static str),
    /// A value breaks a rule of its lexicon. `path` leads from the innermost key or index outwards.
    #[error("{}{reason}", Path(path))]
    Field { path: Vec<Segment>, reason: Reason },
}

impl Invalid {
    /// This failure, seen from one level further out.
    pub(super) fn within(mut self, segment: Segment) -> Self {
        if let Invalid::Field { path, .. } = &mut self {
            path.push(segment);
        }
        self
    }
}

impl From<Reason> for Invalid {
    fn from(reason: Reason) -> Self {
        Invalid::Field { path: Vec::new(), reason }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Undecodable {
    #[error(transparent)]
    Cid(CidError),
    #[error("Non-base64 character")]
    NotBase64,
    #[error("Unexpected end of data")]
    Base64End,
}

/// One step into a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    Key(&'static str),
    Index(usize),
}

struct Path<'a>(&'a [Segment]);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Record")?;
        self.0.iter().rev().try_for_each(|segment| match segment {
            Segment::Key(key) => write!(f, "/{key}"),
            Segment::Index(index) => write!(f, "/{index}"),
        })
    }
}

/// The rule that is broken, with its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Reason {
    #[error(" must be {0}")]
    NotA(&'static str),
    #[error(" must have the property \"{0}\"")]
    Missing(&'static str),
    #[error(" must be an object which includes the \"$type\" property")]
    NoType,
    #[error(" should be a blob ref")]
    NotABlob,
    /// In bytes of UTF-8.
    #[error(" must not be shorter than {0} characters")]
    TooShort(usize),
    /// In bytes of UTF-8.
    #[error(" must not be longer than {0} characters")]
    TooLong(usize),
    #[error(" must not be longer than {0} graphemes")]
    TooManyGraphemes(usize),
    #[error(" must not have more than {0} elements")]
    TooManyItems(usize),
    #[error(" can not be less than {0}")]
    TooSmall(i32),
    #[error(" must be {}", .0.noun())]
    Format(Format),
}
