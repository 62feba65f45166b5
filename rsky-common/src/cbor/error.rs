use thiserror::Error;

/// Why bytes are not the CBOR that the reader was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CborError {
    /// The input ends inside an item.
    #[error("input ends inside an item")]
    Truncated,
    /// An integer or a length takes more bytes than it needs (strict mode).
    #[error("integer or length is not in its shortest form")]
    NonMinimal,
    /// An indefinite length (strict mode).
    #[error("indefinite length")]
    Indefinite,
    /// Additional information 28 to 30, which CBOR reserves.
    #[error("reserved initial byte {0:#04x}")]
    Reserved(u8),
    /// A simple value other than false, true, null and undefined (strict mode).
    #[error("unsupported simple value")]
    Simple,
    /// NaN or an infinity (strict mode).
    #[error("float is not a finite number")]
    NotFinite,
    /// A "break" where a value is due.
    #[error("break outside of an indefinite length item")]
    StrayBreak,
    /// More than [`super::MAX_DEPTH`] containers inside each other.
    #[error("nested too deeply")]
    TooDeep,
    /// Bytes are left after the last expected item.
    #[error("trailing bytes")]
    TrailingBytes,
}

/// Why a record block cannot become JSON (PIPELINE 3.5, 3.6 and 4.3).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The block is not strict CBOR.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// The top level is something else than a map.
    #[error("record is not a map")]
    NotAMap,
    /// A map key that is not text.
    #[error("map key is not text")]
    NonTextKey,
    /// An integer outside of plus or minus 2^53 - 1, which JSON of the reference cannot hold.
    #[error("integer is beyond 2^53 - 1")]
    IntegerTooLarge,
    /// A tag other than 42.
    #[error("tag {0} is not supported")]
    Tag(u64),
    /// Tag 42 around something that is not a CID with its leading zero byte.
    #[error("link is not a CID")]
    BadLink,
    /// An object of exactly `cid` and `mimeType` whose `cid` is not a CID.
    #[error("legacy blob with an unparsable cid")]
    BadLegacyBlob,
    /// Two equal keys in one map, which DAG-CBOR does not have.
    #[error("a map has a key twice")]
    DuplicateKey,
    /// Far more members in maps than any record has.
    #[error("too many members")]
    TooManyMembers,
    /// More bytes as text than the caller allows.
    #[error("the text has more than {0} bytes")]
    TooLong(usize),
}
