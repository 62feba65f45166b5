use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, header};
use thiserror::Error;
use url::Url;

use super::{DidDocument, DocumentError};
use crate::net::{self, NoHttps, Outbound, Refused, asked_to_wait, refusal};

/// Largest answer, in bytes. PLC documents are below 8 KB.
const MAX_DOCUMENT: usize = 256 << 10;
const ACCEPT: &str = "application/did+ld+json,application/json";

/// Where and how documents are asked for.
#[derive(Debug, Clone)]
pub struct ResolverConfig {
    /// The PLC directory; its operator's address may be private.
    pub plc: Url,
    /// Time for a whole answer.
    pub timeout: Duration,
    /// What may be contacted for did:web.
    pub outbound: Outbound,
    /// The `User-Agent`.
    pub user_agent: String,
}

/// Why there is no document.
#[derive(Debug, Error)]
pub enum ResolveError {
    /// Neither did:plc nor did:web, or a did:web with a path.
    #[error("{0:?} cannot be resolved: unsupported kind of DID")]
    Unsupported(String),
    /// There is none, or no longer.
    #[error("the DID is not registered")]
    NotFound,
    /// The directory asks for patience.
    #[error("the directory is busy (HTTP {status})")]
    Busy {
        /// 429 or 503.
        status: u16,
        /// How long it asks to be left alone, at most an hour.
        retry_after: Option<Duration>,
    },
    /// Another answer than a document.
    #[error("HTTP {0} instead of a document")]
    Status(u16),
    /// No answer.
    #[error("no answer: {0}")]
    Network(String),
    /// The host may not be contacted.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// What came is no document.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// More than any document has.
    #[error("the document is larger than {MAX_DOCUMENT} bytes")]
    TooLarge,
}

/// A document and its JSON.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// What we need of it.
    pub document: DidDocument,
    /// The whole, for the shared cache.
    pub json: String,
}

/// Asks for DID documents. Keeps nothing.
#[derive(Debug, Clone)]
pub struct DidResolver {
    plc: Client,
    web: Client,
    config: ResolverConfig,
}

impl DidResolver {
    /// A resolver with connections of its own.
    ///
    /// # Errors
    /// HTTPS cannot be set up.
    pub fn new(config: ResolverConfig) -> Result<Self, NoHttps> {
        let client = |builder: reqwest::ClientBuilder| {
            // A redirect is no answer (IDENTITY 2).
            let builder = builder.no_proxy().redirect(Policy::none());
            net::build(builder.user_agent(&config.user_agent).timeout(config.timeout))
        };
        let plc = client(Client::builder())?;
        let web = client(config.outbound.client())?;
        Ok(Self { plc, web, config })
    }

    /// The host that answers for a DID: what requests are limited by.
    ///
    /// # Errors
    /// `Unsupported`.
    pub fn host_of(&self, did: &str) -> Result<String, ResolveError> {
        let url = self.url_of(did)?.0;
        let host = url.host_str().unwrap_or_default();
        Ok(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
    }

    /// The document of `did`, asked for now.
    ///
    /// # Errors
    /// See [`ResolveError`].
    pub async fn resolve(&self, did: &str) -> Result<Resolved, ResolveError> {
        let (url, is_web) = self.url_of(did)?;
        if is_web {
            self.config.outbound.check(&url)?;
        }
        let client = if is_web { &self.web } else { &self.plc };
        let answer = client.get(url).header(header::ACCEPT, ACCEPT).send().await.map_err(failed)?;
        let status = answer.status();
        match status {
            _ if status.is_success() => {}
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let retry_after = asked_to_wait(answer.headers());
                return Err(ResolveError::Busy { status: status.as_u16(), retry_after });
            }
            // The directory answers in JSON. A page is a proxy's, and says nothing about the account.
            StatusCode::NOT_FOUND | StatusCode::GONE if !is_web && is_page(&answer) => {
                return Err(ResolveError::Status(status.as_u16()));
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => return Err(ResolveError::NotFound),
            _ if is_web && !status.is_server_error() => return Err(ResolveError::NotFound),
            _ => return Err(ResolveError::Status(status.as_u16())),
        }
        let body = read_body(answer).await?;
        let document = DidDocument::parse(&body, did)?;
        let json = String::from_utf8(body).map_err(|error| DocumentError::Malformed(error.to_string()))?;
        Ok(Resolved { document, json })
    }

    fn url_of(&self, did: &str) -> Result<(Url, bool), ResolveError> {
        let unsupported = || ResolveError::Unsupported(did.chars().take(100).collect());
        let rest = did.strip_prefix("did:").ok_or_else(unsupported)?;
        match rest.split_once(':') {
            Some(("plc", id)) if !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                let mut url = self.config.plc.clone();
                let path = format!("{}/{}", url.path().trim_end_matches('/'), did.replace(':', "%3A"));
                url.set_path(&path);
                Ok((url, false))
            }
            Some(("web", id)) => {
                web_url(id, self.config.outbound.allow_private).map(|url| (url, true)).ok_or_else(unsupported)
            }
            _ => Err(unsupported()),
        }
    }
}

/// One host, its port percent-encoded; nothing else.
fn web_url(id: &str, allow_private: bool) -> Option<Url> {
    if id.contains(':') {
        return None;
    }
    let host = id.replace("%3A", ":").replace("%3a", ":");
    let plain =
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:".contains(&byte));
    let name = host.split(':').next().unwrap_or_default();
    let scheme = if allow_private && (name == "localhost" || name == "127.0.0.1") { "http" } else { "https" };
    plain.then(|| Url::parse(&format!("{scheme}://{host}/.well-known/did.json")).ok()).flatten()
}

async fn read_body(mut answer: Response) -> Result<Vec<u8>, ResolveError> {
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(failed)? {
        if body.len() + piece.len() > MAX_DOCUMENT {
            return Err(ResolveError::TooLarge);
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

fn is_page(answer: &Response) -> bool {
    let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/html"))
}

fn failed(error: reqwest::Error) -> ResolveError {
    match refusal(&error) {
        Some(refused) => ResolveError::Refused(refused),
        None => ResolveError::Network(error.without_url().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver(allow_private: bool) -> DidResolver {
        crate::runtime::daemon::install_crypto();
        DidResolver::new(ResolverConfig {
            plc: Url::parse("https://plc.directory/").unwrap(),
            timeout: Duration::from_secs(3),
            outbound: Outbound { allow_private },
            user_agent: "test".to_owned(),
        })
        .unwrap()
    }

    #[test]
    fn urls_are_those_of_the_reference() {
        let url =
            |did: &str, private: bool| resolver(private).url_of(did).map(|(url, _)| url.to_string()).ok();
        assert_eq!(url("did:plc:abc", false).unwrap(), "https://plc.directory/did%3Aplc%3Aabc");
        assert_eq!(url("did:web:a.example", false).unwrap(), "https://a.example/.well-known/did.json");
        assert_eq!(
            url("did:web:a.example%3A8443", false).unwrap(),
            "https://a.example:8443/.well-known/did.json"
        );
        assert_eq!(
            url("did:web:localhost%3A2583", true).unwrap(),
            "http://localhost:2583/.well-known/did.json"
        );
        for did in [
            "",
            "did:plc:",
            "did:plc:a/b",
            "did:key:z",
            "did:web:a:b",
            "did:web:",
            "did:web:a@b",
            "did:web:a%2Fb",
        ] {
            assert_eq!(url(did, true), None, "{did}");
        }
    }

    #[tokio::test]
    async fn a_did_of_this_machine_is_refused() {
        let error = resolver(false).resolve("did:web:127.0.0.1").await.unwrap_err();
        assert!(matches!(error, ResolveError::Refused(Refused::Address(_))), "{error}");
        let error = resolver(false).resolve("did:web:localhost").await.unwrap_err();
        assert!(matches!(error, ResolveError::Refused(Refused::Address(_))), "{error}");
    }
}
