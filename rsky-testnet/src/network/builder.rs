//! Putting a network together.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::Value;

use super::control::{Control, Feed};
use super::corpus::Corpus;
use super::directory::{Directory, Known, RepoAnswer, Source};
use super::list_repos::{ListRepos, PAGE_SIZE, RepoPage};
use super::script::Script;
use super::server::{Parts, RunningNetwork};

/// A simulated AT network: relay, PDS, PLC directory, handle server and labeler at one address.
#[derive(Clone, Copy, Debug)]
pub struct Network;

impl Network {
    /// A network of nothing, to be filled.
    pub fn builder() -> NetworkBuilder {
        NetworkBuilder::default()
    }
}

/// See [`Network::builder`]. What is given directly wins over the corpus.
#[derive(Debug, Default)]
pub struct NetworkBuilder {
    corpus: Option<PathBuf>,
    relay: Option<Script>,
    labeler: Option<Script>,
    pages: Option<Vec<RepoPage>>,
    page_size: Option<usize>,
    known: Known,
    source: Option<Arc<dyn Source>>,
    address: Option<IpAddr>,
    name: Option<String>,
    port: u16,
    rate: Option<NonZeroU32>,
    from_end: bool,
    send_buffer: Option<u32>,
}

impl NetworkBuilder {
    /// Serves a recorded corpus folder (see [`Corpus`]).
    #[must_use]
    pub fn corpus(mut self, folder: impl Into<PathBuf>) -> Self {
        self.corpus = Some(folder.into());
        self
    }

    /// What subscribeRepos sends.
    #[must_use]
    pub fn relay(mut self, script: Script) -> Self {
        self.relay = Some(script);
        self
    }

    /// What subscribeLabels sends.
    #[must_use]
    pub fn labeler(mut self, script: Script) -> Self {
        self.labeler = Some(script);
        self
    }

    /// The pages of listRepos.
    #[must_use]
    pub fn repo_pages(mut self, pages: Vec<RepoPage>) -> Self {
        self.pages = Some(pages);
        self
    }

    /// Repositories on a page of listRepos at most; the default is 20.
    #[must_use]
    pub fn page_size(mut self, repositories: usize) -> Self {
        self.page_size = Some(repositories);
        self
    }

    /// Adds a DID document, under its `id`.
    #[must_use]
    pub fn document(mut self, document: Value) -> Self {
        let id = document.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        self.known.documents.insert(id, document);
        self
    }

    /// Adds a handle.
    #[must_use]
    pub fn handle(mut self, handle: &str, did: &str) -> Self {
        self.known.handles.insert(handle.to_owned(), did.to_owned());
        self
    }

    /// Adds a repository.
    #[must_use]
    pub fn repo(mut self, did: &str, answer: RepoAnswer) -> Self {
        self.known.repos.insert(did.to_owned(), answer);
        self
    }

    /// Where documents, handles and repositories come from that are not added one by one.
    #[must_use]
    pub fn source(mut self, source: Arc<dyn Source>) -> Self {
        self.source = Some(source);
        self
    }

    /// The address it listens on; the default is 127.0.0.1.
    #[must_use]
    pub fn address(mut self, address: IpAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// The name by which others reach it, as its own URL has it; the default is the address.
    #[must_use]
    pub fn name(mut self, name: Option<String>) -> Self {
        self.name = name;
        self
    }

    /// The port; the default 0 takes a free one.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Frames a second for every subscriber; the default is as fast as they are read.
    #[must_use]
    pub fn rate(mut self, frames: Option<NonZeroU32>) -> Self {
        self.rate = frames;
        self
    }

    /// Subscribers without a cursor begin at the end, as at a real relay, and not at the beginning of the recording.
    #[must_use]
    pub fn from_end(mut self, from_end: bool) -> Self {
        self.from_end = from_end;
        self
    }

    /// Limits what the kernel buffers of each connection, in bytes; otherwise it may grow to some megabytes.
    #[must_use]
    pub fn send_buffer(mut self, bytes: u32) -> Self {
        self.send_buffer = Some(bytes);
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When the corpus cannot be read or the port is taken.
    pub async fn start(self) -> Result<RunningNetwork> {
        let corpus = match self.corpus {
            Some(folder) => tokio::task::spawn_blocking(move || {
                Corpus::read(&folder).with_context(|| format!("the corpus in {}", folder.display()))
            })
            .await
            .context("read the corpus")??,
            None => Corpus::default(),
        };
        let mut known = corpus.known;
        known.documents.extend(self.known.documents);
        known.handles.extend(self.known.handles);
        known.repos.extend(self.known.repos);
        let relay = self.relay.unwrap_or_else(|| Script::frames(corpus.firehose));
        let labeler = self.labeler.unwrap_or_else(|| Script::frames(corpus.labels));
        let parts = Parts {
            relay: Feed(Control::new(relay, self.from_end, self.rate)),
            labeler: Feed(Control::new(labeler, false, self.rate)),
            list_repos: ListRepos::new(
                self.pages.unwrap_or(corpus.pages),
                self.page_size.unwrap_or(PAGE_SIZE),
            )?,
            directory: Directory::new(known, self.source),
        };
        let address = self.address.unwrap_or(Ipv4Addr::LOCALHOST.into());
        RunningNetwork::new(parts, (address, self.port).into(), self.name.as_deref(), self.send_buffer)
    }
}
