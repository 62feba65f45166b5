//! One answer of getRepo: asked for, classed, and streamed with limits on time; its size is limited by the reader.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header;
use reqwest::{Client, Response};
use rsky_common::net::{Outbound, Refused, asked_to_wait, beginning, exhausted, refusal};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use crate::outcome::{Class, Failure, Refusal, of_answer};
use crate::sizes::FIRST_BYTES;

/// Less than this within the stall time is no progress.
const PROGRESS: usize = 1024;
/// Bytes of an error's body that are looked at.
const ERROR_BODY: usize = 64 << 10;
/// While other repositories wait for a place, one that is slower than this gives its place up.
const CROWDED_BYTES: usize = 20 << 10;
const CROWDED_WINDOW: Duration = Duration::from_secs(5);

/// Limits on time.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Until the answer begins.
    pub answer: Duration,
    /// Without progress.
    pub stall: Duration,
    /// In all.
    pub total: Duration,
}

/// The URL of a repository at a host; any path of the host is discarded, as in the reference (PIPELINE 6.5).
///
/// # Errors
/// A host that may not be contacted, or is none.
pub fn repo_url(host: &str, did: &str, outbound: Outbound) -> Result<Url, Failure> {
    let parsed = Url::parse(host).ok().and_then(|url| url.join("/xrpc/com.atproto.sync.getRepo").ok());
    let mut url =
        parsed.ok_or_else(|| Failure::new(Class::RefusedAddress, format!("{host:?} is no URL of a host")))?;
    outbound.check(&url).map_err(refused)?;
    url.query_pairs_mut().clear().append_pair("did", did);
    Ok(url)
}

/// The part of a host's URL that requests are limited by: name and port.
pub fn host_key(url: &Url) -> String {
    let name = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"))
}

/// Asks, and gives the answer if it is a repository; nothing of it has been read.
///
/// # Errors
/// The class of what came instead.
pub async fn ask(client: &Client, url: Url, patience: Patience) -> Result<Response, Failure> {
    let asked = client.get(url).header(header::ACCEPT, "application/vnd.ipld.car").send();
    let answer = match timeout(patience.answer, asked).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(unreached(&error)),
        Err(_) => {
            return Err(Failure::new(Class::Timeout, format!("no answer within {:?}", patience.answer)));
        }
    };
    if answer.status() != reqwest::StatusCode::OK {
        return Err(refused_answer(answer, patience.stall).await);
    }
    match answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) {
        Some(kind) if !is_car(kind) => {
            Err(Failure::new(Class::ContentType, format!("content type {kind:?}")))
        }
        _ => Ok(answer),
    }
}

/// Whether less came within a window than should have.
#[derive(Debug)]
struct Window {
    ends: Instant,
    length: Duration,
    least: usize,
    bytes: usize,
}

impl Window {
    fn new(length: Duration, least: usize) -> Self {
        Self { ends: Instant::now() + length, length, least, bytes: 0 }
    }

    fn renew(&mut self) {
        (self.ends, self.bytes) = (Instant::now() + self.length, 0);
    }
}

/// An answer that is being streamed.
#[derive(Debug)]
pub struct Download {
    answer: Response,
    patience: Patience,
    deadline: Instant,
    stall: Window,
    crowded: Window,
    first: BytesMut,
    ended: bool,
}

impl Download {
    /// Nothing has been read of the answer yet.
    pub fn new(answer: Response, patience: Patience) -> Self {
        Self {
            answer,
            patience,
            deadline: Instant::now() + patience.total,
            stall: Window::new(patience.stall, PROGRESS),
            crowded: Window::new(CROWDED_WINDOW, CROWDED_BYTES),
            first: BytesMut::new(),
            ended: false,
        }
    }

    /// Takes in the whole answer or its first [`FIRST_BYTES`], and a piece more at most.
    ///
    /// # Errors
    /// The answer broke off or took too long.
    pub async fn take_first(&mut self) -> Result<(), Failure> {
        while self.first.len() < FIRST_BYTES {
            let Some(piece) = self.piece(None).await? else {
                self.ended = true;
                break;
            };
            self.first.extend_from_slice(&piece);
        }
        Ok(())
    }

    /// Sends the pieces of the answer; returns how long the host wants to be left alone, if its headers say so. While
    /// repositories wait for places (`waiting`), a host must send at a certain speed. `idle`: for how long nobody
    /// listened to it since [`Download::take_first`].
    ///
    /// # Errors
    /// The answer broke off or took too long. A receiver that hangs up ends the download without an error: it knows why.
    pub async fn send(
        mut self,
        pieces: mpsc::Sender<Bytes>,
        waiting: &AtomicUsize,
        idle: Duration,
    ) -> Result<Option<Duration>, Failure> {
        let pace = exhausted(self.answer.headers());
        self.deadline += idle;
        self.stall.ends += idle;
        self.crowded.renew();
        if pieces.send(std::mem::take(&mut self.first).freeze()).await.is_err() || self.ended {
            return Ok(pace);
        }
        while let Some(piece) = self.piece(Some(waiting)).await? {
            let waits_from = Instant::now();
            if pieces.send(piece).await.is_err() {
                break;
            }
            // Time in which we did not listen is not the host's.
            self.stall.ends += waits_from.elapsed();
            self.crowded.ends += waits_from.elapsed();
        }
        Ok(pace)
    }

    async fn piece(&mut self, waiting: Option<&AtomicUsize>) -> Result<Option<Bytes>, Failure> {
        loop {
            self.check(waiting)?;
            let until = self.stall.ends.min(self.deadline);
            let until = if waiting.is_some() { until.min(self.crowded.ends) } else { until };
            match timeout_at(until, self.answer.chunk()).await {
                Ok(Ok(Some(piece))) => {
                    self.stall.bytes = self.stall.bytes.saturating_add(piece.len());
                    self.crowded.bytes = self.crowded.bytes.saturating_add(piece.len());
                    return Ok(Some(piece));
                }
                Ok(Ok(None)) => return Ok(None),
                Ok(Err(error)) => return Err(Failure::new(Class::Interrupted, shown(&error))),
                Err(_) => {}
            }
        }
    }

    fn check(&mut self, waiting: Option<&AtomicUsize>) -> Result<(), Failure> {
        let now = Instant::now();
        if now >= self.deadline {
            return Err(Failure::new(Class::Timeout, format!("not done within {:?}", self.patience.total)));
        }
        if self.stall.bytes >= self.stall.least {
            self.stall.renew();
        } else if now >= self.stall.ends {
            let error = format!("less than {PROGRESS} bytes within {:?}", self.patience.stall);
            return Err(Failure::new(Class::Timeout, error));
        }
        if now >= self.crowded.ends {
            let wanted = waiting.is_some_and(|waiting| waiting.load(Ordering::Relaxed) > 0);
            if wanted && self.crowded.bytes < self.crowded.least {
                let error = format!(
                    "less than {CROWDED_BYTES} bytes within {CROWDED_WINDOW:?} while other repositories wait"
                );
                return Err(Failure::new(Class::Timeout, error));
            }
            self.crowded.renew();
        }
        Ok(())
    }
}

/// The type of CARs, and what hosts that do not care send.
fn is_car(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim();
    ["application/vnd.ipld.car", "application/octet-stream", "binary/octet-stream", ""]
        .iter()
        .any(|car| kind.eq_ignore_ascii_case(car))
}

fn refused(refused: Refused) -> Failure {
    Failure::new(Class::RefusedAddress, refused.to_string())
}

fn unreached(error: &reqwest::Error) -> Failure {
    match refusal(error) {
        Some(why) => refused(why),
        None => Failure::new(Class::Unreachable, shown(error)),
    }
}

/// The error with its causes: the outermost only says that something failed.
fn shown(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = next {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        next = error.source();
    }
    if text.is_empty() { "no answer".to_owned() } else { text }
}

async fn refused_answer(answer: Response, patience: Duration) -> Failure {
    let status = answer.status().as_u16();
    let wait = asked_to_wait(answer.headers());
    let body = beginning(answer, ERROR_BODY, patience).await;
    let said = Refusal::parse(&body);
    let class = of_answer(status, &said);
    let error = format!("HTTP {status} {} {}", said.name, said.message);
    Failure { wait, ..Failure::new(class, error.trim_end()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_discard_the_path_and_are_checked() {
        let public = Outbound { allow_private: false };
        let url = repo_url("https://pds.example/some/path?x=1", "did:web:a%3A1", public).unwrap();
        assert_eq!(url.as_str(), "https://pds.example/xrpc/com.atproto.sync.getRepo?did=did%3Aweb%3Aa%253A1");
        assert_eq!(host_key(&url), "pds.example");
        for host in [
            "",
            "pds.example",
            "http://pds.example",
            "https://169.254.169.254",
            "https://u:p@pds.example",
            "https://[::ffff:7f00:1]",
        ] {
            assert_eq!(
                repo_url(host, "did:plc:a", public).unwrap_err().class,
                Class::RefusedAddress,
                "{host}"
            );
        }
    }

    #[test]
    fn types_of_cars() {
        for kind in
            ["application/vnd.ipld.car", "application/vnd.ipld.car; version=1", "Application/Octet-Stream"]
        {
            assert!(is_car(kind), "{kind}");
        }
        assert!(!is_car("text/html") && !is_car("application/json"));
    }
}
