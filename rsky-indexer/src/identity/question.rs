//! What is asked of the network about one account: its handle, or whether its host still has it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rsky_common::identity::{
    DidDocument, DidResolver, HandleError, HandleResolver, HandleResolverConfig, ResolveError, ResolverConfig,
};
use rsky_common::net::Outbound;
use url::Url;

use super::hosted::{Hosting, Pds};

/// Time for one answer of a directory or a handle's host (IDENTITY 2).
const TIMEOUT: Duration = Duration::from_secs(3);

/// Where questions go.
#[derive(Debug, Clone)]
pub struct Network {
    /// The PLC directory.
    pub plc: Url,
    /// What answers for handles in place of DNS and HTTPS.
    pub handle_resolver: Option<Url>,
    /// Which hosts may be contacted.
    pub outbound: Outbound,
    /// The `User-Agent`.
    pub user_agent: String,
}

/// A question about an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// Its handle.
    Handle,
    /// Whether its host still has it.
    Hosted,
}

/// The answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The handle as it is stored; `None` where it does not lead back to the account.
    Handle(Option<String>),
    /// Whether its host still has it.
    Hosted(Hosting),
}

/// Why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The directory is to blame, not the account.
    Directory { error: String, patience: Option<Duration> },
    /// It may be another answer later. The reason is one of a closed set.
    Later { reason: &'static str, error: String },
    /// It stays so.
    Never { reason: &'static str, error: String },
}

/// What the shared cache is to learn.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cached {
    /// The document's JSON.
    Put(String),
    /// There is no document.
    Remove,
}

/// What came of a question.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) did: String,
    pub(super) question: Question,
    /// When it was asked, in milliseconds since 1970.
    pub(super) began_ms: u64,
    /// Whether the directory's being back depended on it.
    pub(super) probe: bool,
    pub(super) cached: Option<Cached>,
    pub(super) outcome: Result<Answer, Failure>,
}

/// Asks questions. Holds no database connection and keeps nothing.
#[derive(Debug)]
pub(super) struct Asker {
    documents: DidResolver,
    handles: HandleResolver,
    pds: Pds,
    serves_all: bool,
}

impl Asker {
    /// # Errors
    /// The TLS library cannot be set up.
    pub(super) fn new(network: Network) -> Result<Self, reqwest::Error> {
        let Network { plc, handle_resolver, outbound, user_agent } = network;
        let serves_all = handle_resolver.is_some();
        let handles = HandleResolver::new(HandleResolverConfig {
            service: handle_resolver,
            timeout: TIMEOUT,
            outbound,
            user_agent: user_agent.clone(),
        })?;
        let pds = Pds::new(outbound, &user_agent)?;
        let config = ResolverConfig { plc, timeout: TIMEOUT, outbound, user_agent };
        Ok(Self { documents: DidResolver::new(config)?, handles, pds, serves_all })
    }

    /// Whether the directory must answer for this account: all but those of other methods, and these too where a
    /// resolver of handles is set.
    pub(super) fn needs_directory(&self, did: &str) -> bool {
        self.serves_all || did.starts_with("did:plc:")
    }

    /// Asks. Takes some 20 seconds at most.
    pub(super) async fn ask(&self, did: String, question: Question, probe: bool) -> Answered {
        let began_ms = now_ms();
        let (cached, outcome) = match self.documents.resolve(&did).await {
            Ok(resolved) => {
                let outcome = match question {
                    Question::Handle => self.handle(&resolved.document).await,
                    Question::Hosted => Ok(Answer::Hosted(self.hosted(&resolved.document).await)),
                };
                (Some(Cached::Put(resolved.json)), outcome)
            }
            Err(ResolveError::NotFound) => {
                let outcome = match question {
                    Question::Hosted => Ok(Answer::Hosted(Hosting::Gone)),
                    Question::Handle => Err(failure(&did, ResolveError::NotFound)),
                };
                (Some(Cached::Remove), outcome)
            }
            Err(error) => (None, Err(failure(&did, error))),
        };
        Answered { did, question, began_ms, probe, cached, outcome }
    }

    /// All the protocol needs of a document must be there, or nothing of it counts (CONFORMANCE-TRAPS 88).
    async fn handle(&self, document: &DidDocument) -> Result<Answer, Failure> {
        let incomplete = |what: &str| Failure::Later {
            reason: "did_document_incomplete",
            error: format!("the DID document names no {what}"),
        };
        match document.signing_key() {
            Ok(Some(_)) => {}
            Ok(None) => return Err(incomplete("signing key")),
            Err(error) => {
                let error = format!("the DID document's signing key: {error}");
                return Err(Failure::Later { reason: "did_document_malformed", error });
            }
        }
        let handle = document.handle.as_deref().ok_or_else(|| incomplete("handle"))?;
        if document.pds.is_none() {
            return Err(incomplete("PDS"));
        }
        // As written; lower case is for storage (CONFORMANCE-TRAPS 86).
        match self.handles.resolve(handle).await {
            Ok(did) if did.as_ref() == Some(&document.did) => Ok(Answer::Handle(Some(handle.to_lowercase()))),
            Ok(_) => Ok(Answer::Handle(None)),
            Err(error @ HandleError::Service(_)) => {
                Err(Failure::Directory { error: error.to_string(), patience: None })
            }
        }
    }

    async fn hosted(&self, document: &DidDocument) -> Hosting {
        match &document.pds {
            None => Hosting::Gone,
            Some(pds) => self.pds.has(pds, &document.did).await,
        }
    }
}

fn failure(did: &str, error: ResolveError) -> Failure {
    let text = error.to_string();
    let is_web = did.starts_with("did:web:");
    let reason = match error {
        ResolveError::Unsupported(_) => {
            return Failure::Never { reason: "did_unsupported", error: text };
        }
        ResolveError::Busy { retry_after, .. } if !is_web => {
            let patience = Some(retry_after.unwrap_or_default());
            return Failure::Directory { error: text, patience };
        }
        ResolveError::Network(_) if !is_web => return Failure::Directory { error: text, patience: None },
        ResolveError::Status(500..) if !is_web => return Failure::Directory { error: text, patience: None },
        ResolveError::NotFound => "did_not_found",
        ResolveError::Document(_) | ResolveError::TooLarge => "did_document_malformed",
        ResolveError::Busy { .. } | ResolveError::Network(_) | ResolveError::Status(_) => "did_host_fails",
        ResolveError::Refused(_) => "did_host_not_allowed",
    };
    Failure::Later { reason, error: text }
}

pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_to_blame_for_its_own_failures_only() {
        let directory = |did: &str, error| matches!(failure(did, error), Failure::Directory { .. });
        let busy = || ResolveError::Busy { status: 429, retry_after: None };
        assert!(directory("did:plc:a", busy()) && !directory("did:web:a", busy()));
        assert!(directory("did:plc:a", ResolveError::Status(502)));
        assert!(directory("did:plc:a", ResolveError::Network("timed out".into())));
        assert!(!directory("did:web:a", ResolveError::Network("timed out".into())));
        assert!(!directory("did:plc:a", ResolveError::Status(400)));
        assert!(!directory("did:plc:a", ResolveError::NotFound));
        let unsupported = failure("did:key:z", ResolveError::Unsupported("did:key:z".into()));
        assert!(matches!(unsupported, Failure::Never { reason: "did_unsupported", .. }));
    }
}
