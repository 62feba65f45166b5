//! The HTTP client for relays and labelers.

use rsky_common::net::{self, NoHttps};

use crate::VERSION;

/// Settings of every client: our name, and no proxy. Subscriptions are sockets that no proxy setting reaches, and listings
/// shall not take another way than they do.
pub fn client_builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder().user_agent(format!("rsky-ingester/{VERSION}")).no_proxy()
}

/// A client for what is asked beside the subscriptions.
///
/// # Errors
/// HTTPS cannot be set up.
pub fn client() -> Result<reqwest::Client, NoHttps> {
    net::build(client_builder().http1_only())
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
