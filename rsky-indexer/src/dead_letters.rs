//! `indexer dead-letters`: entries that could not be indexed, looked at and dealt with by hand.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand};
use redis::aio::MultiplexedConnection;
use rsky_common::config::{ConfigError, Environment, REDIS_URL, Secret, Settings, Variable, redis_url};
use rsky_common::redis::RedisServer;
use rsky_common::redis::letters::{self, Letter, Unfit};
use rsky_common::runtime::daemon;
use rsky_common::wire::names::{FIELD_EVENT, FIELD_LABELS, dead_letter_stream};
use serde_json::Value;

use crate::config::{INDEXER_LABEL_STREAM, INDEXER_STREAMS};

/// Time for an answer of Redis.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a payload may stand.
const FIELDS: &[&str] = &[FIELD_EVENT, FIELD_LABELS];

/// What is done with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLetters {
    /// Counts them by reason, and lists the oldest.
    List(Which),
    /// Shows them whole.
    Show(Which),
    /// Puts them back into their stream, at its end. A letter without its whole payload is not touched.
    ///
    /// What made them letters should be cured before: what fails again is a letter again.
    Retry(Which),
    /// Removes them.
    Drop(Which),
}

/// Which dead letters.
#[derive(Debug, Args)]
pub struct Which {
    /// Only beside this stream; otherwise beside INDEXER_STREAMS and INDEXER_LABEL_STREAM.
    #[arg(long)]
    stream: Option<String>,
    /// Only with this reason.
    #[arg(long)]
    reason: Option<String>,
    /// Only of this account.
    #[arg(long)]
    did: Option<String>,
    /// Only the one with this id.
    #[arg(long)]
    id: Option<String>,
    /// Really all of them (retry and drop without any other choice).
    #[arg(long)]
    all: bool,
    /// Letters that are listed or shown.
    #[arg(long, default_value_t = 20)]
    limit: usize,
}

impl Which {
    fn fits(&self, letter: &Letter) -> bool {
        self.reason.as_deref().is_none_or(|reason| letter.field("reason") == reason)
            && self.did.as_deref().is_none_or(|did| did_of(letter).as_deref() == Some(did))
            && self.id.as_deref().is_none_or(|id| letter.id == id)
    }

    fn insist(&self) -> anyhow::Result<()> {
        let chosen = [&self.stream, &self.reason, &self.did, &self.id].into_iter().any(Option::is_some);
        if !chosen && !self.all {
            bail!("choose by --stream, --reason, --did or --id, or say --all");
        }
        Ok(())
    }
}

/// Whom a letter is about: the repository of an event, or the subject of a label, where its payload can be read.
fn did_of(letter: &Letter) -> Option<String> {
    let payload = FIELDS.iter().map(|field| letter.field(field)).find(|payload| !payload.is_empty())?;
    let payload: Value = serde_json::from_str(payload).ok()?;
    let did = payload.get("did").or_else(|| payload.pointer("/label/uri")).and_then(Value::as_str)?;
    let bare = did.strip_prefix("at://").unwrap_or(did);
    Some(bare.split('/').next().unwrap_or(bare).to_owned())
}

struct Where {
    redis_url: Secret,
    streams: Vec<String>,
}

/// The variables it reads, a part of the daemon's, for `--help`.
pub fn variables() -> Vec<&'static Variable> {
    vec![&REDIS_URL, &INDEXER_STREAMS, &INDEXER_LABEL_STREAM]
}

impl Where {
    fn read(environment: Environment) -> Result<Self, ConfigError> {
        let mut settings = Settings::new(environment);
        let s = &mut settings;
        let redis_url = redis_url(s);
        let mut streams = s.list(&INDEXER_STREAMS);
        streams.push(s.text(&INDEXER_LABEL_STREAM));
        settings.finish(Self { redis_url, streams })
    }
}

/// Runs it to its end.
#[expect(clippy::print_stderr, reason = "a command for people; nothing is logged here")]
pub fn run(what: &DeadLetters, environment: Environment) -> ExitCode {
    let place = match Where::read(environment) {
        Ok(place) => place,
        Err(error) => return daemon::refuse(crate::pipeline::NAME, &error),
    };
    daemon::install_crypto();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(go(what, &place)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // A closed pipe (`| head`) is the reader's way of saying that it has seen enough.
        Err(error)
            if error
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) =>
        {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("indexer dead-letters: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn go(what: &DeadLetters, place: &Where) -> anyhow::Result<()> {
    let (DeadLetters::List(which)
    | DeadLetters::Show(which)
    | DeadLetters::Retry(which)
    | DeadLetters::Drop(which)) = what;
    if matches!(what, DeadLetters::Retry(_) | DeadLetters::Drop(_)) {
        which.insist()?;
    }
    let mut redis = RedisServer::new(&place.redis_url)?.connect(PATIENCE).await?;
    let mut out = io::stdout().lock();
    let mut done = Tally::default();
    let streams = which.stream.as_ref().map_or(place.streams.as_slice(), std::slice::from_ref);
    for stream in streams {
        let dead = dead_letter_stream(stream);
        // What is put back may fail at once and is a letter again, behind this one.
        let Some(newest) = letters::newest(&mut redis, &dead).await? else { continue };
        let mut from = "-".to_owned();
        loop {
            let page = letters::page(&mut redis, &dead, &from, &newest).await?;
            let Some(last) = page.last() else { break };
            from = format!("({}", last.id);
            let chosen: Vec<&Letter> = page.iter().filter(|letter| which.fits(letter)).collect();
            done.count(&chosen);
            let shown = chosen.iter().take(which.limit.saturating_sub(done.shown));
            match what {
                DeadLetters::List(_) => done.shown += list(&mut out, &dead, shown.copied())?,
                DeadLetters::Show(_) => done.shown += show(&mut out, &dead, shown.copied())?,
                DeadLetters::Retry(_) => retry(&mut redis, stream, &dead, &chosen, &mut done).await?,
                DeadLetters::Drop(_) => {
                    let ids: Vec<&str> = chosen.iter().map(|letter| letter.id.as_str()).collect();
                    letters::remove(&mut redis, &dead, &ids).await?;
                    done.moved += ids.len();
                }
            }
        }
    }
    done.tell(what, &mut out)?;
    Ok(out.flush()?)
}

#[derive(Debug, Default)]
struct Tally {
    reasons: BTreeMap<String, u64>,
    shown: usize,
    moved: usize,
    unfit: BTreeMap<Unfit, u64>,
}

impl Tally {
    fn count(&mut self, letters: &[&Letter]) {
        for letter in letters {
            *self.reasons.entry(letter.field("reason").to_owned()).or_default() += 1;
        }
    }

    fn tell(&self, what: &DeadLetters, out: &mut impl Write) -> io::Result<()> {
        match what {
            DeadLetters::List(_) => {
                self.reasons.iter().try_for_each(|(reason, count)| writeln!(out, "{reason}: {count}"))
            }
            DeadLetters::Show(_) => Ok(()),
            DeadLetters::Drop(_) => writeln!(out, "{} removed", self.moved),
            DeadLetters::Retry(_) => {
                writeln!(out, "{} back in their streams", self.moved)?;
                let mut unfit = self.unfit.iter();
                unfit.try_for_each(|(unfit, count)| {
                    writeln!(out, "{count} left as they are: each {}", unfit.why())
                })
            }
        }
    }
}

fn list<'l>(
    out: &mut impl Write,
    dead: &str,
    letters: impl Iterator<Item = &'l Letter>,
) -> io::Result<usize> {
    let mut count = 0;
    for letter in letters {
        let did = did_of(letter).unwrap_or_else(|| "?".to_owned());
        let [reason, tries, error] = ["reason", "attempts", "error"].map(|field| letter.field(field));
        writeln!(out, "{dead} {} {did} {reason} ({tries} tries): {error}", letter.id)?;
        count += 1;
    }
    Ok(count)
}

fn show<'l>(
    out: &mut impl Write,
    dead: &str,
    letters: impl Iterator<Item = &'l Letter>,
) -> io::Result<usize> {
    let mut count = 0;
    for letter in letters {
        writeln!(out, "{dead} {}", letter.id)?;
        letter.fields.iter().try_for_each(|(name, value)| writeln!(out, "  {name}: {value}"))?;
        count += 1;
    }
    Ok(count)
}

async fn retry(
    redis: &mut MultiplexedConnection,
    stream: &str,
    dead: &str,
    letters: &[&Letter],
    done: &mut Tally,
) -> anyhow::Result<()> {
    let mut whole = Vec::new();
    for letter in letters {
        match letter.payload(FIELDS) {
            Ok((field, payload)) => whole.push((letter.id.as_str(), field, payload)),
            Err(unfit) => *done.unfit.entry(unfit).or_default() += 1,
        }
    }
    letters::put_back(redis, stream, dead, &whole).await?;
    done.moved += whole.len();
    Ok(())
}
