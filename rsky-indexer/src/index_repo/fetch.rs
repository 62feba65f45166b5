//! getRepo at the account's PDS, streamed, with limits on time; the size is limited by the reader.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use reqwest::{Client, Response, StatusCode, header};
use rsky_common::net::{self, Outbound, beginning, refusal};
use rsky_common::repo::StoreLimits;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use url::Url;

use super::account::{Account, NotGivenOut};
use super::report::printable;
use super::repository::{Repository, receive};

pub(crate) const USER_AGENT: &str = concat!("rsky-indexer/", env!("CARGO_PKG_VERSION"));
/// Less than this within the stall time is no progress.
const PROGRESS: usize = 1024;
/// Bytes of an error's body that are looked at.
const ERROR_BODY: usize = 16 << 10;
/// Pieces of an answer between the socket and the reader of the CAR.
const PIECES: usize = 4;
/// Tries of what may pass, and the pause before the second one, which doubles.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// What a download may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Until the answer begins.
    pub(crate) answer: Duration,
    /// Without progress.
    pub(crate) stall: Duration,
    /// In all, tries together.
    pub(crate) total: Duration,
    /// Of the repository.
    pub(crate) bytes: u64,
}

/// Fetches repositories.
#[derive(Debug)]
pub(crate) struct Fetcher {
    client: Client,
    outbound: Outbound,
    limits: Limits,
    store: StoreLimits,
}

/// A failed try.
enum Failure {
    /// Another try may go better.
    Passing(anyhow::Error),
    /// It would not.
    Final(anyhow::Error),
}

impl Fetcher {
    /// # Errors
    /// The TLS library cannot be set up.
    pub(crate) fn new(outbound: Outbound, limits: Limits, store: StoreLimits) -> anyhow::Result<Self> {
        let client = net::build(outbound.client().user_agent(USER_AGENT))?;
        Ok(Self { client, outbound, limits, store })
    }

    /// The repository of the account, not yet verified.
    ///
    /// # Errors
    /// The PDS does not give it, and what it said; or it is no CAR.
    pub(crate) async fn fetch(&self, account: &Account) -> anyhow::Result<Repository> {
        // Any path of the PDS is discarded, as in the reference (PIPELINE 6.5).
        let mut url = account.pds.join("/xrpc/com.atproto.sync.getRepo").context("the URL of the PDS")?;
        self.outbound.check(&url).with_context(|| format!("the PDS {}", account.pds))?;
        url.query_pairs_mut().clear().append_pair("did", &account.did);
        let deadline = Instant::now() + self.limits.total;
        let (mut pause, mut tries) = (PAUSE, 1);
        loop {
            match self.try_once(url.clone(), deadline).await {
                Ok(repository) => return Ok(repository),
                Err(Failure::Passing(_)) if tries < TRIES && Instant::now() < deadline => {}
                Err(Failure::Passing(error) | Failure::Final(error)) => {
                    return Err(
                        error.context(format!("the repository of {} at {}", account.did, account.pds))
                    );
                }
            }
            tries += 1;
            sleep(pause).await;
            pause = pause.saturating_mul(2);
        }
    }

    async fn try_once(&self, url: Url, deadline: Instant) -> Result<Repository, Failure> {
        let answer = self.ask(url).await?;
        let (sender, mut pieces) = mpsc::channel(PIECES);
        let (store, most) = (self.store.clone(), self.limits.bytes);
        let receiving = spawn_blocking(move || receive(&mut pieces, store, most));
        let sent = self.send(answer, sender, deadline).await;
        let received = receiving.await.map_err(|error| Failure::Final(error.into()))?;
        // What the host did wrong explains what the reader found.
        sent.map_err(Failure::Passing)?;
        received.map_err(Failure::Final)
    }

    async fn ask(&self, url: Url) -> Result<Response, Failure> {
        let asked = self.client.get(url).header(header::ACCEPT, "application/vnd.ipld.car").send();
        let answer = match timeout(self.limits.answer, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                return Err(match refusal(&error) {
                    Some(refused) => Failure::Final(refused.into()),
                    None => Failure::Passing(anyhow::Error::from(error.without_url())),
                });
            }
            Err(_) => return Err(Failure::Passing(anyhow!("no answer within {:?}", self.limits.answer))),
        };
        if answer.status() == StatusCode::OK { Ok(answer) } else { Err(self.refused(answer).await) }
    }

    /// What the PDS said instead.
    async fn refused(&self, answer: Response) -> Failure {
        let status = answer.status();
        let body = beginning(answer, ERROR_BODY, self.limits.stall).await;
        let (said, is_about_account) = describe(status, &body);
        let error = if is_about_account { NotGivenOut(said).into() } else { anyhow!(said) };
        // Those that the reference's retryXrpc tries again.
        match status.as_u16() {
            408 | 425 | 429 | 500 | 502 | 503 | 504 | 522 | 524 => Failure::Passing(error),
            _ => Failure::Final(error),
        }
    }

    /// Sends the pieces of the answer. A receiver that hangs up ends it without an error: it knows why.
    async fn send(
        &self,
        mut answer: Response,
        pieces: mpsc::Sender<Bytes>,
        deadline: Instant,
    ) -> anyhow::Result<()> {
        let (mut window, mut bytes) = (Instant::now() + self.limits.stall, 0_usize);
        loop {
            let piece = match timeout_at(window.min(deadline), answer.chunk()).await {
                Ok(Ok(Some(piece))) => piece,
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(error.without_url()).context("the download broke off"),
                Err(_) if Instant::now() >= deadline => {
                    bail!("the download was not done within {:?}", self.limits.total)
                }
                Err(_) => bail!("less than {PROGRESS} bytes within {:?}", self.limits.stall),
            };
            bytes = bytes.saturating_add(piece.len());
            let waits_from = Instant::now();
            if pieces.send(piece).await.is_err() {
                return Ok(());
            }
            // Time in which we did not listen is not the host's.
            window += waits_from.elapsed();
            if bytes >= PROGRESS {
                (window, bytes) = (Instant::now() + self.limits.stall, 0);
            }
        }
    }
}

/// For people: what an XRPC error means for the repository, and the host's words; and whether it is about the account.
fn describe(status: StatusCode, body: &[u8]) -> (String, bool) {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct XrpcError {
        error: String,
        message: String,
    }
    let said: XrpcError = serde_json::from_slice(body).unwrap_or_default();
    let (meaning, is_about_account) = match said.error.as_str() {
        "RepoNotFound" | "AccountNotFound" => ("the PDS does not have it", true),
        "RepoDeactivated" | "AccountDeactivated" => ("the account is deactivated", true),
        "RepoSuspended" | "AccountSuspended" => ("the account is suspended", true),
        "RepoTakendown" | "RepoTakenDown" | "AccountTakedown" | "AccountTakenDown" => {
            ("the account is taken down", true)
        }
        _ if status.is_redirection() => ("the PDS sends us elsewhere", false),
        _ => ("the PDS does not give it", false),
    };
    let words = printable(format!("HTTP {} {} {}", status.as_u16(), said.error, said.message).trim_end());
    (format!("{meaning} ({words})"), is_about_account)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_with_the_hosts_words() {
        let body = br#"{"error":"RepoTakendown","message":"Repo has been \u001btaken down"}"#;
        let (said, is_about_account) = describe(StatusCode::BAD_REQUEST, body);
        assert!(is_about_account);
        assert!(
            said.starts_with("the account is taken down (HTTP 400 RepoTakendown Repo has been "),
            "{said}"
        );
        assert!(!said.contains('\u{1b}'), "{said}");
        let gateway = describe(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(gateway, ("the PDS does not give it (HTTP 502)".to_owned(), false));
    }
}
