//! `indexer shadow`: what ours would write, beside what another indexer has written, while that one works.
//!
//! ```text
//! streams ─► source (a place of its own, no group) ─► window (until the group has finished it) ─► looker ─► report
//!                                                          finished: XINFO GROUPS, XPENDING ─┘
//! ```
//!
//! Nothing is written: streams are read in nobody's name, the tables in transactions that only read. A group of its own would
//! be no rehearsal: whoever has done with an entry deletes it, and the group would be left behind for others to wonder at.
//!
//! What a record should look like is said by the declarations of the collections that the engine writes by ([`expected`]); the
//! guard, the duplicates and the hidden replies are judged by what the engine and `verify` have. What differs is looked at
//! again after a pause, since something later may be on its way.

mod expected;
mod finished;
mod gaps;
mod item;
mod judge;
mod looker;
mod place;
mod rehearsal;
mod report;
mod settings;
mod source;
mod stands;
mod tables;
mod window;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use rsky_common::admin::Health;
use rsky_common::config::{self, Environment, parse_size};
use rsky_common::redis::errors::explain;
use rsky_common::redis::{LinkError, RedisLink, RedisServer, tail};
use rsky_common::runtime::budget::ByteBudget;
use rsky_common::runtime::daemon;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::acks::entry_id;
use crate::database;
use crate::pipeline::NAME;
use crate::prepare::TREES;
use crate::signals::Signals;
use place::{From, beginning};
use rehearsal::{Rehearsal, Wish};
use report::Report;
use settings::Settings;
use source::{BLOCK, Source, Watcher};

/// Exit code when something differs.
const EXIT_DIFFERS: u8 = 3;
/// Time for the first answer of Redis.
const PATIENCE: Duration = Duration::from_secs(10);
/// Entries between a stream and the window: their memory is counted.
const ON_THE_WAY: usize = 64;

/// Watches the indexer that runs, and says what this one would have written differently. Writes nothing.
///
/// The streams are read beside the groups, from now on or from --from. An entry is held against the tables when the group of
/// the indexer (INDEXER_GROUP, INDEXER_LABEL_GROUP) has finished it; what differs is looked at again after --settle seconds,
/// since something later may be on its way. Of several entries about one record only the last counts. It ends after --minutes
/// or --entries, or with SIGINT or SIGTERM, with a summary, and says where to go on.
///
/// Exit code 0: nothing differs; 3: something differs; 1: nothing could be compared, or it could not go on; 64: the settings
/// are not usable.
#[derive(Debug, Args)]
#[command(after_long_help = config::help(Settings::variables()))]
pub struct Shadow {
    /// Where to begin: $ for what comes from now on, 0 for all that is there, the id of an entry to begin behind it, or
    /// stream=id,stream=id as the last run printed it.
    #[arg(long, value_name = "PLACE", default_value = "$")]
    from: From,
    /// Of INDEXER_STREAMS and INDEXER_LABEL_STREAM, the streams to watch; all unless given.
    #[arg(long, value_name = "STREAMS", value_delimiter = ',')]
    streams: Vec<String>,
    /// Ends after so many minutes.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    minutes: Option<u64>,
    /// Ends after so many entries.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    entries: Option<u64>,
    /// Seconds before what differs is looked at again; 0: it is not.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=3600))]
    settle: u64,
    /// Seconds after which an entry that is still pending is compared as it stands: the TypeScript keeps those that fail for
    /// ever.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    patience: u64,
    /// Most entries that are looked for in the tables in a second.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Memory for the entries of a stream that are not decided. While it is full no more are read.
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = size)]
    window: u64,
    /// Examples of each kind of difference.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    examples: u64,
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text)
        .filter(|bytes| (64 << 10..=4 << 30).contains(bytes))
        .ok_or_else(|| "expected a number of bytes, plain or with a unit; 64KiB to 4GiB".to_owned())
}

/// Runs the command to its end.
#[expect(clippy::print_stderr, reason = "a command for people; nothing is logged here")]
pub fn run(command: &Shadow, environment: Environment) -> ExitCode {
    let settings = match Settings::read(environment) {
        Ok(settings) => settings,
        Err(error) => return daemon::refuse(NAME, &error),
    };
    daemon::install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(Box::pin(shadow(command, &settings))));
    match outcome {
        Ok(report) if report.differs() => ExitCode::from(EXIT_DIFFERS),
        Ok(report) if report.decided() > 0 => ExitCode::SUCCESS,
        Ok(_) => {
            eprintln!("indexer shadow: nothing was compared");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("indexer shadow: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn shadow(command: &Shadow, settings: &Settings) -> anyhow::Result<Report> {
    let signals = Signals::listen().context("cannot listen for signals")?;
    let sources = sources(command, settings)?;
    let health = Health::new();
    let redis = RedisServer::new(&settings.redis_url)?;
    // What is not there at the start is told; what goes away later is waited for.
    if let Err(error) = redis.connect(PATIENCE).await {
        bail!("connect to Redis at {}: {}", redis.shown(), explain(&error));
    }
    let postgres = database::server(&settings.database)?;
    let shown_url = settings.database.url.to_string();
    let stop = signals.stop.clone();
    let looker = looker::open(postgres, &shown_url, health.part("postgres"), stop.clone()).await?;

    let reading = stop.child_token();
    let (sender, news) = mpsc::channel(ON_THE_WAY);
    let (mut watchers, mut watched) = (JoinSet::new(), Vec::new());
    let trees = ByteBudget::new(TREES);
    let mut link = redis.link("shadow", health.part("redis"), &stop);
    for (number, source) in sources.into_iter().enumerate() {
        let (state, after) = begin(&mut link, &source, &command.from).await?;
        let part = health.part(format!("redis {}", source.stream));
        let reader = redis.link("shadow", part, &reading).blocking(BLOCK);
        let watcher = Watcher::new(
            (number, source.clone()),
            Arc::clone(&looker.statements),
            (reader, state.as_ref(), after),
            [ByteBudget::new(command.window), trees.clone()],
            sender.clone(),
        );
        watched.push((source, watcher.known()));
        watchers.spawn(watcher.watch());
    }
    drop(sender);
    let wish = Wish {
        until: command
            .minutes
            .map(|minutes| Instant::now() + Duration::from_secs(minutes.saturating_mul(60))),
        entries: command.entries,
        settle: Duration::from_secs(command.settle),
        patience: Duration::from_secs(command.patience),
        rate: command.rate,
        examples: command.examples,
    };
    let rehearsal = Rehearsal::new(wish, watched, link, health, stop);
    Box::pin(rehearsal.run(looker, watchers, news, reading)).await
}

fn sources(command: &Shadow, settings: &Settings) -> anyhow::Result<Vec<Source>> {
    let source = |stream: &String, group: &String, labels| Source {
        stream: stream.clone(),
        group: group.clone(),
        labels,
    };
    let events = settings.streams.iter().map(|stream| source(stream, &settings.group, false));
    let labels = source(&settings.label_stream, &settings.label_group, true);
    let mut all: Vec<Source> = events.chain([labels]).collect();
    let named = command.streams.iter().map(String::as_str).chain(command.from.named());
    for name in named {
        if all.iter().all(|source| source.stream != name) {
            bail!("{name} is no stream of the indexer (INDEXER_STREAMS, INDEXER_LABEL_STREAM)");
        }
    }
    if !command.streams.is_empty() {
        all.retain(|source| command.streams.contains(&source.stream));
    }
    Ok(all)
}

/// How a stream stands, and behind which entry it is read.
async fn begin(
    link: &mut RedisLink,
    source: &Source,
    from: &From,
) -> anyhow::Result<(Option<tail::StreamState>, String)> {
    let Source { stream, group, .. } = source;
    let told = |error: LinkError| anyhow::Error::from(error).context(format!("look at {stream}"));
    let Some(state) = tail::state(link, stream).await.map_err(told)? else {
        return Ok((None, beginning()));
    };
    if tail::delivered(link, stream, group).await.map_err(told)?.is_none() {
        bail!(
            "{stream} has no group {group}: what the indexer has finished cannot be told (INDEXER_GROUP, INDEXER_LABEL_GROUP)"
        );
    }
    let after = from.of(stream).unwrap_or(&state.last).to_owned();
    if entry_id(&after) > entry_id(&state.last) {
        bail!("--from: {after} is newer than anything in {stream}, whose newest entry was {}", state.last);
    }
    Ok((Some(state), after))
}
