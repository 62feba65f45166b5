//! The settings of the command: those of the daemons that it looks after, under the same names.

use std::time::Duration;

use rsky_common::config::{
    self, BACKFILLER_BACKFILL_STREAM, BACKFILLER_GROUP, BACKFILLER_PRIORITY_STREAM, ConfigError, Environment,
    REDIS_URL, Secret, Variable, redis_url,
};

use crate::config::{INDEXER_CLAIM_IDLE_MS, INDEXER_GROUP, INDEXER_STREAMS};
use crate::index_repo::settings::Settings as Network;

/// What the command reads of its environment.
#[derive(Debug)]
pub(super) struct Settings {
    /// The database, and who is asked about accounts.
    pub(super) network: Network,
    pub(super) redis_url: Secret,
    /// Event streams.
    pub(super) streams: Vec<String>,
    pub(super) group: String,
    /// Streams of repositories: priority, then the others.
    pub(super) queues: [String; 2],
    pub(super) queue_group: String,
    /// Age at which others' entries are taken over.
    pub(super) claim_idle: Duration,
}

impl Settings {
    /// # Errors
    /// Every variable that is missing or malformed, in one error.
    pub(super) fn read(environment: Environment) -> Result<Self, ConfigError> {
        let mut settings = config::Settings::new(environment);
        let s = &mut settings;
        let read = Self {
            network: Network::of(s),
            redis_url: redis_url(s),
            streams: s.list(&INDEXER_STREAMS),
            group: s.text(&INDEXER_GROUP),
            queues: [s.text(&BACKFILLER_PRIORITY_STREAM), s.text(&BACKFILLER_BACKFILL_STREAM)],
            queue_group: s.text(&BACKFILLER_GROUP),
            claim_idle: s.millis(&INDEXER_CLAIM_IDLE_MS, 100..=86_400_000),
        };
        settings.finish(read)
    }

    /// The declarations, for `--help`.
    pub(super) fn variables() -> Vec<&'static Variable> {
        let own = [
            &REDIS_URL,
            &INDEXER_STREAMS,
            &INDEXER_GROUP,
            &INDEXER_CLAIM_IDLE_MS,
            &BACKFILLER_BACKFILL_STREAM,
            &BACKFILLER_PRIORITY_STREAM,
            &BACKFILLER_GROUP,
        ];
        own.into_iter().chain(Network::variables()).collect()
    }
}
