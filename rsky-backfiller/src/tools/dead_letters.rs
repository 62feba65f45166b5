//! `dead-letters`: repositories that were given up.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::bail;
use clap::{Args, Subcommand};
use rsky_common::redis::letters::{self, Letter};
use rsky_common::wire::names::{FIELD_REPO, dead_letter_stream};
use rsky_common::wire::parse_backfill;

use super::Redis;
use crate::config::Config;
use crate::outcome::Class;

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

/// Whom a letter is about.
fn did_of(letter: &Letter) -> String {
    parse_backfill(letter.field(FIELD_REPO)).map_or_else(|_| "?".to_owned(), |event| event.did.into_owned())
}

impl Which {
    fn fits(&self, letter: &Letter) -> bool {
        self.reason.as_deref().is_none_or(|reason| letter.field("reason") == reason)
            && self.did.as_deref().is_none_or(|did| did_of(letter) == did)
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
        let (mut done, mut kept) = (0, 0);
        let mut shown = 0;
        for stream in &config.streams {
            let dead = dead_letter_stream(stream);
            // What is put back may fail at once and is a letter again, behind this one.
            let Some(newest) = letters::newest(redis, &dead).await? else { continue };
            let mut from = "-".to_owned();
            loop {
                let page = letters::page(redis, &dead, &from, &newest).await?;
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
                                did_of(letter),
                                letter.field("attempts")
                            )?;
                            shown += 1;
                        }
                    }
                    Self::Show(which) => {
                        for letter in chosen.iter().take(which.limit.saturating_sub(shown)) {
                            writeln!(out, "{dead} {}", letter.id)?;
                            letter
                                .fields
                                .iter()
                                .try_for_each(|(name, value)| writeln!(out, "  {name}: {value}"))?;
                            shown += 1;
                        }
                    }
                    Self::Retry(_) => {
                        // Such a letter says what could not be listed: put back, it would only be lost.
                        let (some, none): (Vec<&Letter>, Vec<&Letter>) =
                            chosen.into_iter().partition(|letter| !letter.field(FIELD_REPO).is_empty());
                        kept += none.len();
                        let payloads: Vec<(&str, &str, &str)> = some
                            .iter()
                            .map(|letter| (letter.id.as_str(), FIELD_REPO, letter.field(FIELD_REPO)))
                            .collect();
                        letters::put_back(redis, stream, &dead, &payloads).await?;
                        done += payloads.len();
                    }
                    Self::Drop(_) => {
                        let ids: Vec<&str> = chosen.iter().map(|letter| letter.id.as_str()).collect();
                        letters::remove(redis, &dead, &ids).await?;
                        done += ids.len();
                    }
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
