use thiserror::Error;

/// Why the value of an entry is not what its stream carries. Such an entry is acknowledged and dead-lettered.
#[derive(Debug, Error)]
pub enum WireError {
    /// Not JSON, or a member of a wrong type.
    #[error("malformed entry")]
    Json(#[source] serde_json::Error),
    /// JSON, but no object.
    #[error("entry is not an object")]
    NotAnObject,
    /// A member that this kind of entry must have.
    #[error("{kind} entry without {field}")]
    Missing {
        /// The kind of entry.
        kind: &'static str,
        /// The member.
        field: &'static str,
    },
}
