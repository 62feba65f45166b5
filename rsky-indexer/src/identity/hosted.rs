//! Whether a host still has an account (IDENTITY 6, getActorIsHosted).

use std::time::Duration;

use reqwest::{Client, StatusCode};
use rsky_common::net::{self, NoHttps, Outbound, refusal};
use serde::Deserialize;
use url::Url;

/// Time for one answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Repetitions after the first try.
const RETRIES: u32 = 3;
/// Bytes of an error's body that are read at most.
const MOST: usize = 16 << 10;

/// What a host says of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hosting {
    /// It has it.
    Hosted,
    /// It does not, or the account has no host.
    Gone,
    /// It says neither: the account is kept.
    Unknown,
}

/// Asks hosts.
#[derive(Debug)]
pub(super) struct Pds {
    client: Client,
    outbound: Outbound,
}

enum Try {
    Said(Hosting),
    Again,
}

impl Pds {
    /// # Errors
    /// HTTPS cannot be set up.
    pub(super) fn new(outbound: Outbound, user_agent: &str) -> Result<Self, NoHttps> {
        let client = outbound.client().user_agent(user_agent).timeout(TIMEOUT).pool_max_idle_per_host(1);
        let client = net::build(client)?;
        Ok(Self { client, outbound })
    }

    /// Whether the host at `pds` has the account.
    pub(super) async fn has(&self, pds: &str, did: &str) -> Hosting {
        let Ok(mut url) = Url::parse(pds) else { return Hosting::Unknown };
        url.set_path("/xrpc/com.atproto.sync.getLatestCommit");
        url.query_pairs_mut().clear().append_pair("did", did);
        if self.outbound.check(&url).is_err() {
            return Hosting::Unknown;
        }
        for number in 0..=RETRIES {
            if let Try::Said(hosting) = self.ask(url.clone()).await {
                return hosting;
            }
            if number < RETRIES {
                tokio::time::sleep(Duration::from_millis(100 << number).min(Duration::from_secs(1))).await;
            }
        }
        Hosting::Unknown
    }

    async fn ask(&self, url: Url) -> Try {
        let mut answer = match self.client.get(url).send().await {
            Ok(answer) => answer,
            Err(error) if refusal(&error).is_some() => return Try::Said(Hosting::Unknown),
            Err(_) => return Try::Again,
        };
        let status = answer.status();
        if status.is_success() {
            return Try::Said(Hosting::Hosted);
        }
        let mut body = Vec::new();
        while body.len() < MOST {
            match answer.chunk().await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => break,
                Err(_) => return Try::Again,
            }
        }
        of_error(status, &body)
    }
}

fn of_error(status: StatusCode, body: &[u8]) -> Try {
    #[derive(Deserialize)]
    struct Error {
        error: String,
    }
    match status.as_u16() {
        408 | 425 | 429 | 500 | 502 | 503 | 504 | 522 | 524 => Try::Again,
        _ => match serde_json::from_slice::<Error>(body) {
            Ok(Error { error }) if error == "RepoNotFound" => Try::Said(Hosting::Gone),
            _ => Try::Said(Hosting::Unknown),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, body: &str) -> Option<Hosting> {
        match of_error(StatusCode::from_u16(status).unwrap(), body.as_bytes()) {
            Try::Said(hosting) => Some(hosting),
            Try::Again => None,
        }
    }

    #[test]
    fn only_one_word_means_gone() {
        assert_eq!(said(400, r#"{"error":"RepoNotFound","message":"x"}"#), Some(Hosting::Gone));
        assert_eq!(said(400, r#"{"error":"RepoDeactivated"}"#), Some(Hosting::Unknown));
        assert_eq!(said(404, "<html>"), Some(Hosting::Unknown));
        assert_eq!(said(503, r#"{"error":"RepoNotFound"}"#), None);
    }
}
