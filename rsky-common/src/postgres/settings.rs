//! Where the database is, from the environment.

use crate::config::{Secret, Settings, Variable};

/// What has to be known to connect.
#[derive(Clone, Debug)]
pub struct PostgresSettings {
    /// URL with credentials.
    pub url: Secret,
    /// Schema put first into the search path of every transaction; `None`: wherever the role's own leads.
    pub schema: Option<String>,
    /// Prepared statements kept per connection, where they may be kept.
    pub statement_cache: usize,
}

impl PostgresSettings {
    /// Reads them by a daemon's declarations. Without one for the statement cache no statement is kept.
    pub fn read(
        settings: &mut Settings,
        url: &Variable,
        schema: &Variable,
        statement_cache: Option<&Variable>,
    ) -> Self {
        Self {
            url: settings.secret_url(url, &["postgres", "postgresql"]),
            schema: settings.given(schema),
            statement_cache: statement_cache.map_or(0, |variable| settings.integer(variable, 0..=1000)),
        }
    }
}
