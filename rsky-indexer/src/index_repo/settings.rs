//! The settings of the command: those of the daemon that it needs, under the same names. Redis is not among them.

use rsky_common::config::{self, ALLOW_PRIVATE_ADDRESSES, ConfigError, Environment, PLC_URL, Variable};
use rsky_common::net::Outbound;
use rsky_common::postgres::PostgresSettings;
use url::Url;

use crate::config::{
    DATABASE_SCHEMA, DATABASE_STATEMENT_CACHE, DATABASE_URL, HANDLE_RESOLVER_URL, INDEXER_NOTIFICATIONS,
    database, notifications,
};
use crate::engine::Notifications;

/// What the command reads of its environment.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) database: PostgresSettings,
    pub(crate) notifications: Notifications,
    pub(crate) plc: Option<Url>,
    pub(crate) handle_resolver: Option<Url>,
    pub(crate) outbound: Outbound,
}

impl Settings {
    /// # Errors
    /// Every variable that is missing or malformed, in one error.
    pub(crate) fn read(environment: Environment) -> Result<Self, ConfigError> {
        let mut settings = config::Settings::new(environment);
        let read = Self::of(&mut settings);
        settings.finish(read)
    }

    /// The same as a part of other settings.
    pub(crate) fn of(s: &mut config::Settings) -> Self {
        Self {
            database: database(s),
            notifications: notifications(s),
            plc: s.http_url(&PLC_URL),
            handle_resolver: s.http_url(&HANDLE_RESOLVER_URL),
            outbound: Outbound { allow_private: s.flag(&ALLOW_PRIVATE_ADDRESSES) },
        }
    }

    /// The declarations, for `--help`.
    pub(crate) fn variables() -> [&'static Variable; 7] {
        [
            &DATABASE_URL,
            &DATABASE_SCHEMA,
            &DATABASE_STATEMENT_CACHE,
            &INDEXER_NOTIFICATIONS,
            &PLC_URL,
            &HANDLE_RESOLVER_URL,
            &ALLOW_PRIVATE_ADDRESSES,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_is_not_asked_for() {
        let read = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            Settings::read(Environment::from_pairs(pairs))
        };
        assert!(read(&[("DB_POSTGRES_URL", "postgres://h/d")]).is_ok());
        let faults = read(&[("PLC_URL", "nonsense")]).unwrap_err().to_string();
        assert!(faults.contains("DATABASE_URL") && faults.contains("PLC_URL"), "{faults}");
        assert!(!faults.contains("REDIS"), "{faults}");
    }
}
