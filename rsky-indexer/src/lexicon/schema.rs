//! How a lexicon is written down: plain constants, read by the validator.
//!
//! Only what the reference enforces has a place here. `accept` and `maxSize` of blobs, `knownValues`, defaults and
//! record keys are declared by the lexicons and enforced by nobody (VALIDATION 2).

/// A collection and what its records must look like.
#[derive(Debug)]
pub struct Record {
    pub nsid: &'static str,
    pub object: &'static Object,
}

impl Record {
    pub const fn new(nsid: &'static str, object: &'static Object) -> Self {
        Record { nsid, object }
    }
}

/// The properties of an object, in the order in which they are checked. Others are allowed and not looked at.
#[derive(Debug)]
pub struct Object(pub &'static [Property]);

#[derive(Debug)]
pub struct Property {
    pub name: &'static str,
    pub is_required: bool,
    pub rule: Type,
}

/// A property that must be there.
pub const fn required(name: &'static str, rule: Type) -> Property {
    Property { name, is_required: true, rule }
}

/// A property that may be absent, but not null.
pub const fn optional(name: &'static str, rule: Type) -> Property {
    Property { name, is_required: false, rule }
}

#[derive(Debug)]
pub enum Type {
    String(Text),
    /// A number without a fraction (`1.0` is one), of any size from `minimum` on.
    Integer {
        minimum: Option<i32>,
    },
    Boolean,
    /// `{"$bytes": …}`
    Bytes,
    Blob,
    Ref(&'static Object),
    Array(&'static Array),
    /// An object that names its type. A type that is not among the members is accepted unchecked: all unions of these
    /// lexicons are open.
    Union(&'static [Member]),
}

/// The rules for a string, in the order in which they are checked.
#[derive(Debug)]
pub struct Text {
    /// Bounds on the length in UTF-8, in bytes.
    pub min_bytes: usize,
    pub max_bytes: Option<usize>,
    pub max_graphemes: Option<usize>,
    pub format: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    AtUri,
    Cid,
    Datetime,
    Did,
    Handle,
    Language,
    Nsid,
    Uri,
}

#[derive(Debug)]
pub struct Array {
    pub items: Type,
    pub max_items: Option<usize>,
}

/// One alternative of a union. `id` is its lexicon's NSID, with `#name` if it is not the main definition.
#[derive(Debug)]
pub struct Member {
    pub id: &'static str,
    pub object: &'static Object,
}

pub const fn member(id: &'static str, object: &'static Object) -> Member {
    Member { id, object }
}

/// An array of any length.
pub const fn items(items: Type) -> Array {
    Array { items, max_items: None }
}

/// An array of at most `max_items`.
pub const fn up_to(max_items: usize, items: Type) -> Array {
    Array { items, max_items: Some(max_items) }
}

/// A string without rules so far; the methods of [`Text`] add some and end in a [`Type`].
pub const fn string() -> Text {
    Text { min_bytes: 0, max_bytes: None, max_graphemes: None, format: None }
}

impl Text {
    pub const fn at_least(self, min_bytes: usize) -> Self {
        Text { min_bytes, ..self }
    }

    pub const fn bytes(self, max_bytes: usize) -> Self {
        Text { max_bytes: Some(max_bytes), ..self }
    }

    pub const fn graphemes(self, max_graphemes: usize) -> Self {
        Text { max_graphemes: Some(max_graphemes), ..self }
    }

    pub const fn any(self) -> Type {
        Type::String(self)
    }

    pub const fn format(self, format: Format) -> Type {
        Type::String(Text { format: Some(format), ..self })
    }
}
