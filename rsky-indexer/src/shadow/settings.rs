//! The settings of the command: those of the indexer that it looks at, under the same names.

use rsky_common::config::{self, ConfigError, Environment, REDIS_URL, Secret, Variable, redis_url};
use rsky_common::postgres::PostgresSettings;

use crate::config::{
    DATABASE_SCHEMA, DATABASE_STATEMENT_CACHE, DATABASE_URL, INDEXER_GROUP, INDEXER_LABEL_GROUP,
    INDEXER_LABEL_STREAM, INDEXER_STREAMS, database,
};

/// What the command reads of its environment.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) database: PostgresSettings,
    pub(super) redis_url: Secret,
    /// Event streams.
    pub(super) streams: Vec<String>,
    pub(super) group: String,
    pub(super) label_stream: String,
    pub(super) label_group: String,
}

impl Settings {
    /// # Errors
    /// Every variable that is missing or malformed, in one error.
    pub(super) fn read(environment: Environment) -> Result<Self, ConfigError> {
        let mut settings = config::Settings::new(environment);
        let s = &mut settings;
        let read = Self {
            database: database(s),
            redis_url: redis_url(s),
            streams: s.list(&INDEXER_STREAMS),
            group: s.text(&INDEXER_GROUP),
            label_stream: s.text(&INDEXER_LABEL_STREAM),
            label_group: s.text(&INDEXER_LABEL_GROUP),
        };
        settings.finish(read)
    }

    /// The declarations, for `--help`.
    pub(super) fn variables() -> [&'static Variable; 8] {
        [
            &REDIS_URL,
            &DATABASE_URL,
            &DATABASE_SCHEMA,
            &DATABASE_STATEMENT_CACHE,
            &INDEXER_STREAMS,
            &INDEXER_GROUP,
            &INDEXER_LABEL_STREAM,
            &INDEXER_LABEL_GROUP,
        ]
    }
}
