//! `dead-letters`: repositories that were given up.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use anyhow::bail;
use clap::{Args, Subcommand};
use rsky_common::wire::names::{FIELD_REPO, dead_letter_stream};
use rsky_common::wire::parse_backfill;

use super::Redis;
use crate::config::Config;
use crate::outcome::Class;

/// Letters read at a time.
const PAGE: usize = 500;

/// What is done with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLetters {
    /// Counts them by reason, and lists the newest.
    List(Which),
    /// Shows them whole.
    Show(Which),
    /// Puts them back into the queue.
    Retry(Which),
    /// Removes them.
    Drop(Which),
}

/// Which dead letters.
#[derive(Debug, Args)]
pub struct Which {
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
    /// Lines listed.
    #[arg(long, default_value_t = 20)]
    limit: usize,
}

#[derive(Debug)]
struct Letter {
    id: String,
    fields: HashMap<String, String>,
}

impl Letter {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    fn did(&self) -> String {
        parse_backfill(self.field(FIELD_REPO)).map_or_else(|_| "?".to_owned(), |event| event.did.into_owned())
    }
}

impl Which {
    fn fits(&self, letter: &Letter) -> bool {
        self.reason.as_deref().is_none_or(|reason| letter.field("reason") == reason)
            && self.did.as_deref().is_none_or(|did| letter.did() == did)
            && self.id.as_deref().is_none_or(|id| letter.id == id)
    }

    fn insist(&self) -> anyhow::Result<()> {
        if self.reason.is_none() && self.did.is_none() && self.id.is_none() && !self.all {
            bail!("choose by --reason, --did or --id, or say --all");
        }
        Ok(())
    }
}

impl DeadLetters {
    pub(super) async fn run(
        self,
        config: &Config,
        redis: &mut Redis,
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        match &self {
            Self::Retry(which) | Self::Drop(which) => which.insist()?,
            Self::List(_) | Self::Show(_) => {}
        }
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        let (mut done, mut kept) = (0_u64, 0);
        let mut shown = 0;
        for stream in &config.streams {
            let dead = dead_letter_stream(stream);
            // What is put back may fail at once and is a letter again, behind this one.
            let Some(newest) = newest(redis, &dead).await? else { continue };
            let mut from = "-".to_owned();
            loop {
                let page = page(redis, &dead, &from, &newest).await?;
                let Some(last) = page.last() else { break };
                from = format!("({}", last.id);
                let (Self::List(which) | Self::Show(which) | Self::Retry(which) | Self::Drop(which)) = &self;
                let chosen: Vec<&Letter> = page.iter().filter(|letter| which.fits(letter)).collect();
                for letter in &chosen {
                    *counts.entry(letter.field("reason").to_owned()).or_default() += 1;
                }
                match &self {
                    Self::List(which) => {
                        for letter in chosen.iter().take(which.limit.saturating_sub(shown)) {
                            let (reason, error) = (letter.field("reason"), letter.field("error"));
                            writeln!(
                                out,
                                "{} {} {reason} ({} tries): {error}",
                                letter.id,
                                letter.did(),
                                letter.field("attempts")
                            )?;
                            shown += 1;
                        }
                    }
                    Self::Show(which) => {
                        for letter in chosen.iter().take(which.limit.saturating_sub(shown)) {
                            writeln!(out, "{dead} {}", letter.id)?;
                            let fields: BTreeMap<&String, &String> = letter.fields.iter().collect();
                            fields.iter().try_for_each(|(name, value)| writeln!(out, "  {name}: {value}"))?;
                            shown += 1;
                        }
                    }
                    Self::Retry(_) => {
                        // Such a letter says what could not be listed: put back, it would only be lost.
                        let (some, none): (Vec<&Letter>, Vec<&Letter>) =
                            chosen.into_iter().partition(|letter| !letter.field(FIELD_REPO).is_empty());
                        kept += none.len();
                        done += settle(redis, &dead, Some(stream), &some).await?;
                    }
                    Self::Drop(_) => done += settle(redis, &dead, None, &chosen).await?,
                }
            }
        }
        match &self {
            Self::List(_) => {
                for (reason, count) in counts {
                    let sentence = Class::named(&reason).map_or("", |class| class.row().sentence);
                    writeln!(out, "{reason}: {count}  {sentence}")?;
                }
            }
            Self::Show(_) => {}
            Self::Retry(_) => {
                writeln!(out, "{done} back in the queue")?;
                if kept > 0 {
                    writeln!(
                        out,
                        "{kept} name no account, so they stay: they are for people to read, or to drop"
                    )?;
                }
            }
            Self::Drop(_) => writeln!(out, "{done} removed")?,
        }
        Ok(())
    }
}

/// The id of the newest letter.
async fn newest(redis: &mut Redis, stream: &str) -> anyhow::Result<Option<String>> {
    let mut command = redis::cmd("XREVRANGE");
    command.arg(stream).arg("+").arg("-").arg("COUNT").arg(1);
    let entries: Vec<(String, Vec<(String, String)>)> = command.query_async(redis).await?;
    Ok(entries.into_iter().next().map(|(id, _)| id))
}

async fn page(redis: &mut Redis, stream: &str, from: &str, to: &str) -> anyhow::Result<Vec<Letter>> {
    let mut command = redis::cmd("XRANGE");
    command.arg(stream).arg(from).arg(to).arg("COUNT").arg(PAGE);
    let entries: Vec<(String, Vec<(String, String)>)> = command.query_async(redis).await?;
    Ok(entries.into_iter().map(|(id, fields)| Letter { id, fields: fields.into_iter().collect() }).collect())
}

/// Puts letters back (`into`) and removes them, in one transaction.
async fn settle(
    redis: &mut Redis,
    dead: &str,
    into: Option<&str>,
    letters: &[&Letter],
) -> anyhow::Result<u64> {
    if letters.is_empty() {
        return Ok(0);
    }
    let mut transaction = redis::pipe();
    transaction.atomic();
    for letter in letters {
        if let Some(stream) = into {
            transaction
                .cmd("XADD")
                .arg(stream)
                .arg("*")
                .arg(FIELD_REPO)
                .arg(letter.field(FIELD_REPO))
                .ignore();
        }
        transaction.cmd("XDEL").arg(dead).arg(&letter.id).ignore();
    }
    let () = transaction.query_async(redis).await?;
    Ok(u64::try_from(letters.len()).unwrap_or(0))
}
