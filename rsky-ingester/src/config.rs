//! The settings of the ingester. What each does, with unit and consequence, stands in [`crate::variables`].

use std::time::Duration;

use rsky_common::atproto::CollectionFilter;
use rsky_common::config::{CommonConfig, ConfigError, Environment, Settings, Variable};
use rsky_common::redis::GateConfig;
use rsky_common::runtime::Startup;
use rsky_common::runtime::memory_plan::{Knob, Planned, Report};

use crate::host::Host;
use crate::{NAME, VERSION, variables as v};

/// What a process reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything that is configured.
    All,
    /// Relays' firehoses.
    Firehose,
    /// Relays' repository listings.
    Backfill,
    /// Labelers.
    Labeler,
}

/// A stream that is written, with its mark.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The key in Redis.
    pub name: String,
    /// Length in entries at which writing stops.
    pub mark: u64,
}

/// Bounds of a transaction.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// Entries.
    pub entries: usize,
    /// Entries near the mark.
    pub small: usize,
    /// Bytes of entries.
    pub bytes: usize,
    /// How long a cursor without entries waits.
    pub timeout: Duration,
}

/// How sockets are kept.
#[derive(Clone, Copy, Debug)]
pub struct SocketConfig {
    /// Largest frame in bytes.
    pub max_frame: usize,
    /// Time between pings.
    pub ping: Duration,
    /// Time without data after which a socket is replaced; `None`: never.
    pub idle: Option<Duration>,
    /// Time without reading after which a socket is closed.
    pub pause_close: Duration,
    /// First and longest pause between connections.
    pub reconnect: (Duration, Duration),
}

/// How repositories are listed.
#[derive(Clone, Copy, Debug)]
pub struct ListingConfig {
    /// Time between the end of a listing and the next; `None`: one listing only.
    pub interval: Option<Duration>,
    /// Redis memory for remembered revisions, in bytes per host.
    pub memory: u64,
    /// Time for one page.
    pub timeout: Duration,
    /// First and longest pause between failures.
    pub retry: (Duration, Duration),
}

/// Everything that is configured. Has no `Serialize` and no secrets in `Debug`.
#[derive(Clone, Debug)]
pub struct Config {
    /// What every daemon has.
    pub common: CommonConfig,
    /// What is read.
    pub mode: Mode,
    /// Relays.
    pub relays: Vec<Host>,
    /// Labelers.
    pub labelers: Vec<Host>,
    /// Stream of live events.
    pub firehose: Stream,
    /// Stream of labels.
    pub labels: Stream,
    /// Stream of repositories.
    pub repos: Stream,
    /// Stream of repositories to fetch first; it shares the mark of `repos`.
    pub priority: Stream,
    /// Bounds of a transaction.
    pub batch: BatchLimits,
    /// Frames in memory, in bytes.
    pub queue_bytes: u64,
    /// Used fraction of memory at which reading stops; 1.0: never.
    pub memory: f64,
    /// Sockets of relays; labelers differ in `idle` only.
    pub socket: SocketConfig,
    /// Idle time of labelers.
    pub labeler_idle: Option<Duration>,
    /// Which collections are queued.
    pub collections: CollectionFilter,
    /// Whether repositories are queued for a full fetch.
    pub resync: bool,
    /// Listings.
    pub listing: ListingConfig,
    /// Chunks of frames decoded at a time.
    pub decoders: usize,
    /// What the plan of memory may lower: frames in memory, and those decoded at a time.
    knobs: Option<[Knob; 2]>,
    /// Memory, as planned.
    pub memory_plan: Option<Report>,
    notices: Vec<String>,
}

impl Config {
    /// Reads the settings.
    ///
    /// # Errors
    /// Every variable that is missing or malformed.
    pub fn read(environment: Environment) -> Result<Self, ConfigError> {
        let known: Vec<&Variable> = v::all().collect();
        let mut notices = environment.misspelt(&["INGESTER_", "METRICS_", "REDIS_"], &known);
        notices.extend(environment.unused_proxies());
        let mut s = Settings::new(environment);
        let modes = [
            ("all", Mode::All),
            ("firehose", Mode::Firehose),
            ("backfill", Mode::Backfill),
            ("labeler", Mode::Labeler),
        ];
        let mode = s.one_of(&v::MODE, &modes, Mode::All);
        let reconnect =
            (s.millis(&v::RECONNECT_MIN, 10..=60_000), s.millis(&v::RECONNECT_MAX, 10..=3_600_000));
        s.one_of(&v::VERIFY, &[("off", ())], ());
        let mut config = Self {
            common: CommonConfig::read(&mut s, &v::METRICS_PORT),
            mode,
            relays: hosts(&mut s, &v::RELAY_HOSTS, mode != Mode::Labeler),
            labelers: hosts(&mut s, &v::LABELER_HOSTS, mode == Mode::Labeler),
            firehose: stream(&mut s, &v::FIREHOSE_STREAM, &v::FIREHOSE_MARK),
            labels: stream(&mut s, &v::LABEL_STREAM, &v::LABEL_MARK),
            repos: stream(&mut s, &v::REPO_STREAM, &v::REPO_MARK),
            priority: stream(&mut s, &v::REPO_PRIORITY_STREAM, &v::REPO_MARK),
            batch: BatchLimits {
                entries: s.integer(&v::BATCH_SIZE, 1..=10_000),
                small: s.integer(&v::SMALL_BATCH_SIZE, 1..=10_000),
                bytes: size(s.bytes(&v::BATCH_BYTES, 1024..=512 << 20)),
                timeout: s.millis(&v::BATCH_TIMEOUT, 1..=60_000),
            },
            queue_bytes: s.bytes(&v::QUEUE_BYTES, 1 << 20..=3 << 30),
            memory: percent(&mut s),
            socket: SocketConfig {
                max_frame: size(s.bytes(&v::MAX_FRAME_BYTES, 64 << 10..=256 << 20)),
                ping: s.millis(&v::PING_INTERVAL, 100..=600_000),
                idle: duration(&mut s, &v::IDLE_TIMEOUT),
                pause_close: s.millis(&v::PAUSE_CLOSE, 10..=86_400_000),
                reconnect,
            },
            labeler_idle: duration(&mut s, &v::LABELER_IDLE_TIMEOUT),
            collections: s
                .parse(&v::COLLECTIONS, CollectionFilter::all(), |text| CollectionFilter::parse(text).ok()),
            resync: s.flag(&v::RESYNC),
            listing: ListingConfig {
                interval: duration(&mut s, &v::RELIST_INTERVAL),
                memory: s.bytes(&v::RELIST_MEMORY, 64 << 10..=64 << 30),
                timeout: s.millis(&v::LIST_TIMEOUT, 100..=600_000),
                retry: reconnect,
            },
            decoders: std::thread::available_parallelism().map_or(1, usize::from),
            knobs: None,
            memory_plan: None,
            notices,
        };
        config.knobs = Some([
            Knob::of(&mut s, &v::QUEUE_BYTES, config.queue_bytes, config.least_queue()),
            Knob::inner("frames decoded at a time", to_u64(config.decoders), 1),
        ]);
        s.finish(config)
    }

    /// Whether sources of this kind are read.
    pub fn reads(&self, mode: Mode) -> bool {
        self.mode == Mode::All || self.mode == mode
    }

    /// What has to be known before the runtime starts.
    pub fn startup(&self) -> Startup {
        let (notices, memory) = (self.notices.clone(), self.memory_plan.clone());
        Startup { notices, memory, ..Startup::new(NAME, VERSION, &self.common) }
    }

    /// Warnings about the environment.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// The gate of a stream.
    pub fn gate(&self, stream: &Stream) -> GateConfig {
        GateConfig {
            mark: stream.mark,
            batch: self.batch.entries,
            small_batch: self.batch.small,
            memory: self.memory,
        }
    }
}

impl Planned<2> for Config {
    fn knobs(&self) -> Option<[Knob; 2]> {
        self.knobs
    }

    fn with(mut self, [queue, decoders]: [u64; 2]) -> Self {
        self.queue_bytes = queue;
        self.decoders = size(decoders);
        self
    }

    fn memory_bound(&self) -> u64 {
        self.sum_of_memory()
    }

    fn planned(&mut self, report: Report) {
        self.memory_plan = Some(report);
    }
}

fn hosts(s: &mut Settings, variable: &Variable, required: bool) -> Vec<Host> {
    let listed = if required { s.list(variable) } else { s.optional_list(variable) };
    let mut hosts: Vec<Host> = Vec::new();
    for text in listed {
        match Host::parse(&text) {
            // Two writers of one cursor would undo each other's.
            Some(host) if hosts.iter().any(|other| other.bare() == host.bare()) => {
                s.fault(format!("{} names {text} twice", variable.name))
            }
            Some(host) => hosts.push(host),
            None => s.fault(format!(
                "{} has \"{}\": expected {}",
                variable.name,
                text.escape_debug(),
                variable.expects
            )),
        }
    }
    hosts
}

fn stream(s: &mut Settings, name: &Variable, mark: &Variable) -> Stream {
    Stream { name: s.text(name), mark: s.integer(mark, 1..=1_000_000_000) }
}

fn percent(s: &mut Settings) -> f64 {
    let percent: u8 = s.integer(&v::MEMORY_PERCENT, 0..=100);
    if percent == 0 { 1.0 } else { f64::from(percent) / 100.0 }
}

pub(crate) fn to_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn duration(s: &mut Settings, variable: &Variable) -> Option<Duration> {
    s.parse(variable, None, parse_duration)
}

/// Whole seconds, or a number with `ms`, `s`, `m`, `h` or `d`; `0` and `off` are `Some(None)`.
fn parse_duration(text: &str) -> Option<Option<Duration>> {
    if text.eq_ignore_ascii_case("off") {
        return Some(None);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u32 = number.parse().ok()?;
    let millis: u64 = match unit.trim() {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let total = Duration::from_millis(u64::from(number).saturating_mul(millis));
    Some((!total.is_zero()).then_some(total))
}

#[cfg(test)]
mod tests {
    use rsky_common::runtime::memory_limit::{Boundary, MemoryLimit};

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::read(Environment::from_pairs(pairs))
    }

    const LEAST: [(&str, &str); 2] = [("REDIS_URL", "redis://r"), ("INGESTER_RELAY_HOSTS", "bsky.network")];

    fn with(more: &[(&'static str, &'static str)]) -> Result<Config, ConfigError> {
        read(&[&LEAST, more].concat())
    }

    #[test]
    fn defaults_fit_the_limit_they_find_themselves_under() {
        let labeler = ("INGESTER_LABELER_HOSTS", "l");
        for (mib, more) in [(640, &[][..]), (1024, &[labeler]), (3 << 10, &[labeler]), (16 << 10, &[])] {
            let limit = MemoryLimit { bytes: mib << 20, boundary: Boundary::Cgroup("cgroup v2") };
            let config = with(more).unwrap().within(Some(limit));
            assert!(config.memory_bound() <= limit.usable(), "{mib}: {}", config.memory_bound() >> 20);
            assert_eq!(config.memory_plan.unwrap().warning(), None, "{mib}");
        }
        let ordinary = MemoryLimit { bytes: 7600 << 20, boundary: Boundary::Host };
        for limit in [None, Some(ordinary)] {
            let plan = with(&[labeler]).unwrap().within(limit).memory_plan.unwrap();
            assert!(!plan.to_string().contains("lowered"), "{plan}");
        }
        let limit = MemoryLimit { bytes: 128 << 20, boundary: Boundary::Cgroup("cgroup v1") };
        let config = with(&[("INGESTER_QUEUE_BYTES", "64MiB")]).unwrap().within(Some(limit));
        assert_eq!((config.queue_bytes, config.decoders), (64 << 20, 1));
        assert!(config.memory_plan.unwrap().warning().unwrap().contains("INGESTER_QUEUE_BYTES set by hand"));
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let config = with(&[]).unwrap();
        assert_eq!((config.batch.entries, config.batch.small, config.batch.bytes), (500, 100, 4 << 20));
        assert_eq!(config.firehose.name, "firehose_live");
        assert_eq!(
            (config.firehose.mark, config.labels.mark, config.repos.mark),
            (100_000, 100_000, 100_000)
        );
        assert_eq!(config.socket.idle, Some(Duration::from_secs(60)));
        assert_eq!(config.labeler_idle, None);
        assert_eq!(config.listing.interval, None);
        assert!((config.memory - 0.8).abs() < 1e-9);
        assert_eq!(config.common.admin.port(), 4000);
    }

    #[test]
    fn one_mark_for_all_or_one_for_each() {
        assert_eq!(with(&[("INGESTER_HIGH_WATER_MARK", "100")]).unwrap().labels.mark, 100);
        let config = with(&[("INGESTER_LABEL_STREAM_HIGH_WATER_MARK", "7")]).unwrap();
        assert_eq!((config.labels.mark, config.repos.mark), (7, 100_000));
        let both = with(&[("INGESTER_HIGH_WATER_MARK", "1"), ("INGESTER_REPO_STREAM_HIGH_WATER_MARK", "2")]);
        assert!(
            both.unwrap_err()
                .to_string()
                .contains("INGESTER_REPO_STREAM_HIGH_WATER_MARK and INGESTER_HIGH_WATER_MARK")
        );
    }

    #[test]
    fn names_of_both_families() {
        let config = read(&[("REDIS_HOST", "r:1"), ("INGESTER_HOSTS", "https://a, http://b")]).unwrap();
        assert_eq!(config.relays.len(), 2);
        assert!(with(&[("INGESTER_HOSTS", "other")]).is_err());
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let said = read(&[
            ("INGESTER_MODE", "fast"),
            ("INGESTER_BATCH_SIZE", "0"),
            ("INGESTER_IDLE_TIMEOUT", "soon"),
            ("INGESTER_LABELER_HOSTS", "ftp://x"),
            ("METRICS_PORT", "99999"),
        ])
        .unwrap_err()
        .to_string();
        for name in [
            "REDIS_URL",
            "INGESTER_RELAY_HOSTS",
            "INGESTER_MODE",
            "INGESTER_BATCH_SIZE",
            "INGESTER_IDLE_TIMEOUT",
            "INGESTER_LABELER_HOSTS",
            "METRICS_PORT",
        ] {
            assert!(said.contains(name), "{name}: {said}");
        }
    }

    #[test]
    fn labeler_mode_needs_labelers_only() {
        assert!(
            read(&[
                ("REDIS_URL", "redis://r"),
                ("INGESTER_MODE", "labeler"),
                ("INGESTER_LABELER_HOSTS", "l")
            ])
            .is_ok()
        );
        assert!(read(&[("REDIS_URL", "redis://r"), ("INGESTER_MODE", "labeler")]).is_err());
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("60"), Some(Some(Duration::from_secs(60))));
        assert_eq!(parse_duration("500ms"), Some(Some(Duration::from_millis(500))));
        assert_eq!(parse_duration("7d"), Some(Some(Duration::from_secs(604_800))));
        assert_eq!((parse_duration("0"), parse_duration("OFF")), (Some(None), Some(None)));
        assert_eq!((parse_duration("1w"), parse_duration("-1"), parse_duration("")), (None, None, None));
    }

    #[test]
    fn a_default_of_every_variable_is_acceptable() {
        let pairs: Vec<_> =
            v::OWN.iter().filter_map(|v| Some((v.name.to_owned(), v.default?.to_owned()))).collect();
        let least = LEAST.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::read(Environment::from_pairs(pairs.into_iter().chain(least))).unwrap();
    }
}
