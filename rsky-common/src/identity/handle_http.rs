//! Handles by HTTPS, and by a service that stands in for DNS and HTTPS (IDENTITY 4).

use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use url::Url;

use super::handle::HandleError;
use crate::net::Outbound;

/// Bytes of an answer that are read at most. A DID is shorter than 2 KiB.
const MOST: usize = 8 << 10;

/// `https://<handle>/.well-known/atproto-did`: redirects are followed, the status does not count, and any failure is
/// no answer.
pub(super) async fn ask_host(client: &Client, outbound: Outbound, handle: &str) -> Option<String> {
    let url = Url::parse(&format!("https://{handle}/.well-known/atproto-did")).ok()?;
    outbound.check(&url).ok()?;
    let answer = client.get(url).send().await.ok()?;
    did_on_first_line(&beginning(answer).await.ok()?)
}

/// `com.atproto.identity.resolveHandle` at a service.
///
/// # Errors
/// The service cannot be reached, is broken or asks for patience.
pub(super) async fn ask_service(
    client: &Client,
    service: &Url,
    handle: &str,
) -> Result<Option<String>, HandleError> {
    #[derive(Deserialize)]
    struct Answer {
        did: String,
    }
    let mut url = service.clone();
    url.set_path(&format!(
        "{}/xrpc/com.atproto.identity.resolveHandle",
        service.path().trim_end_matches('/')
    ));
    url.query_pairs_mut().clear().append_pair("handle", handle);
    let failed = |error: reqwest::Error| HandleError::Service(error.without_url().to_string());
    let answer = client.get(url).send().await.map_err(failed)?;
    let status = answer.status();
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status.is_redirection() {
        return Err(HandleError::Service(format!("HTTP {}", status.as_u16())));
    }
    if !status.is_success() {
        return Ok(None);
    }
    let body = beginning(answer).await.map_err(failed)?;
    match serde_json::from_slice::<Answer>(&body) {
        Ok(answer) => Ok(Some(answer.did)),
        Err(error) => Err(HandleError::Service(format!("not the answer of a handle resolver: {error}"))),
    }
}

async fn beginning(mut answer: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while body.len() < MOST
        && let Some(piece) = answer.chunk().await?
    {
        body.extend_from_slice(piece.get(..MOST - body.len()).unwrap_or(&piece));
    }
    Ok(body)
}

fn did_on_first_line(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let line = text.split('\n').next().unwrap_or_default().trim();
    line.starts_with("did:").then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_counts() {
        let read = |text: &str| did_on_first_line(text.as_bytes());
        assert_eq!(read(" did:plc:a \r\nrest").as_deref(), Some("did:plc:a"));
        assert_eq!(read("\ndid:plc:a"), None);
        assert_eq!(read("<html>"), None);
        assert_eq!(read(""), None);
    }
}
