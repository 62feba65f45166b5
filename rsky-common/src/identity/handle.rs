use std::time::Duration;

use reqwest::Client;
use thiserror::Error;
use url::Url;

use super::handle_dns::Dns;
use super::handle_http::{ask_host, ask_service};
use crate::net::{self, NoHttps, Outbound};

/// Where and how handles are resolved.
#[derive(Debug, Clone)]
pub struct HandleResolverConfig {
    /// A service that answers `com.atproto.identity.resolveHandle` in place of DNS and HTTPS. It is the operator's
    /// choice, so its address may be private.
    pub service: Option<Url>,
    /// Time for one answer.
    pub timeout: Duration,
    /// Which hosts may be contacted.
    pub outbound: Outbound,
    /// The `User-Agent`.
    pub user_agent: String,
}

/// Why it is not known whether a handle resolves.
#[derive(Debug, Error)]
pub enum HandleError {
    /// The service in place of DNS and HTTPS does not answer, or not now: ask again later.
    #[error("no answer of the handle resolver: {0}")]
    Service(String),
}

/// Finds the DID a handle leads to. Keeps nothing.
#[derive(Debug)]
pub struct HandleResolver(Way);

#[derive(Debug)]
enum Way {
    Service { client: Client, url: Url },
    Network { dns: Option<Box<Dns>>, client: Client, outbound: Outbound, timeout: Duration },
}

impl HandleResolver {
    /// A resolver with connections of its own. Where the system names no name server, HTTPS alone is asked.
    ///
    /// # Errors
    /// HTTPS cannot be set up.
    pub fn new(config: HandleResolverConfig) -> Result<Self, NoHttps> {
        let HandleResolverConfig { service, timeout, outbound, user_agent } = config;
        let finish = |builder: reqwest::ClientBuilder| {
            net::build(builder.no_proxy().user_agent(&user_agent).timeout(timeout).pool_max_idle_per_host(2))
        };
        if let Some(url) = service {
            return Ok(Self(Way::Service { client: finish(Client::builder())?, url }));
        }
        let client = finish(outbound.client())?;
        Ok(Self(Way::Network { dns: Dns::of_system(timeout).map(Box::new), client, outbound, timeout }))
    }

    /// The DID of a handle, as written; `None` if it leads to none (IDENTITY 4). DNS and HTTPS are asked side by
    /// side, and an answer of DNS wins. What fails there counts as no answer.
    ///
    /// # Errors
    /// Only of the service in their place: whether the handle resolves is not known then.
    pub async fn resolve(&self, handle: &str) -> Result<Option<String>, HandleError> {
        match &self.0 {
            Way::Service { client, url } => ask_service(client, url, handle).await,
            Way::Network { dns, client, outbound, timeout } => {
                let by_dns = async {
                    match dns {
                        Some(dns) => dns.did_of(handle, *timeout).await,
                        None => None,
                    }
                };
                let by_https = tokio::time::timeout(*timeout, ask_host(client, *outbound, handle));
                tokio::pin!(by_dns, by_https);
                // HTTPS makes progress while DNS is waited for, and is given up when DNS has the answer.
                tokio::select! {
                    biased;
                    did = &mut by_dns => match did {
                        Some(did) => Ok(Some(did)),
                        None => Ok(by_https.await.unwrap_or_default()),
                    },
                    did = &mut by_https => match by_dns.await {
                        Some(by_dns) => Ok(Some(by_dns)),
                        None => Ok(did.unwrap_or_default()),
                    },
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn resolver(allow_private: bool) -> HandleResolver {
        crate::runtime::daemon::install_crypto();
        HandleResolver::new(HandleResolverConfig {
            service: None,
            timeout: Duration::from_secs(1),
            outbound: Outbound { allow_private },
            user_agent: "test".to_owned(),
        })
        .unwrap()
    }

    /// Whatever a document calls a handle: no answer, within its time, and no request to this machine.
    #[tokio::test]
    async fn what_is_no_handle_has_no_did() {
        let started = Instant::now();
        let long = "a".repeat(100_000);
        for handle in ["", ".", "handle.invalid", "127.0.0.1", "u:p@handle.invalid", "a b", "[::1]", &long] {
            let did = resolver(false).resolve(handle).await;
            assert!(matches!(did, Ok(None)), "{handle}: {did:?}");
        }
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[tokio::test]
    async fn a_service_that_does_not_answer_says_nothing_of_the_handle() {
        crate::runtime::daemon::install_crypto();
        let config = HandleResolverConfig {
            service: Some(Url::parse("http://127.0.0.1:9/").unwrap()),
            timeout: Duration::from_secs(1),
            outbound: Outbound { allow_private: false },
            user_agent: "test".to_owned(),
        };
        let answer = HandleResolver::new(config).unwrap().resolve("a.test").await;
        assert!(matches!(answer, Err(HandleError::Service(_))), "{answer:?}");
    }
}
