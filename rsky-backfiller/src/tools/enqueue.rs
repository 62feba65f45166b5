//! `enqueue`: repositories by DID, handle, or a file of either.

use std::io::{BufRead, BufReader, Read, Write};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use rsky_common::atproto::syntax::is_did;
use rsky_common::net;
use rsky_common::wire::BackfillEvent;
use rsky_common::wire::names::FIELD_REPO;
use url::Url;

use super::Redis;
use crate::config::Config;
use crate::job::Queue;

/// Entries of one transaction.
const TOGETHER: usize = 500;
/// Longest line of a file.
const MOST_LINE: u64 = 4096;

/// Queues repositories. They are fetched even if nothing has changed.
#[derive(Debug, Args)]
pub struct Enqueue {
    /// A DID, a handle, a file with one of them a line, or - for standard input.
    what: Vec<String>,
    /// Before all others.
    #[arg(long)]
    priority: bool,
    /// Where to ask for the repository when its DID document names no PDS.
    #[arg(long, default_value = "")]
    host: String,
    /// Where handles are resolved (com.atproto.identity.resolveHandle).
    #[arg(long, default_value = "https://public.api.bsky.app")]
    resolver: Url,
}

impl Enqueue {
    pub(super) async fn run(
        self,
        config: &Config,
        redis: &mut Redis,
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        if self.what.is_empty() {
            bail!("nothing to queue: give a DID, a handle, a file or -");
        }
        let queue = if self.priority { Queue::Priority } else { Queue::Normal };
        let stream = queue.pick(&config.streams);
        let mut sink = Sink { stream, host: &self.host, entries: Vec::new(), queued: 0 };
        for what in &self.what {
            if what == "-" {
                self.lines(config, std::io::stdin().lock(), &mut sink, redis).await?;
            } else if is_did(what) {
                sink.add(what, redis).await?;
            } else if let Ok(file) = std::fs::File::open(what) {
                self.lines(config, BufReader::new(file), &mut sink, redis).await?;
            } else {
                let did = self.resolve(config, what).await?;
                sink.add(&did, redis).await?;
            }
        }
        sink.flush(redis).await?;
        writeln!(out, "queued {} repositories in {stream}", sink.queued)?;
        Ok(())
    }

    async fn lines(
        &self,
        config: &Config,
        mut input: impl BufRead,
        sink: &mut Sink<'_>,
        redis: &mut Redis,
    ) -> anyhow::Result<()> {
        let mut line = String::new();
        loop {
            line.clear();
            if input.by_ref().take(MOST_LINE).read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.trim() {
                "" => {}
                comment if comment.starts_with('#') => {}
                did if is_did(did) => sink.add(did, redis).await?,
                handle => {
                    let did = self.resolve(config, handle).await?;
                    sink.add(&did, redis).await?;
                }
            }
        }
    }

    async fn resolve(&self, config: &Config, handle: &str) -> anyhow::Result<String> {
        let mut url = self.resolver.join("/xrpc/com.atproto.identity.resolveHandle")?;
        url.query_pairs_mut().append_pair("handle", handle.trim_start_matches('@'));
        // The operator names the resolver, so it may be anywhere.
        let client = reqwest::Client::builder().no_proxy();
        let client = net::build(client.timeout(config.did_timeout.max(Duration::from_secs(10))))?;
        let answer = client.get(url).send().await.with_context(|| format!("resolve {handle}"))?;
        let status = answer.status();
        let body: serde_json::Value = serde_json::from_slice(&answer.bytes().await?).unwrap_or_default();
        match body.get("did").and_then(serde_json::Value::as_str) {
            Some(did) if is_did(did) => Ok(did.to_owned()),
            _ => bail!("{handle:?} is neither a DID nor a file nor a handle that resolves (HTTP {status})"),
        }
    }
}

struct Sink<'a> {
    stream: &'a str,
    host: &'a str,
    entries: Vec<String>,
    queued: usize,
}

impl Sink<'_> {
    async fn add(&mut self, did: &str, redis: &mut Redis) -> anyhow::Result<()> {
        // Without a revision it is never taken for unchanged.
        let event = BackfillEvent {
            did: did.into(),
            host: self.host.into(),
            rev: "".into(),
            status: None,
            active: None,
        };
        self.entries.push(event.to_json());
        if self.entries.len() >= TOGETHER { self.flush(redis).await } else { Ok(()) }
    }

    async fn flush(&mut self, redis: &mut Redis) -> anyhow::Result<()> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let mut transaction = redis::pipe();
        transaction.atomic();
        for entry in &self.entries {
            transaction.cmd("XADD").arg(self.stream).arg("*").arg(FIELD_REPO).arg(entry).ignore();
        }
        let () = transaction.query_async(redis).await.with_context(|| format!("write to {}", self.stream))?;
        self.queued += self.entries.len();
        self.entries.clear();
        Ok(())
    }
}
