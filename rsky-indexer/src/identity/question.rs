//! What is asked of the network about one account: its handle, or whether its host still has it. The document is asked for
//! first, then somebody whom it names: two steps, which take turns with whom they ask and with nobody else.

use std::time::{Duration, Instant};

use rsky_common::identity::{
    DidDocument, DidResolver, HandleError, HandleResolver, HandleResolverConfig, ResolveError, ResolverConfig,
};
use rsky_common::net::{NoHttps, Outbound};
use url::Url;

use super::hosted::{Hosting, Pds};
use super::hosts;
use super::waiting::Turn;

/// Time for one answer of a directory or a handle's host (IDENTITY 2).
const TIMEOUT: Duration = Duration::from_secs(3);
/// Longest name of a host, in bytes. A handle that is longer leads nowhere.
const LONGEST_NAME: usize = 253;
/// Longest address of a PDS that is kept until it is asked, in bytes.
const LONGEST_URL: usize = 2048;

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

/// What is asked for it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// The account's document.
    Document,
    /// Where this handle leads to.
    Handle(String),
    /// Whether this PDS has the account.
    Pds(String),
}

/// Whom a step asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Peer {
    /// The directory, or the resolver of handles where one is set.
    Directory,
    /// The host of a did:web.
    Web(String),
    /// The host of a handle or a PDS.
    Host(String),
}

/// A question on its way: what is known of it already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Begun {
    pub(super) question: Question,
    pub(super) step: Step,
    /// When it was asked first, in milliseconds since 1970.
    pub(super) began_ms: u64,
}

/// The answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Another step tells.
    Next(Step),
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
    /// When it was asked first, in milliseconds since 1970.
    pub(super) began_ms: u64,
    /// Whose turn it was.
    pub(super) turn: Turn,
    /// How long the answer took.
    pub(super) took: Duration,
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
    /// HTTPS cannot be set up.
    pub(super) fn new(network: Network) -> Result<Self, NoHttps> {
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

    /// Whom the first step asks. What no method resolves is answered without asking anybody.
    pub(super) fn first(&self, did: &str) -> Peer {
        if did.starts_with("did:plc:") {
            return Peer::Directory;
        }
        let host = self.documents.host_of(did).unwrap_or_default();
        Peer::Web(hosts::of_name(host.split_once(':').map_or(host.as_str(), |(name, _)| name)))
    }

    /// Whom a step asks.
    pub(super) fn peer(&self, did: &str, step: &Step) -> Peer {
        match step {
            Step::Document => self.first(did),
            Step::Handle(_) if self.serves_all => Peer::Directory,
            Step::Handle(handle) => Peer::Host(hosts::of_name(handle)),
            Step::Pds(url) => {
                let url = Url::parse(url).ok();
                Peer::Host(hosts::of_name(url.as_ref().and_then(Url::host_str).unwrap_or_default()))
            }
        }
    }

    /// Asks. A document or a handle takes three seconds at most, a PDS some 20.
    pub(super) async fn ask(&self, did: String, begun: Begun, turn: Turn, probe: bool) -> Answered {
        let Begun { question, step, began_ms } = begun;
        let asked = Instant::now();
        let (cached, outcome) = match step {
            Step::Document => self.document(&did, question).await,
            Step::Handle(handle) => (None, self.handle(&did, &handle).await),
            Step::Pds(url) => (None, Ok(Answer::Hosted(self.pds.has(&url, &did).await))),
        };
        Answered { did, question, began_ms, turn, took: asked.elapsed(), probe, cached, outcome }
    }

    async fn document(&self, did: &str, question: Question) -> (Option<Cached>, Result<Answer, Failure>) {
        match self.documents.resolve(did).await {
            Ok(resolved) => {
                let next = match question {
                    Question::Handle => handle_of(&resolved.document),
                    Question::Hosted => Ok(pds_of(resolved.document)),
                };
                (Some(Cached::Put(resolved.json)), next)
            }
            Err(ResolveError::NotFound) => {
                let outcome = match question {
                    Question::Hosted => Ok(Answer::Hosted(Hosting::Gone)),
                    Question::Handle => Err(failure(did, ResolveError::NotFound)),
                };
                (Some(Cached::Remove), outcome)
            }
            Err(error) => (None, Err(failure(did, error))),
        }
    }

    async fn handle(&self, did: &str, handle: &str) -> Result<Answer, Failure> {
        // As written; lower case is for storage (CONFORMANCE-TRAPS 86).
        match self.handles.resolve(handle).await {
            Ok(found) if found.as_deref() == Some(did) => Ok(Answer::Handle(Some(handle.to_lowercase()))),
            Ok(_) => Ok(Answer::Handle(None)),
            Err(error @ HandleError::Service(_)) => {
                Err(Failure::Directory { error: error.to_string(), patience: None })
            }
        }
    }
}

/// All the protocol needs of a document must be there, or nothing of it counts (CONFORMANCE-TRAPS 88).
fn handle_of(document: &DidDocument) -> Result<Answer, Failure> {
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
    if handle.len() > LONGEST_NAME {
        return Ok(Answer::Handle(None));
    }
    Ok(Answer::Next(Step::Handle(handle.to_owned())))
}

fn pds_of(document: DidDocument) -> Answer {
    match document.pds {
        None => Answer::Hosted(Hosting::Gone),
        Some(pds) if pds.len() > LONGEST_URL => Answer::Hosted(Hosting::Unknown),
        Some(pds) => Answer::Next(Step::Pds(pds)),
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
