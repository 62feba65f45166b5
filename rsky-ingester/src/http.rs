//! The HTTP client for relays and labelers.

use anyhow::Context as _;

use crate::VERSION;

/// Settings of every client: our name, and no proxy. Subscriptions are sockets that no proxy setting reaches, and listings
/// shall not take another way than they do.
pub fn client_builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder().user_agent(format!("rsky-ingester/{VERSION}")).no_proxy()
}

/// A client for what is asked beside the subscriptions.
///
/// # Errors
/// TLS cannot be set up, most often because there are no root certificates: nothing could be reached then.
pub fn client() -> anyhow::Result<reqwest::Client> {
    client_builder()
        .http1_only()
        .build()
        .context("set up HTTPS (are there root certificates? Debian has them in the package ca-certificates)")
}

/// What went wrong, with every cause.
pub fn describe(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text.push_str(&format!(": {inner}"));
        source = inner.source();
    }
    text
}
