//! The indexer's settings, read once at start. Names: DECISIONS, "Names the outside relies on".

use std::time::Duration;

use rsky_common::config::{
    ALLOW_PRIVATE_ADDRESSES, CommonConfig, ConfigError, Environment, PLC_URL, Settings, Variable,
};
use rsky_common::net::Outbound;
use rsky_common::postgres::PostgresSettings;
use rsky_common::runtime::daemon::Startup;
use rsky_common::runtime::memory_plan::{Knob, Planned, Report};

use crate::engine::Notifications;
use crate::prepare::TREES;
use crate::reader::PAGE;
use url::Url;

pub(crate) const DATABASE_URL: Variable = Variable {
    name: "DATABASE_URL",
    alias: Some("DB_POSTGRES_URL"),
    expects: "postgres://user:password@host[:port]/database[?options]",
    default: None,
    help: "The AppView's Postgres. Its schema is inspected, never changed.",
};
pub(crate) const DATABASE_SCHEMA: Variable = Variable {
    name: "DATABASE_SCHEMA",
    alias: None,
    expects: "a schema name",
    default: None,
    help: "Schema of the AppView's tables, put first into the search_path of every transaction. Unset: the search_path \
           of the role or the database.",
};
pub(crate) const DATABASE_STATEMENT_CACHE: Variable = Variable {
    name: "DATABASE_STATEMENT_CACHE",
    alias: None,
    expects: "statements per connection, 0 to 1000",
    default: Some("100"),
    help: "Prepared statements kept per connection. Behind a pooler that gives out servers per transaction (PgBouncer), which \
           is noticed, none are; 0 says so beforehand.",
};
const DB_POOL_MAX_SIZE: Variable = Variable {
    name: "DB_POOL_MAX_SIZE",
    alias: None,
    expects: "connections, 1 to 500",
    default: Some("20"),
    help: "Most Postgres connections of this process, shared by all that need one. Lanes above it are not started. Where \
           Postgres gives fewer, these are shared.",
};
const INDEXER_MODE: Variable = Variable {
    name: "INDEXER_MODE",
    alias: None,
    expects: "all, stream or label",
    default: Some("all"),
    help: "Which streams this process drains: events and labels, events only, labels only.",
};
pub(crate) const INDEXER_STREAMS: Variable = Variable {
    name: "INDEXER_STREAMS",
    alias: None,
    expects: "stream names, separated by commas",
    default: Some("firehose_live,firehose_backfill"),
    help: "The event streams.",
};
pub(crate) const INDEXER_LABEL_STREAM: Variable = Variable {
    name: "INDEXER_LABEL_STREAM",
    alias: None,
    expects: "a stream name",
    default: Some("label_live"),
    help: "The label stream.",
};
pub(crate) const INDEXER_GROUP: Variable = Variable {
    name: "INDEXER_GROUP",
    alias: None,
    expects: "a group name",
    default: Some("firehose_group"),
    help: "Consumer group on every event stream. All indexers of one database share it.",
};
pub(crate) const INDEXER_LABEL_GROUP: Variable = Variable {
    name: "INDEXER_LABEL_GROUP",
    alias: None,
    expects: "a group name",
    default: Some("label_group"),
    help: "Consumer group on the label stream.",
};
const INDEXER_CONSUMER: Variable = Variable {
    name: "INDEXER_CONSUMER",
    alias: None,
    expects: "a name, stable over restarts and different for every indexer",
    default: None,
    help: "This process's name in the groups. Unset: the host name.",
};
const INDEXER_CONCURRENCY: Variable = Variable {
    name: "INDEXER_CONCURRENCY",
    alias: None,
    expects: "lanes, 1 to 256",
    default: None,
    help: "Lanes that index side by side, each with a Postgres connection while it writes. The outcome is that of one. Unset: as many as this machine has cores, 2 to 8. More help only while Postgres has idle cores: they meet on hot \
           rows, and each has its batch in memory.",
};
const INDEXER_BATCH_SIZE: Variable = Variable {
    name: "INDEXER_BATCH_SIZE",
    alias: None,
    expects: "entries, 1 to 10000",
    default: Some("4000"),
    help: "Most entries of one transaction. Larger is faster until rows stay locked too long.",
};
const INDEXER_MEMORY: Variable = Variable {
    name: "INDEXER_MEMORY",
    alias: None,
    expects: "bytes, e.g. 64MiB; 1MiB to 16GiB",
    default: Some("64MiB"),
    help: "Most bytes of entries held between Redis and Postgres, each counted twice: as read, and taken apart. Reading pauses while it is used up. \
           Unset: less where memory is limited (the plan is logged at start).",
};
pub(crate) const INDEXER_CLAIM_IDLE_MS: Variable = Variable {
    name: "INDEXER_CLAIM_IDLE_MS",
    alias: None,
    expects: "milliseconds, 100 to 86400000",
    default: Some("300000"),
    help: "Entries that another consumer has held for this long are taken over, and entries that fail and were put back are \
           read again. Keep it above the longest \
           outage of Postgres that a consumer is expected to sit out, or work is done twice (which is safe).",
};
const MAX_ATTEMPTS: Variable = Variable {
    name: "MAX_ATTEMPTS",
    alias: None,
    expects: "attempts, 1 to 100",
    default: Some("5"),
    help: "Tries of a batch that fails for a reason nobody foresaw, before the entries that do so by themselves are looked \
           for and set aside; and of an account whose handle cannot be asked for, before it becomes a dead letter. \
           Transient failures are retried for as long as they last.",
};
pub(crate) const INDEXER_NOTIFICATIONS: Variable = Variable {
    name: "INDEXER_NOTIFICATIONS",
    alias: None,
    expects: "reference, live or off",
    default: Some("reference"),
    help: "Who writes notifications. reference: as the TypeScript stream indexer, creates notify nobody, updates and \
           deletes do their part. live: creates of live events notify, a backfill never does. off: the table is left \
           alone.",
};
const INDEXER_HANDLE_CONCURRENCY: Variable = Variable {
    name: "INDEXER_HANDLE_CONCURRENCY",
    alias: None,
    expects: "accounts, 0 to 1000",
    default: Some("16"),
    help: "Questions that are with the directory at the same time. As many again may be with the hosts that its documents \
           name, and half as many with hosts of did:web. 0: handles are not resolved and deleted accounts stay; their \
           entries are acknowledged.",
};
const INDEXER_HANDLE_QUEUE: Variable = Variable {
    name: "INDEXER_HANDLE_QUEUE",
    alias: None,
    expects: "entries, 10 to 100000",
    default: Some("2000"),
    help: "Entries whose account is worked on, some 500 bytes each (and up to eight times as many whose account is to \
           be tried again later); a quarter of them at most of the did:webs of one domain. More stay in Redis until there is room.",
};
const INDEXER_IDENTITY_INTERVAL_SECS: Variable = Variable {
    name: "INDEXER_IDENTITY_INTERVAL_SECS",
    alias: None,
    expects: "seconds, 0 to 3600",
    default: Some("60"),
    help: "Least time between two resolutions of one account that identity events ask for; an event that comes sooner is put \
           off until then. 0 puts none off: for a replay, where the events of days come within a second.",
};
pub(crate) const HANDLE_RESOLVER_URL: Variable = Variable {
    name: "HANDLE_RESOLVER_URL",
    alias: None,
    expects: "a URL",
    default: None,
    help: "A service that answers com.atproto.identity.resolveHandle, asked instead of DNS and HTTPS.",
};
const METRICS_PORT: Variable = Variable {
    name: "METRICS_PORT",
    alias: None,
    expects: "a port, 0 to 65535",
    default: Some("4020"),
    help: "Port of the admin pages; 0 takes a free one.",
};

/// What the process takes whatever it does: code, runtime, connections, the schema, what is known of accounts.
const BASE_MEMORY: u64 = 48 << 20;
/// What a lane takes beside the entries it writes: a connection with its statements and buffers.
const LANE_MEMORY: u64 = 5 << 20;
/// Pages that were read and are not charged yet, one of each stream: as Redis sent it, and as entries.
const PAGES: u64 = 3 * 2;
/// An entry whose account is worked on, and the eight that may wait beside it.
const HANDLE_BYTES: u64 = 9 * 500;
/// Bytes of entries below which a plan does not go: an entry of the largest kind passes, and batches are small.
const LEAST_MEMORY: u64 = 4 << 20;

/// Which streams are drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Events and labels.
    All,
    /// Events.
    Stream,
    /// Labels.
    Label,
}

/// The indexer's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Redis, admin server, logging.
    pub common: CommonConfig,
    /// Postgres.
    pub database: PostgresSettings,
    /// Which streams are drained.
    pub mode: Mode,
    /// Event streams.
    pub streams: Vec<String>,
    /// Label stream.
    pub label_stream: String,
    /// Group on the event streams.
    pub group: String,
    /// Group on the label stream.
    pub label_group: String,
    /// Name in the groups.
    pub consumer: String,
    /// Most Postgres connections.
    pub connections: usize,
    /// Number of event lanes, at most the connections allowed.
    pub lanes: usize,
    /// Most entries of one transaction.
    pub batch_size: usize,
    /// Bytes of entries held at most.
    pub memory: usize,
    /// Age at which another consumer's entries are taken over.
    pub claim_idle: Duration,
    /// Tries of a batch or an account that fails unforeseen.
    pub max_attempts: u32,
    /// Who writes notifications.
    pub notifications: Notifications,
    /// Accounts whose handle is asked for at the same time; 0: none.
    pub handle_concurrency: usize,
    /// Entries whose account is worked on at most.
    pub handle_queue: usize,
    /// Least time between two resolutions of one account that identity events ask for.
    pub identity_interval: Duration,
    /// The PLC directory.
    pub plc: Option<Url>,
    /// What answers for handles in place of DNS and HTTPS.
    pub handle_resolver: Option<Url>,
    /// Which hosts may be contacted.
    pub outbound: Outbound,
    /// Warnings about the environment, logged at start.
    pub notices: Vec<String>,
    /// What the plan of memory may lower: bytes of entries, lanes.
    knobs: Option<[Knob; 2]>,
    /// Memory, as planned.
    pub memory_plan: Option<Report>,
}

impl Config {
    /// Reads the settings.
    ///
    /// # Errors
    /// Every variable that is missing or malformed, in one error.
    pub fn read(environment: Environment) -> Result<Self, ConfigError> {
        let mut notices = environment.misspelt(&["INDEXER_", "DATABASE_", "DB_"], &Self::variables());
        notices.extend(environment.unused_proxies());
        let mut settings = Settings::new(environment);
        let s = &mut settings;
        let pool: usize = s.integer(&DB_POOL_MAX_SIZE, 1..=500);
        let mode = s.one_of(
            &INDEXER_MODE,
            &[("all", Mode::All), ("stream", Mode::Stream), ("label", Mode::Label)],
            Mode::All,
        );
        let notifications = notifications(s);
        let handle_concurrency = s.integer(&INDEXER_HANDLE_CONCURRENCY, 0..=1000);
        // One connection is the label lane's, one is the handles', and one asks what is stored.
        let others = usize::from(mode == Mode::All)
            + usize::from(mode != Mode::Label && handle_concurrency > 0)
            + usize::from(mode != Mode::Label);
        let for_events = pool.saturating_sub(others).max(1);
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let lanes = s
            .parse_optional(&INDEXER_CONCURRENCY, |text| text.parse().ok().filter(|n| (1..=256).contains(n)))
            .unwrap_or_else(|| cores.clamp(2, 8));
        let mut config = Self {
            common: CommonConfig::read(s, &METRICS_PORT),
            database: database(s),
            mode,
            streams: s.list(&INDEXER_STREAMS),
            label_stream: s.text(&INDEXER_LABEL_STREAM),
            group: s.text(&INDEXER_GROUP),
            label_group: s.text(&INDEXER_LABEL_GROUP),
            consumer: s.given(&INDEXER_CONSUMER).unwrap_or_else(rsky_common::config::host_name),
            connections: pool,
            lanes: lanes.min(for_events),
            batch_size: s.integer(&INDEXER_BATCH_SIZE, 1..=10_000),
            memory: usize::try_from(s.bytes(&INDEXER_MEMORY, 1 << 20..=16 << 30)).unwrap_or(usize::MAX),
            claim_idle: s.millis(&INDEXER_CLAIM_IDLE_MS, 100..=86_400_000),
            max_attempts: s.integer(&MAX_ATTEMPTS, 1..=100),
            notifications,
            handle_concurrency,
            handle_queue: s.integer(&INDEXER_HANDLE_QUEUE, 10..=100_000),
            identity_interval: s.seconds(&INDEXER_IDENTITY_INTERVAL_SECS, 0..=3600),
            plc: s.http_url(&PLC_URL),
            handle_resolver: s.http_url(&HANDLE_RESOLVER_URL),
            outbound: Outbound { allow_private: s.flag(&ALLOW_PRIVATE_ADDRESSES) },
            notices,
            knobs: None,
            memory_plan: None,
        };
        config.knobs = Some([
            Knob::of(s, &INDEXER_MEMORY, to_u64(config.memory), LEAST_MEMORY),
            Knob::of(s, &INDEXER_CONCURRENCY, to_u64(config.lanes), 1),
        ]);
        settings.finish(config)
    }

    /// What the daemon's frame needs of it.
    pub fn startup(&self) -> Startup {
        let (notices, memory) = (self.notices.clone(), self.memory_plan.clone());
        Startup {
            notices,
            memory,
            ..Startup::new(crate::pipeline::NAME, env!("CARGO_PKG_VERSION"), &self.common)
        }
    }

    /// The declaration of the admin pages' port.
    pub fn port() -> &'static Variable {
        &METRICS_PORT
    }

    /// The declarations, for `--help` and for the warning about misspelt names.
    pub fn variables() -> Vec<&'static Variable> {
        let own: [&'static Variable; 23] = [
            &DATABASE_URL,
            &DATABASE_SCHEMA,
            &DATABASE_STATEMENT_CACHE,
            &DB_POOL_MAX_SIZE,
            &INDEXER_MODE,
            &INDEXER_STREAMS,
            &INDEXER_LABEL_STREAM,
            &INDEXER_GROUP,
            &INDEXER_LABEL_GROUP,
            &INDEXER_CONSUMER,
            &INDEXER_CONCURRENCY,
            &INDEXER_BATCH_SIZE,
            &INDEXER_MEMORY,
            &INDEXER_CLAIM_IDLE_MS,
            &MAX_ATTEMPTS,
            &INDEXER_NOTIFICATIONS,
            &INDEXER_HANDLE_CONCURRENCY,
            &INDEXER_HANDLE_QUEUE,
            &INDEXER_IDENTITY_INTERVAL_SECS,
            &PLC_URL,
            &HANDLE_RESOLVER_URL,
            &ALLOW_PRIVATE_ADDRESSES,
            &METRICS_PORT,
        ];
        CommonConfig::VARIABLES.iter().copied().chain(own).collect()
    }
}

impl Planned<2> for Config {
    fn knobs(&self) -> Option<[Knob; 2]> {
        self.knobs
    }

    fn with(mut self, [memory, lanes]: [u64; 2]) -> Self {
        let number = |value| usize::try_from(value).unwrap_or(usize::MAX);
        self.memory = number(memory);
        self.lanes = number(lanes);
        self
    }

    /// Most memory the process takes, in bytes. What is charged for an entry is what it holds; as much again is what a batch
    /// becomes while it is written: columns, parameters, their wire form. An entry whose tree may be larger than all of
    /// `TREES` (1.7 MiB of text) is read alone, and may take more for that time. Held to it: `stays_within_memory`.
    fn memory_bound(&self) -> u64 {
        let pages = to_u64(PAGE.bytes).saturating_mul(PAGES);
        let lanes = LANE_MEMORY.saturating_mul(to_u64(self.lanes));
        let handles = HANDLE_BYTES.saturating_mul(to_u64(self.handle_queue));
        [BASE_MEMORY, TREES, pages, lanes, handles, to_u64(self.memory).saturating_mul(2)]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    fn planned(&mut self, report: Report) {
        self.memory_plan = Some(report);
    }
}

fn to_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Reads where Postgres is.
pub(crate) fn database(settings: &mut Settings) -> PostgresSettings {
    PostgresSettings::read(settings, &DATABASE_URL, &DATABASE_SCHEMA, Some(&DATABASE_STATEMENT_CACHE))
}

/// Reads who writes notifications.
pub(crate) fn notifications(settings: &mut Settings) -> Notifications {
    settings.one_of(
        &INDEXER_NOTIFICATIONS,
        &[
            ("reference", Notifications::Reference),
            ("live", Notifications::Live),
            ("off", Notifications::Off),
        ],
        Notifications::Reference,
    )
}

#[cfg(test)]
mod tests {
    use rsky_common::runtime::memory_limit::{Boundary, MemoryLimit};

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::read(Environment::from_pairs(pairs))
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let said = read(&[("INDEXER_MODE", "both"), ("INDEXER_BATCH_SIZE", "0")]).unwrap_err().to_string();
        for name in ["REDIS_URL", "DATABASE_URL", "INDEXER_MODE", "INDEXER_BATCH_SIZE"] {
            assert!(said.contains(name), "{name}: {said}");
        }
    }

    #[test]
    fn defaults_fit_the_limit_they_find_themselves_under() {
        let least = [("REDIS_HOST", "r"), ("DATABASE_URL", "postgres://h/d")];
        for mib in [256, 384, 512, 16 << 10] {
            let limit = MemoryLimit { bytes: mib << 20, boundary: Boundary::Cgroup("cgroup v2") };
            let config = read(&least).unwrap().within(Some(limit));
            assert!(config.memory_bound() <= limit.usable(), "{mib}: {}", config.memory_bound() >> 20);
            assert_eq!(config.memory_plan.unwrap().warning(), None, "{mib}");
        }
        let ordinary = MemoryLimit { bytes: 7600 << 20, boundary: Boundary::Host };
        for limit in [None, Some(ordinary)] {
            let plan = read(&least).unwrap().within(limit).memory_plan.unwrap();
            assert!(!plan.to_string().contains("lowered"), "{plan}");
        }
        let set = [&least[..], &[("INDEXER_MEMORY", "1GiB")]].concat();
        let limit = MemoryLimit { bytes: 256 << 20, boundary: Boundary::AddressSpace };
        let config = read(&set).unwrap().within(Some(limit));
        assert_eq!((config.memory, config.lanes), (1 << 30, 1));
        assert!(config.memory_plan.unwrap().warning().unwrap().contains("INDEXER_MEMORY set by hand"));
    }

    #[test]
    fn lanes_fit_the_connections() {
        let url =
            [("REDIS_HOST", "r"), ("DB_POSTGRES_URL", "postgres://h/d"), ("INDEXER_CONCURRENCY", "100")];
        assert_eq!(read(&[&url[..], &[("DB_POOL_MAX_SIZE", "5")]].concat()).unwrap().lanes, 2);
        let labels_apart = [&url[..], &[("DB_POOL_MAX_SIZE", "5"), ("INDEXER_MODE", "stream")]].concat();
        assert_eq!(read(&labels_apart).unwrap().lanes, 3);
        let no_handles = [&labels_apart[..], &[("INDEXER_HANDLE_CONCURRENCY", "0")]].concat();
        assert_eq!(read(&no_handles).unwrap().lanes, 4);
    }
}
