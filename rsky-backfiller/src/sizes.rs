//! How large things may be: what the bound on memory (`config.rs`) is made of, and what the stages keep to.

/// Largest entry of a repository stream: a DID of the longest kind, a host, a revision, a status. Bounds what waiting jobs
/// take.
pub const MOST_PAYLOAD: usize = 4 << 10;
/// Largest DID document: a job holds what is needed of it. Those of the PLC directory have less than ten kilobytes.
pub const MOST_DOCUMENT: usize = 16 << 10;
/// Largest one that is kept for other jobs, which is bounded in documents; most have half as much.
pub const KEPT_DOCUMENT: usize = 2 << 10;
/// Bytes of a repository that are taken in before it has a place in memory: a host that hardly sends anything takes none.
pub const FIRST_BYTES: usize = 64 << 10;
/// Largest entry. A record of a mebibyte, the most the network accepts, becomes less; more comes only of a block that is
/// made to grow as text.
pub const MAX_ENTRY_BYTES: usize = 2 << 20;
