//! The backfiller's settings, read once at start.

use std::path::PathBuf;
use std::time::Duration;

use rsky_common::atproto::CollectionFilter;
use rsky_common::config::{CommonConfig, ConfigError, Environment, Settings, Variable, host_name};
use rsky_common::net::Outbound;
use rsky_common::postgres::PostgresSettings;
use rsky_common::redis::consumer::Consumer;
use rsky_common::runtime::daemon::Startup;
use rsky_common::runtime::memory_plan::{Knob, Planned, Report};
use rsky_common::wire::names;
use url::Url;

use crate::sizes::{FIRST_BYTES, KEPT_DOCUMENT, MAX_ENTRY_BYTES, MOST_DOCUMENT, MOST_PAYLOAD};
use crate::variables as v;

/// What the process takes whatever it does: code, runtime, connections, caches' tables.
const BASE_MEMORY: u64 = 64 << 20;
/// What a repository in work takes beside its blocks: while it comes in, a block, pieces of the answer and a run of the
/// index; while it is read, open nodes, a block, its text while it is written, its members, and records that are remembered
/// as text.
pub(crate) const REPO_OVERHEAD: u64 = 12 << 20;
/// What a repository has at least for its blocks in a plan that has to be narrow; less makes every other one go through a
/// file.
const LEAST_PER_REPO: u64 = 1 << 20;
/// Chunks of a repository's entries: one made, one waiting, one being written.
const CHUNKS_PER_REPO: u64 = 3;
/// Copies of a batch while it is written: entries, commands, their wire form.
const BATCH_COPIES: u64 = 6;
/// A queued repository (its entry, parts of it, its document), and a cached document.
const JOB_BYTES: usize = 2 * MOST_PAYLOAD + MOST_DOCUMENT;
const DOCUMENT_BYTES: usize = KEPT_DOCUMENT + 512;

/// Where repositories are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The PDS of the DID document; the listing host when it names none.
    Pds,
    /// The listing host.
    Host,
}

/// The backfiller's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Redis, admin server, logging.
    pub common: CommonConfig,
    /// Consumer group.
    pub group: String,
    /// Name in the group.
    pub consumer: String,
    /// Streams that are read: priority, then the others.
    pub streams: [String; 2],
    /// Stream that is written.
    pub output: String,
    /// Its high-water mark, in entries.
    pub mark: u64,
    /// Used fraction of memory at which writing pauses; above 1: never.
    pub memory_threshold: f64,
    /// Repositories in work.
    pub concurrency: usize,
    /// Of one host.
    pub host_concurrency: usize,
    /// Requests at one directory.
    pub plc_concurrency: usize,
    /// Repositories taken and not finished.
    pub queue: usize,
    /// Repositories put off.
    pub delayed_max: u64,
    /// Entries of one transaction.
    pub batch_size: usize,
    /// Bytes of entries of one transaction.
    pub batch_bytes: usize,
    /// Where repositories are fetched.
    pub source: Source,
    /// Whether signatures are checked.
    pub verify: bool,
    /// Collections that are queued.
    pub filter: CollectionFilter,
    /// The same as text.
    pub collections: String,
    /// Whether what was queued before is passed over.
    pub skip_unchanged: bool,
    /// Whether `actor_sync` counts for accounts that were not queued here.
    pub skip_indexed: bool,
    /// Bytes of Redis for remembering revisions.
    pub unchanged_memory: u64,
    /// Memory for the blocks of a repository.
    pub memory_per_repo: u64,
    /// Largest repository.
    pub max_repo: u64,
    /// Bytes of all temporary files together.
    pub disk: u64,
    /// Directory of temporary files.
    pub temp_dir: PathBuf,
    /// Until a host begins to answer.
    pub answer_timeout: Duration,
    /// Without progress.
    pub stall_timeout: Duration,
    /// For a whole download.
    pub total_timeout: Duration,
    /// Tries of a repository.
    pub max_attempts: u32,
    /// First and longest pause between them.
    pub retry: (Duration, Duration),
    /// First pause of a failing host.
    pub host_backoff: Duration,
    /// Age of a failure after which a host's repositories are given up.
    pub host_give_up: Duration,
    /// Age at which others' entries are taken over.
    pub claim_idle: Duration,
    /// DID documents kept.
    pub did_cache: usize,
    /// For a DID document.
    pub did_timeout: Duration,
    /// Whether the shared cache in Redis is used.
    pub shared_identity: bool,
    /// The AppView's database, if it is to be compared with.
    pub database: Option<PostgresSettings>,
    /// The PLC directory; always there in a configuration without faults.
    pub plc: Option<Url>,
    /// What may be contacted.
    pub outbound: Outbound,
    /// Warnings about the environment, logged at start.
    pub notices: Vec<String>,
    /// What the plan of memory may lower: concurrency, memory per repository, queue, documents.
    knobs: Option<[Knob; 4]>,
    /// Memory, as planned.
    pub memory: Option<Report>,
}

impl Config {
    /// Reads the settings.
    ///
    /// # Errors
    /// Every variable that is missing or malformed, in one error.
    pub fn read(environment: Environment) -> Result<Self, ConfigError> {
        let mut notices = environment.misspelt(&["BACKFILLER_"], &Self::variables());
        notices.extend(environment.unused_proxies());
        // Set by deployments of old rsky; ours are always beside the stream.
        notices.retain(|notice| !notice.starts_with("BACKFILLER_DLQ_STREAM "));
        let mut settings = Settings::new(environment);
        let s = &mut settings;
        let percent: u8 = s.integer(&v::BACKFILLER_MEMORY_PERCENT, 0..=100);
        let collections = s.text(&v::BACKFILLER_COLLECTIONS);
        let first = s.millis(&v::BACKFILLER_RETRY_INITIAL_BACKOFF_MS, 10..=86_400_000);
        let directory = s.given(&v::BACKFILLER_TEMP_DIR).map_or_else(std::env::temp_dir, PathBuf::from);
        let mut config = Self {
            common: CommonConfig::read(s, &v::METRICS_PORT),
            group: s.text(&v::BACKFILLER_GROUP),
            consumer: s.given(&v::BACKFILLER_CONSUMER).unwrap_or_else(host_name),
            streams: [s.text(&v::BACKFILLER_PRIORITY_STREAM), s.text(&v::BACKFILLER_BACKFILL_STREAM)],
            output: s.text(&v::BACKFILLER_FIREHOSE_STREAM),
            mark: s.integer(&v::BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK, 1..=1_000_000_000),
            memory_threshold: if percent == 0 { 2.0 } else { f64::from(percent) / 100.0 },
            concurrency: s.integer(&v::BACKFILLER_CONCURRENCY, 1..=1000),
            host_concurrency: s.integer(&v::BACKFILLER_HOST_CONCURRENCY, 1..=100),
            plc_concurrency: s.integer(&v::BACKFILLER_PLC_CONCURRENCY, 1..=500),
            queue: s.integer(&v::BACKFILLER_QUEUE, 10..=100_000),
            delayed_max: s.integer(&v::BACKFILLER_DELAYED_MAX, 100..=100_000_000),
            batch_size: s.integer(&v::BACKFILLER_BATCH_SIZE, 1..=10_000),
            batch_bytes: usize::try_from(s.bytes(&v::BACKFILLER_BATCH_BYTES, 64 << 10..=64 << 20))
                .unwrap_or(1 << 20),
            source: s.one_of(
                &v::BACKFILLER_SOURCE,
                &[("pds", Source::Pds), ("host", Source::Host)],
                Source::Pds,
            ),
            verify: verify(s),
            filter: CollectionFilter::parse(&collections).unwrap_or_else(|error| {
                s.fault(format!("BACKFILLER_COLLECTIONS: {error}"));
                CollectionFilter::all()
            }),
            collections,
            skip_unchanged: s.flag(&v::BACKFILLER_SKIP_UNCHANGED),
            skip_indexed: s.flag(&v::BACKFILLER_SKIP_INDEXED),
            unchanged_memory: s.bytes(&v::BACKFILLER_UNCHANGED_MEMORY, 64 << 10..=16 << 30),
            memory_per_repo: s.bytes(&v::BACKFILLER_MEMORY_PER_REPO, 64 << 10..=4 << 30),
            max_repo: s.bytes(&v::BACKFILLER_MAX_REPO_BYTES, 1 << 20..=64 << 30),
            disk: s.bytes(&v::BACKFILLER_DISK_BYTES, 1 << 20..=1 << 50),
            temp_dir: directory,
            answer_timeout: s.seconds(&v::BACKFILLER_HTTP_TIMEOUT_SECS, 1..=3600),
            stall_timeout: s.seconds(&v::BACKFILLER_STALL_TIMEOUT_SECS, 1..=3600),
            total_timeout: s.seconds(&v::BACKFILLER_TOTAL_TIMEOUT_SECS, 1..=86_400),
            max_attempts: s.integer(&v::MAX_ATTEMPTS, 1..=100),
            retry: (first, s.millis(&v::BACKFILLER_RETRY_MAX_BACKOFF_MS, 10..=604_800_000).max(first)),
            host_backoff: s.millis(&v::BACKFILLER_HOST_BACKOFF_MS, 10..=86_400_000),
            host_give_up: s.seconds(&v::BACKFILLER_HOST_GIVE_UP_SECS, 1..=31_536_000),
            claim_idle: s.millis(&v::BACKFILLER_CLAIM_IDLE_MS, 1000..=86_400_000),
            did_cache: s.integer(&v::BACKFILLER_DID_CACHE, 0..=10_000_000),
            did_timeout: s.millis(&v::BACKFILLER_DID_TIMEOUT_MS, 100..=60_000),
            shared_identity: s.one_of(
                &v::BACKFILLER_IDENTITY_CACHE,
                &[("memory", false), ("redis", true)],
                false,
            ),
            database: database(s),
            plc: s.parse(&v::PLC_URL, None, |text| Some(Some(Url::parse(text).ok().filter(Url::has_host)?))),
            outbound: Outbound { allow_private: s.flag(&v::ALLOW_PRIVATE_ADDRESSES) },
            notices,
            knobs: None,
            memory: None,
        };
        config.knobs = Some([
            Knob::of(s, &v::BACKFILLER_CONCURRENCY, to_u64(config.concurrency), 1),
            Knob::of(s, &v::BACKFILLER_MEMORY_PER_REPO, config.memory_per_repo, LEAST_PER_REPO),
            Knob::of(s, &v::BACKFILLER_QUEUE, to_u64(config.queue), 10),
            Knob::of(s, &v::BACKFILLER_DID_CACHE, to_u64(config.did_cache), 0),
        ]);
        settings.finish(config)
    }

    /// Repositories of the priority and of the other stream that are taken and not finished.
    pub fn places(&self) -> [usize; 2] {
        [(self.queue / 4).max(4), self.queue]
    }

    /// This process on the priority and on the other stream.
    pub fn consumers(&self) -> [Consumer; 2] {
        self.streams.clone().map(|stream| Consumer {
            stream,
            group: self.group.clone(),
            name: self.consumer.clone(),
        })
    }

    /// The set of repositories that are put off.
    pub fn delayed_key(&self) -> String {
        let [_, stream] = &self.streams;
        names::put_off_key(stream)
    }

    /// The set of accounts that are to be compared with the AppView once more.
    pub fn again_key(&self) -> String {
        let [_, stream] = &self.streams;
        format!("{stream}:again")
    }

    /// What the daemon's frame needs of it.
    pub fn startup(&self) -> Startup {
        let (notices, memory) = (self.notices.clone(), self.memory.clone());
        Startup { notices, memory, ..Startup::new(crate::NAME, env!("CARGO_PKG_VERSION"), &self.common) }
    }

    /// The declaration of the admin pages' port.
    pub fn port() -> &'static Variable {
        &v::METRICS_PORT
    }

    /// The declarations, for `--help` and for the warning about misspelt names.
    pub fn variables() -> Vec<&'static Variable> {
        let queue = [&v::BACKFILLER_GROUP, &v::BACKFILLER_BACKFILL_STREAM, &v::BACKFILLER_PRIORITY_STREAM];
        let own = v::ALL.iter().copied().chain([&v::PLC_URL, &v::ALLOW_PRIVATE_ADDRESSES]);
        CommonConfig::VARIABLES.iter().copied().chain(queue).chain(own).collect()
    }
}

impl Planned<4> for Config {
    fn knobs(&self) -> Option<[Knob; 4]> {
        self.knobs
    }

    fn with(mut self, [concurrency, memory_per_repo, queue, did_cache]: [u64; 4]) -> Self {
        let number = |value| usize::try_from(value).unwrap_or(usize::MAX);
        self.concurrency = number(concurrency);
        self.memory_per_repo = memory_per_repo;
        self.queue = number(queue);
        self.did_cache = number(did_cache);
        self
    }

    /// Most memory the process takes, in bytes: a sum of constants and settings.
    fn memory_bound(&self) -> u64 {
        let chunks = CHUNKS_PER_REPO.saturating_mul(to_u64(self.batch_bytes + MAX_ENTRY_BYTES));
        let per_repo = self.memory_per_repo.saturating_add(REPO_OVERHEAD).saturating_add(chunks);
        [
            BASE_MEMORY,
            per_repo.saturating_mul(to_u64(self.concurrency)),
            // Of those that are asked, the first bytes and the connection; four times as many as have a place.
            to_u64(FIRST_BYTES).saturating_mul(8).saturating_mul(to_u64(self.concurrency)),
            BATCH_COPIES.saturating_mul(to_u64(self.batch_bytes)),
            to_u64(JOB_BYTES).saturating_mul(to_u64(self.places().iter().sum())),
            to_u64(DOCUMENT_BYTES).saturating_mul(to_u64(self.did_cache)),
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    fn planned(&mut self, report: Report) {
        self.memory = Some(report);
    }
}

fn to_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn database(settings: &mut Settings) -> Option<PostgresSettings> {
    settings.given(&v::DATABASE_URL)?;
    Some(PostgresSettings::read(settings, &v::DATABASE_URL, &v::DATABASE_SCHEMA, None))
}

fn verify(settings: &mut Settings) -> bool {
    let verify = settings.flag(&v::BACKFILLER_VERIFY);
    let explicit = settings.given(&v::BACKFILLER_VERIFY).is_some();
    if settings.given(&v::BACKFILLER_SKIP_SIGNATURE_VERIFICATION).is_none() {
        return verify;
    }
    let skip = settings.flag(&v::BACKFILLER_SKIP_SIGNATURE_VERIFICATION);
    if explicit && skip == verify {
        settings.fault("BACKFILLER_VERIFY and BACKFILLER_SKIP_SIGNATURE_VERIFICATION contradict each other");
    }
    !skip
}

#[cfg(test)]
mod tests {
    use rsky_common::runtime::memory_limit::{Boundary, MemoryLimit};

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let pairs = [("REDIS_HOST", "r")].iter().chain(pairs);
        Config::read(Environment::from_pairs(
            pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        ))
    }

    #[test]
    fn defaults_and_both_families_of_names() {
        let config = read(&[]).unwrap();
        assert_eq!((config.concurrency, config.host_concurrency), (50, 8));
        assert_eq!((config.mark, config.max_attempts), (100_000, 5));
        assert_eq!(config.streams, ["repo_backfill_priority", "repo_backfill"]);
        assert!(config.verify && config.skip_unchanged && !config.outbound.allow_private);
        assert!(config.filter.allows("app.bsky.feed.post") && !config.filter.allows("com.example.record"));
        let old = read(&[
            ("BACKFILLER_MAX_RETRIES", "3"),
            ("BACKFILLER_SKIP_SIGNATURE_VERIFICATION", "true"),
            ("BACKFILLER_METRICS_PORT", "9090"),
            ("BACKFILLER_DLQ_STREAM", "x"),
        ])
        .unwrap();
        assert_eq!((old.max_attempts, old.verify, old.common.admin.port()), (3, false, 9090));
        assert!(old.notices.is_empty(), "{:?}", old.notices);
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let faulty = [
            ("BACKFILLER_CONCURRENCY", "0"),
            ("BACKFILLER_SOURCE", "x"),
            ("BACKFILLER_COLLECTIONS", "nonsense"),
            ("PLC_URL", "x"),
            ("BACKFILLER_SKIP_SIGNATURE_VERIFICATION", "true"),
        ];
        let said = read(&[&faulty[..], &[("BACKFILLER_VERIFY", "true")]].concat()).unwrap_err().to_string();
        for (name, _) in faulty {
            assert!(said.contains(name), "{name}: {said}");
        }
    }

    #[test]
    fn defaults_fit_the_limit_they_find_themselves_under() {
        for mib in [256, 512, 1024, 2048, 16 << 10] {
            let limit = MemoryLimit { bytes: mib << 20, boundary: Boundary::Cgroup("cgroup v2") };
            let config = read(&[]).unwrap().within(Some(limit));
            assert!(config.memory_bound() <= limit.usable(), "{mib}: {}", config.memory_bound() >> 20);
            assert!(config.concurrency >= 2, "{mib}");
            assert_eq!(config.memory.unwrap().warning(), None, "{mib}");
        }
        let ordinary = MemoryLimit { bytes: 7600 << 20, boundary: Boundary::Host };
        for limit in [None, Some(ordinary)] {
            let plan = read(&[]).unwrap().within(limit).memory.unwrap();
            assert!(!plan.to_string().contains("lowered"), "{plan}");
        }
    }

    #[test]
    fn what_was_set_is_kept_and_said_when_it_does_not_fit() {
        let limit = MemoryLimit { bytes: 256 << 20, boundary: Boundary::Cgroup("cgroup v2") };
        let config = read(&[("BACKFILLER_CONCURRENCY", "50")]).unwrap().within(Some(limit));
        assert_eq!((config.concurrency, config.memory_per_repo), (50, LEAST_PER_REPO));
        assert!(config.memory.unwrap().warning().unwrap().contains("BACKFILLER_CONCURRENCY set by hand"));
    }

    #[test]
    fn the_memory_bound_follows_the_settings() {
        let one = read(&[("BACKFILLER_CONCURRENCY", "1")]).unwrap().memory_bound();
        let two = read(&[("BACKFILLER_CONCURRENCY", "2")]).unwrap().memory_bound();
        assert_eq!(two - one, (32 << 20) + REPO_OVERHEAD + (9 << 20) + (1 << 19));
    }
}
