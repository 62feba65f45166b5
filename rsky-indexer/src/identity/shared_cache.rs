//! The documents that the AppView's processes share in Redis learn what was resolved (IDENTITY 3). Best effort: a Redis
//! that is full or away stops no handle.

use std::time::Duration;

use rsky_common::identity::redis_cache;
use rsky_common::redis::RedisLink;
use tracing::{info, warn};

use super::question::Cached;

/// Patience with Redis, which the handles wait for meanwhile.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Writes into the shared cache.
#[derive(Debug)]
pub(super) struct SharedCache {
    link: RedisLink,
    failing: bool,
}

impl SharedCache {
    pub(super) fn new(link: RedisLink) -> Self {
        Self { link, failing: false }
    }

    /// Stores and removes documents, in one round trip.
    pub(super) async fn learn(&mut self, news: Vec<(String, Cached)>) {
        if news.is_empty() {
            return;
        }
        let mut pipeline = redis::pipe();
        for (did, cached) in &news {
            let command = match cached {
                Cached::Put(json) => redis_cache::put(did, json),
                Cached::Remove => redis_cache::remove(did),
            };
            pipeline.add_command(command).ignore();
        }
        let outcome = tokio::time::timeout(TIMEOUT, self.link.pipeline::<()>(&pipeline)).await;
        let error = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {TIMEOUT:?}")),
        };
        let failing = error.is_some();
        match error {
            Some(error) if !self.failing => {
                warn!("the shared cache of DID documents cannot be written, handles go on without: {error}");
            }
            None if self.failing => info!("the shared cache of DID documents is written again"),
            _ => {}
        }
        self.failing = failing;
    }
}
