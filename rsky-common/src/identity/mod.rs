//! Who an account is: its DID document, where that is asked for, and where it is kept (IDENTITY 2 and 3).

mod cache;
mod document;
pub mod redis_cache;
mod resolver;

pub use cache::DocumentCache;
pub use document::{DidDocument, DocumentError};
pub use resolver::{DidResolver, ResolveError, Resolved, ResolverConfig};
