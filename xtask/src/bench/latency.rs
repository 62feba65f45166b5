//! Latency: a relay that sends at a given rate → `ingester` → Redis → `indexer` → Postgres, and the time from the relay's
//! socket to the row.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rsky_common::clock::now_us;
use rsky_testnet::servers::{Postgres, Session};

use super::Options;
use super::awaited::Awaited;
use super::report::process_lines;
use super::rig::Rig;
use super::sent::{Notes, Progress};
use crate::daemons::Daemon;
use crate::interrupt;
use crate::procfs::usage;
use crate::streams::FIREHOSE_LIVE;
use crate::testnet::{Paced, Testnet};

/// Before what is measured: new connections, statements that are prepared for the first time, empty tables.
const WARM_UP_SECONDS: u64 = 3;
/// Of the created records, every how many-th is watched.
const EVERY: u32 = 20;
/// Between two questions for the rows: the resolution of what is measured.
const TICK: Duration = Duration::from_millis(5);
/// How long sending and indexing may take in all beyond the time that the load has at its rate.
const GRACE: Duration = Duration::from_secs(30);
/// Commits of one run at most; the network makes all of them beforehand, at 4.5 KB each.
const MOST: u64 = 500_000;

pub(super) fn bench(options: &Options, logs: &Path) -> Result<()> {
    println!(
        "\nlatency: from the relay's socket to the row in record, {} s after {WARM_UP_SECONDS} s that do not count, every \
         {EVERY}th created record, seed {}, one run a rate\n  rows are asked for every {TICK:?}, which is the \
         resolution; Postgres' CPU time has the questions, too",
        options.seconds, options.seed
    );
    let loads: Vec<Load> = options.rates.iter().map(|rate| Load::new(*rate, options.seconds)).collect();
    if let Some(load) = loads.iter().find(|load| load.commits > MOST) {
        bail!("{} commits/s are {} commits; {MOST} are the most", load.rate, load.commits);
    }
    let mut postgres = Postgres::builder().durable(options.durable).start()?;
    for load in &loads {
        measure(options, load, &postgres, logs)?;
    }
    postgres.stop_fast()
}

/// What is sent in a run.
struct Load {
    rate: u32,
    /// Commits that do not count.
    warm_up: u64,
    /// All commits.
    commits: u64,
    /// How long they may take to become rows.
    limit: Duration,
}

impl Load {
    fn new(rate: u32, seconds: u64) -> Self {
        let seconds = seconds.saturating_add(WARM_UP_SECONDS);
        Self {
            rate,
            warm_up: u64::from(rate).saturating_mul(WARM_UP_SECONDS),
            commits: u64::from(rate).saturating_mul(seconds),
            limit: Duration::from_secs(seconds).saturating_add(GRACE),
        }
    }
}

/// The processes of a run that have to live.
struct Running {
    network: Testnet,
    ingester: Daemon,
    indexer: Daemon,
}

impl Running {
    fn check(&mut self) -> Result<()> {
        self.network.check()?;
        self.ingester.check()?;
        self.indexer.check()
    }
}

fn measure(options: &Options, load: &Load, postgres: &Postgres, logs: &Path) -> Result<()> {
    let mut rig = Rig::new(postgres)?;
    let before = rig.postgres_usage();
    let indexer = rig.start_ready_indexer(logs)?;
    let mut session = rig.database.session()?;
    // The table is empty when the first questions are planned.
    session.rows("SET enable_seqscan = off")?;
    let file = logs.join("latency.notes");
    let paced = Paced { rate: load.rate, notes: &file, every: EVERY };
    let network = Testnet::paced_load(load.commits, options.seed, &paced, logs)?;
    let notes = Notes::open(&file)?;
    let ingester = start_ingester(&mut rig, &network, logs)?;

    let mut running = Running { network, ingester, indexer };
    let watched = watch(load, notes, &mut session, &mut running)?;
    let mut processes = rig.usages(&running.indexer, before);
    processes.push(("ingester", usage(running.ingester.pid())));
    processes.push(("network", usage(running.network.pid())));
    println!("{}\n{}", watched.lines(load), process_lines(&processes));
    running.ingester.stop()?;
    running.indexer.stop()
}

/// With its default settings: it stops reading when the indexer is far behind.
fn start_ingester(rig: &mut Rig<'_>, network: &Testnet, logs: &Path) -> Result<Daemon> {
    // Without a stored position the ingester starts at the live end.
    rig.client.command(&["SET", &format!("{FIREHOSE_LIVE}:cursor:{}", network.host()), "0"])?;
    let settings = [
        ("REDIS_URL", rig.redis.url()),
        ("INGESTER_RELAY_HOSTS", network.url().to_owned()),
        ("INGESTER_MODE", "firehose".to_owned()),
        ("ALLOW_PRIVATE_ADDRESSES", "true".to_owned()),
        ("RUST_LOG", "warn".to_owned()),
    ];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Daemon::start("ingester", logs, &[], &settings)
}

/// What was sent and seen in a run.
struct Watched {
    progress: Progress,
    awaited: Awaited,
    questions: u32,
    elapsed: Duration,
}

impl Watched {
    fn lines(self, load: &Load) -> String {
        let Self { progress, awaited, questions, elapsed } = self;
        let between = elapsed.as_secs_f64() * 1000.0 / f64::from(questions.max(1));
        format!(
            "\n  {} commits/s wanted: {} of {} commits sent, {:.0} commits/s reached\n{}; asked every {between:.1} ms",
            load.rate,
            progress.commits(),
            load.commits.saturating_sub(load.warm_up),
            progress.rate(),
            awaited.delays().lines()
        )
    }
}

/// Asks for rows until all are there, or the time is over.
fn watch(load: &Load, mut notes: Notes, session: &mut Session, running: &mut Running) -> Result<Watched> {
    let mut progress = Progress::after(load.warm_up);
    let mut awaited = Awaited::default();
    let mut questions = 0;
    let mut waited = Duration::ZERO;
    let started = Instant::now();
    while started.elapsed() < load.limit && !(progress.complete && awaited.is_empty()) {
        let tick = Instant::now();
        for note in notes.new_ones()? {
            progress.add(&note);
            let counts = progress.counts(&note);
            if let Some(uri) = note.uri {
                awaited.sent(uri, note.micros, counts);
            }
        }
        let asked = awaited.question();
        if let Some(question) = &asked {
            let rows = session.rows(question)?;
            awaited.seen(&rows, now_us());
        }
        running.check()?;
        interrupt::sleep(TICK.saturating_sub(tick.elapsed()))?;
        if asked.is_some() {
            questions += 1;
            waited += tick.elapsed();
        }
    }
    if progress.commits() == 0 {
        bail!("nothing was sent after the warm-up: {}", running.ingester.log_tail(5));
    }
    Ok(Watched { progress, awaited, questions, elapsed: waited })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_has_its_warm_up_and_its_time() {
        let load = Load::new(500, 20);
        assert_eq!((load.warm_up, load.commits), (1_500, 11_500));
        assert_eq!(load.limit, Duration::from_secs(53));
    }
}
