//! The settings every daemon has.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Secret, Settings, Variable};
use crate::runtime::logging::{LogConfig, LogFormat};

/// Where Redis is.
pub const REDIS_URL: Variable = Variable {
    name: "REDIS_URL",
    alias: None,
    expects: "redis://[user:password@]host[:port][/db] or rediss:// (TLS); or REDIS_HOST as host[:port]",
    default: None,
    help: "The Redis (or Valkey) that holds the streams. REDIS_HOST=host[:port] is accepted instead.",
};
const REDIS_HOST: Variable = Variable {
    name: "REDIS_HOST",
    alias: None,
    expects: "host[:port], without scheme",
    default: None,
    help: "REDIS_URL under the TypeScript's name.",
};
/// Whether a Redis that evicts keys is put up with.
pub const REDIS_ALLOW_EVICTION: Variable = Variable {
    name: "REDIS_ALLOW_EVICTION",
    alias: None,
    expects: "true or false",
    default: Some("false"),
    help: "Start although the server's maxmemory-policy is not noeviction. A full server then deletes whole streams.",
};
/// The address of the admin server.
pub const METRICS_HOST: Variable = Variable {
    name: "METRICS_HOST",
    alias: None,
    expects: "an IP address",
    default: Some("127.0.0.1"),
    help: "Address the admin pages (/metrics /healthz /readyz /status /) are served on; 0.0.0.0 for all interfaces.",
};
/// What is logged.
pub const RUST_LOG: Variable = Variable {
    name: "RUST_LOG",
    alias: None,
    expects: "tracing filter directives, e.g. info or warn,rsky_ingester=debug",
    default: Some("info"),
    help: "What is logged.",
};
/// How it is logged.
pub const LOG_FORMAT: Variable = Variable {
    name: "LOG_FORMAT",
    alias: None,
    expects: "text or json",
    default: Some("text"),
    help: "Lines for people or one JSON object per line, on standard output.",
};
/// Patience with our own work at the end.
pub const SHUTDOWN_TIMEOUT_MS: Variable = Variable {
    name: "SHUTDOWN_TIMEOUT_MS",
    alias: None,
    expects: "milliseconds, 100 to 600000",
    default: Some("8000"),
    help: "How long work in flight may take to finish after SIGTERM. Keep it below the supervisor's own patience \
           (docker stop: 10 s); what is abandoned is done again after the next start.",
};
/// Length of dead-letter streams.
pub const DLQ_MAX_LEN: Variable = Variable {
    name: "DLQ_MAX_LEN",
    alias: None,
    expects: "entries, 1 to 100000000",
    default: Some("100000"),
    help: "Most dead letters beside a stream. Those of single entries are trimmed to about this, oldest first; those of \
           repositories never: what would write more of them waits until some were retried or dropped.",
};
/// Size of dead-letter streams.
pub const DLQ_MAX_BYTES: Variable = Variable {
    name: "DLQ_MAX_BYTES",
    alias: None,
    expects: "bytes, e.g. 512MiB; 4MiB to 1TiB",
    default: Some("512MiB"),
    help: "Redis memory that dead letters of single entries beside a stream take at most, about; the oldest are trimmed. \
           A letter keeps up to 1 MiB of what could not be processed. Those of repositories are some kilobytes at most.",
};

/// How many dead letters there may be beside a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LetterBounds {
    /// Letters (`DLQ_MAX_LEN`).
    pub letters: u64,
    /// Bytes of Redis that letters of entries take (`DLQ_MAX_BYTES`).
    pub bytes: u64,
}

/// The settings every daemon has, read.
#[derive(Clone, Debug)]
pub struct CommonConfig {
    /// Redis URL with credentials.
    pub redis_url: Secret,
    /// Whether a server that evicts keys is accepted.
    pub redis_allow_eviction: bool,
    /// Where the admin pages are served.
    pub admin: SocketAddr,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Time between the first signal and giving up on what is in flight.
    pub drain: Duration,
    /// Caps of each dead-letter stream.
    pub letters: LetterBounds,
}

impl CommonConfig {
    /// The declarations, for `--help`; the daemon adds its own `METRICS_PORT`.
    pub const VARIABLES: &'static [&'static Variable] = &[
        &REDIS_URL,
        &REDIS_ALLOW_EVICTION,
        &DLQ_MAX_LEN,
        &DLQ_MAX_BYTES,
        &METRICS_HOST,
        &RUST_LOG,
        &LOG_FORMAT,
        &SHUTDOWN_TIMEOUT_MS,
    ];

    /// Reads them. `port` is the daemon's declaration of `METRICS_PORT`, whose default differs between daemons.
    pub fn read(settings: &mut Settings, port: &Variable) -> Self {
        let host = settings.parse(&METRICS_HOST, IpAddr::from([127, 0, 0, 1]), |text| text.parse().ok());
        Self {
            redis_url: redis_url(settings),
            redis_allow_eviction: settings.flag(&REDIS_ALLOW_EVICTION),
            admin: SocketAddr::new(host, settings.integer(port, 0..=u16::MAX)),
            log: LogConfig {
                filter: settings.parse(&RUST_LOG, String::new(), LogConfig::checked_filter),
                format: settings.one_of(
                    &LOG_FORMAT,
                    &[("text", LogFormat::Text), ("json", LogFormat::Json)],
                    LogFormat::Text,
                ),
            },
            drain: settings.millis(&SHUTDOWN_TIMEOUT_MS, 100..=600_000),
            letters: LetterBounds {
                letters: settings.integer(&DLQ_MAX_LEN, 1..=100_000_000),
                bytes: settings.bytes(&DLQ_MAX_BYTES, 4 << 20..=1 << 40),
            },
        }
    }
}

/// Reads [`REDIS_URL`], under either name.
pub fn redis_url(settings: &mut Settings) -> Secret {
    const SCHEMES: &[&str] = &["redis", "rediss", "valkey", "valkeys", "unix", "redis+unix"];
    let host = settings.parse_optional(&REDIS_HOST, |text| {
        let plain = !text.contains("://") && !text.contains(['/', '@', ' ']);
        let (name, port) = text.split_once(':').unwrap_or((text, "6379"));
        let port: u16 = port.parse().ok()?;
        (plain && !name.is_empty()).then(|| format!("redis://{name}:{port}"))
    });
    let url = settings.environment().get(REDIS_URL.name).map(str::to_owned);
    match (url, host) {
        (None, Some(host)) => Secret::new(host),
        (url, host) => {
            let same = |url: &str, host: &str| {
                let url = url.trim_end_matches('/');
                url == host || format!("{url}:6379") == host
            };
            if let (Some(url), Some(host)) = (&url, &host)
                && !same(url, host)
            {
                settings.fault("REDIS_URL and REDIS_HOST are the same setting and have different values");
            }
            settings.secret_url(&REDIS_URL, SCHEMES)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigError, Environment};

    const PORT: Variable =
        Variable { name: "METRICS_PORT", alias: None, expects: "a port", default: Some("4000"), help: "" };

    fn read(pairs: &[(&str, &str)]) -> Result<CommonConfig, ConfigError> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut settings = Settings::new(Environment::from_pairs(pairs));
        let config = CommonConfig::read(&mut settings, &PORT);
        settings.finish(config)
    }

    #[test]
    fn defaults() {
        let config = read(&[("REDIS_URL", "redis://localhost:6379")]).unwrap();
        assert_eq!(config.admin.to_string(), "127.0.0.1:4000");
        assert_eq!(config.drain, Duration::from_secs(8));
        assert!(!config.redis_allow_eviction);
    }

    #[test]
    fn redis_host_stands_for_the_url() {
        let url = |pairs: &[(&str, &str)]| read(pairs).map(|config| config.redis_url.expose().to_owned());
        assert_eq!(url(&[("REDIS_HOST", "cache")]).unwrap(), "redis://cache:6379");
        assert_eq!(url(&[("REDIS_HOST", "cache:7000")]).unwrap(), "redis://cache:7000");
        assert_eq!(url(&[("REDIS_HOST", "c:1"), ("REDIS_URL", "redis://c:1/")]).unwrap(), "redis://c:1/");
        assert_eq!(url(&[("REDIS_HOST", "c"), ("REDIS_URL", "redis://c")]).unwrap(), "redis://c");
        assert!(url(&[("REDIS_HOST", "redis://cache")]).is_err());
        assert!(url(&[("REDIS_HOST", "c:1"), ("REDIS_URL", "redis://d:1")]).is_err());
        assert!(url(&[]).is_err());
    }

    #[test]
    fn a_malformed_log_filter_is_a_fault() {
        let said = read(&[("REDIS_HOST", "c"), ("RUST_LOG", "info,=!=")]).unwrap_err().to_string();
        assert!(said.contains("RUST_LOG"), "{said}");
    }
}
