//! Who an account is: its DID document, where that is asked for and kept, and which handle is its own
//! (IDENTITY 2 to 4).

mod cache;
mod document;
mod handle;
mod handle_dns;
mod handle_http;
pub mod redis_cache;
mod resolver;

pub use cache::DocumentCache;
pub use document::{DidDocument, DocumentError};
pub use handle::{HandleError, HandleResolver, HandleResolverConfig};
pub use resolver::{DidResolver, ResolveError, Resolved, ResolverConfig};
