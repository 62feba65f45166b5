//! A world, served: relays, hosts, directory, labeler.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::super::control::lock;
use super::super::list_repos::RepoPage;
use super::super::{Network, NetworkBuilder, RunningNetwork};
use super::options::WorldOptions;
use super::simulation::World;
use super::sources::{Everywhere, Host, Web};
use super::stage::Stage;
use super::trouble::{LIST_PAGE, Trouble};

/// Repositories on a page of listRepos.
const PAGE: usize = 100;
/// How far apart the numbers of two relays are.
const BETWEEN_RELAYS: u64 = 10_000_000_000;

/// How a world is served.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Port of the first relay; 0 takes a free one. Hosts and further relays have free ports.
    pub port: u16,
    /// Frames a second for every subscriber; `None`: as fast as they are read.
    pub rate: Option<NonZeroU32>,
    /// Frames that a relay keeps for those who come later, at least 1. They take some 3 KB of memory each.
    pub retention: usize,
    /// Relays with the same events under numbers of their own, at least 1.
    pub relays: usize,
    /// The address everything listens on.
    pub address: IpAddr,
    /// The name or address by which others reach it, as DID documents have it; `None`: the address it listens on.
    pub name: Option<String>,
}

impl Default for Serving {
    fn default() -> Self {
        let address = Ipv4Addr::LOCALHOST.into();
        Self { port: 0, rate: None, retention: 100_000, relays: 1, address, name: None }
    }
}

/// A world as a network of several ports: the first relay, which also has the directory, the handles and the labeler;
/// further relays; the hosts of the accounts; and those of did:web documents, at the ports that the options name.
///
/// The world stands still at the end of its history until a relay is read, and then goes as far as its fastest reader:
/// directory and hosts answer as of that moment. What goes wrong on purpose is counted ([`WorldNetwork::trouble`]). Where
/// relays or the labeler do wrong, numbers are left out between events.
pub struct WorldNetwork {
    relays: Vec<RunningNetwork>,
    hosts: Vec<RunningNetwork>,
    stage: Arc<Stage>,
    last_label: u64,
}

impl WorldNetwork {
    /// Makes the history, and serves it.
    ///
    /// # Errors
    /// A port is taken, or the address of a did:web has none.
    pub async fn start(options: WorldOptions, serving: Serving) -> Result<Self> {
        let (hosts, web, retention) = (options.hosts.max(1), options.web.clone(), serving.retention.max(1));
        let made = move || Stage::new(World::new(options), retention);
        let stage = Arc::new(tokio::task::spawn_blocking(made).await.context("make the history")?);
        let (labels, last_label) = stage.labeler();
        let mut network =
            Self { relays: Vec::new(), hosts: Vec::new(), stage: Arc::clone(&stage), last_label };
        for number in 0..hosts {
            let source = Arc::new(Host { stage: Arc::clone(&stage), number });
            let host = network_at(&serving).source(source).start().await?;
            lock(&stage.endpoints).push(host.url());
            network.hosts.push(host);
        }
        for name in web {
            let port = name.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
            let port = port.with_context(|| format!("the host of a did:web needs a port: {name:?}"))?;
            let source = Arc::new(Web { stage: Arc::clone(&stage) });
            network.hosts.push(network_at(&serving).port(port).source(source).start().await?);
        }
        let listed = stage.with(listing);
        let page = if stage.troubles.is_of_listing() { LIST_PAGE } else { PAGE };
        for relay in 0..serving.relays.max(1) {
            let builder = network_at(&serving)
                .port(if relay == 0 { serving.port } else { 0 })
                .rate(serving.rate)
                .source(Arc::new(Everywhere { stage: Arc::clone(&stage) }))
                .repo_pages(RepoPage::split(listed.clone(), page))
                .page_size(page)
                .labeler(labels.clone())
                .relay(stage.relay(relay as u64 * BETWEEN_RELAYS));
            network.relays.push(builder.start().await?);
        }
        Ok(network)
    }

    /// The relays; the first one is directory, handle server and labeler, too.
    pub fn relays(&self) -> &[RunningNetwork] {
        &self.relays
    }

    /// The hosts of the accounts, then those of did:web documents.
    pub fn hosts(&self) -> &[RunningNetwork] {
        &self.hosts
    }

    /// The number of the last event of the stream at the first relay, once the whole world has happened.
    pub fn last_seq(&self) -> u64 {
        self.stage.last_seq()
    }

    /// The number of the labeler's last frame.
    pub fn last_label(&self) -> u64 {
        self.last_label
    }

    /// Where each kind of trouble has happened so far: of streams the numbers of frames, of pages those of their first
    /// repositories, otherwise a number for each account.
    pub fn trouble(&self) -> BTreeMap<Trouble, BTreeSet<u64>> {
        self.stage.troubles.happened()
    }

    /// Ends it.
    ///
    /// # Errors
    /// Connections do not end within some seconds.
    pub async fn stop(self) -> Result<()> {
        for network in self.relays.into_iter().chain(self.hosts) {
            network.stop().await?;
        }
        Ok(())
    }
}

fn network_at(serving: &Serving) -> NetworkBuilder {
    Network::builder().address(serving.address).name(serving.name.clone())
}

fn listing(world: &World) -> Vec<Value> {
    let one = |did: &str| {
        let (rev, head) = world.head(did)?;
        Some(json!({"did": did, "head": head.to_string(), "rev": rev, "active": true}))
    };
    world.dids().filter_map(one).collect()
}
