//! What is told: a line for a record where that is wanted, counts at the end.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::bail;

use super::account::Account;
use super::repository::Repository;

/// Most characters of what others said.
const MOST: usize = 300;

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Created,
    Updated,
    Deleted,
    /// The tables had it, but for a row that was missing.
    Completed,
    Unchanged,
    /// The database has something of a later commit: it stays.
    Newer,
    /// The record cannot be indexed.
    Skipped,
    /// The database does not take it.
    Refused,
}

const OUTCOMES: [(Outcome, &str); 8] = [
    (Outcome::Created, "created"),
    (Outcome::Updated, "updated"),
    (Outcome::Deleted, "deleted"),
    (Outcome::Completed, "completed"),
    (Outcome::Unchanged, "unchanged"),
    (Outcome::Newer, "newer in the database"),
    (Outcome::Skipped, "skipped"),
    (Outcome::Refused, "refused by the database"),
];

/// Counts by collection and outcome; collections are those of the indexer, so they are few.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    counts: BTreeMap<String, BTreeMap<Outcome, u64>>,
    /// Records of collections that are not indexed.
    pub(crate) without_rule: u64,
}

impl Tally {
    /// Counts the record at `collection/rkey`.
    pub(crate) fn count(&mut self, path: &str, outcome: Outcome) {
        let collection = path.split('/').next().unwrap_or_default();
        if !self.counts.contains_key(collection) {
            self.counts.insert(collection.to_owned(), BTreeMap::new());
        }
        if let Some(counts) = self.counts.get_mut(collection) {
            *counts.entry(outcome).or_default() += 1;
        }
    }

    fn add(&mut self, other: &Self) {
        self.without_rule += other.without_rule;
        for (collection, counts) in &other.counts {
            let own = self.counts.entry(collection.clone()).or_default();
            for (outcome, count) in counts {
                *own.entry(*outcome).or_default() += count;
            }
        }
    }

    pub(crate) fn total(&self, outcome: Outcome) -> u64 {
        self.counts.values().filter_map(|counts| counts.get(&outcome)).sum()
    }
}

/// What is told of each record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// A line for each that would change; nothing is changed.
    DryRun,
    /// A line for each that changes.
    Lines,
    /// Only what cannot be indexed.
    Counts,
    /// Nothing: what differs is kept, for who asked.
    Kept,
}

/// Most records that are kept by name.
const MOST_KEPT: usize = 10_000;

/// The report of one run.
#[derive(Debug)]
pub(crate) struct Report {
    head: String,
    style: Style,
    tally: Tally,
    /// What differs, with [`Style::Kept`]; the first [`MOST_KEPT`].
    pub(crate) kept: BTreeMap<String, Outcome>,
}

impl Report {
    pub(crate) fn new(account: &Account, repository: &Repository, style: Style) -> Self {
        let Account { did, pds, .. } = account;
        let Repository { rev, bytes, .. } = repository;
        let head = format!("{did} at {rev}, {bytes} bytes from {pds}");
        Self { head, style, tally: Tally::default(), kept: BTreeMap::new() }
    }

    /// The counts.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Counts a record, and tells of it: always if it could not be indexed, otherwise if that is wanted.
    #[expect(clippy::print_stderr, reason = "a command for people; nothing is logged here")]
    pub(crate) fn note(&mut self, path: &str, outcome: Outcome, reason: &str) {
        self.tally.count(path, outcome);
        match outcome {
            Outcome::Created | Outcome::Updated | Outcome::Deleted | Outcome::Refused
                if self.style == Style::Kept && self.kept.len() < MOST_KEPT =>
            {
                self.kept.insert(path.to_owned(), outcome);
            }
            _ if self.style == Style::Kept => {}
            Outcome::Skipped | Outcome::Refused => eprintln!("skipped {path}: {}", printable(reason)),
            _ if matches!(self.style, Style::DryRun | Style::Lines) => {
                let would = if self.style == Style::DryRun { "would be " } else { "" };
                // A reader that has seen enough keeps nothing from being applied.
                drop(writeln!(io::stdout(), "{path} {would}{}", name(outcome)));
            }
            _ => {}
        }
    }

    /// Tells that the database is waited for.
    #[expect(clippy::print_stderr, reason = "a command for people; nothing is logged here")]
    pub(crate) fn waits(&self, why: &str) {
        eprintln!("waiting for the database: {}", printable(why));
    }

    /// Adds what needed nothing done.
    pub(crate) fn add(&mut self, tally: &Tally) {
        self.tally.add(tally);
    }

    /// # Errors
    /// Of `out`.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", self.head)?;
        for (collection, counts) in &self.tally.counts {
            let parts: Vec<String> =
                counts.iter().map(|(outcome, count)| format!("{count} {}", name(*outcome))).collect();
            writeln!(out, "  {collection}: {}", parts.join(", "))?;
        }
        if self.tally.without_rule > 0 {
            writeln!(out, "  {} of collections that are not indexed", self.tally.without_rule)?;
        }
        let told = OUTCOMES.iter().filter(|(outcome, _)| {
            // Only `verify --repair` asks for that.
            *outcome != Outcome::Completed || self.tally.total(Outcome::Completed) > 0
        });
        let parts: Vec<String> =
            told.map(|(outcome, name)| format!("{name} {}", self.tally.total(*outcome))).collect();
        let would = if self.style == Style::DryRun { "nothing was changed; it would be: " } else { "" };
        writeln!(out, "{would}{}", parts.join(", "))
    }

    /// # Errors
    /// The database refused a record.
    pub(crate) fn verdict(&self) -> anyhow::Result<()> {
        match self.tally.total(Outcome::Refused) {
            0 => Ok(()),
            refused => bail!("the database refused {refused} records; everything else was applied"),
        }
    }
}

fn name(outcome: Outcome) -> &'static str {
    OUTCOMES.iter().find(|(other, _)| *other == outcome).map_or("", |(_, name)| name)
}

/// What others said, fit for a terminal: of bounded length, and without control characters.
pub(crate) fn printable(text: &str) -> String {
    text.chars().take(MOST).map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_by_collection() {
        let mut tally = Tally::default();
        tally.count("a.b.c/1", Outcome::Created);
        tally.count("a.b.c/2", Outcome::Created);
        let mut other = Tally { without_rule: 3, ..Tally::default() };
        other.count("a.b.c/3", Outcome::Created);
        other.count("a.b.d/1", Outcome::Deleted);
        tally.add(&other);
        let mut report = Report { head: "h".to_owned(), style: Style::DryRun, tally, kept: BTreeMap::new() };
        let mut out = Vec::new();
        report.write(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "h\n  a.b.c: 3 created\n  a.b.d: 1 deleted\n  3 of collections that are not indexed\nnothing was changed; it \
             would be: created 3, updated 0, deleted 1, unchanged 0, newer in the database 0, skipped 0, refused by the \
             database 0\n"
        );
        assert!(report.verdict().is_ok());
        report.note("a.b.c/1", Outcome::Refused, "");
        assert!(report.verdict().is_err());
    }
}
