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
pub(super) enum Outcome {
    Created,
    Updated,
    Deleted,
    Unchanged,
    /// The database has something of a later commit: it stays.
    Newer,
    /// The record cannot be indexed.
    Skipped,
    /// The database does not take it.
    Refused,
}

const OUTCOMES: [(Outcome, &str); 7] = [
    (Outcome::Created, "created"),
    (Outcome::Updated, "updated"),
    (Outcome::Deleted, "deleted"),
    (Outcome::Unchanged, "unchanged"),
    (Outcome::Newer, "newer in the database"),
    (Outcome::Skipped, "skipped"),
    (Outcome::Refused, "refused by the database"),
];

/// Counts by collection and outcome; collections are those of the indexer, so they are few.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    counts: BTreeMap<String, BTreeMap<Outcome, u64>>,
    /// Records of collections that are not indexed.
    pub(super) without_rule: u64,
}

impl Tally {
    /// Counts the record at `collection/rkey`.
    pub(super) fn count(&mut self, path: &str, outcome: Outcome) {
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

    fn total(&self, outcome: Outcome) -> u64 {
        self.counts.values().filter_map(|counts| counts.get(&outcome)).sum()
    }
}

/// The report of one run.
#[derive(Debug)]
pub(super) struct Report {
    head: String,
    dry_run: bool,
    lines: bool,
    tally: Tally,
}

impl Report {
    pub(super) fn new(account: &Account, repository: &Repository, dry_run: bool, verbose: bool) -> Self {
        let Account { did, pds, .. } = account;
        let Repository { rev, bytes, .. } = repository;
        let head = format!("{did} at {rev}, {bytes} bytes from {pds}");
        Self { head, dry_run, lines: verbose || dry_run, tally: Tally::default() }
    }

    /// Counts a record, and tells of it: always if it could not be indexed, otherwise if that is wanted.
    #[expect(clippy::print_stderr, reason = "a command for people; nothing is logged here")]
    pub(super) fn note(&mut self, path: &str, outcome: Outcome, reason: &str) {
        self.tally.count(path, outcome);
        match outcome {
            Outcome::Skipped | Outcome::Refused => eprintln!("skipped {path}: {}", printable(reason)),
            _ if self.lines => {
                let would = if self.dry_run { "would be " } else { "" };
                // A reader that has seen enough keeps nothing from being applied.
                drop(writeln!(io::stdout(), "{path} {would}{}", name(outcome)));
            }
            _ => {}
        }
    }

    /// Tells that the database is waited for.
    #[expect(clippy::print_stderr, reason = "a command for people; nothing is logged here")]
    pub(super) fn waits(&self, why: &str) {
        eprintln!("waiting for the database: {}", printable(why));
    }

    /// Adds what needed nothing done.
    pub(super) fn add(&mut self, tally: &Tally) {
        self.tally.add(tally);
    }

    /// # Errors
    /// Of `out`.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", self.head)?;
        for (collection, counts) in &self.tally.counts {
            let parts: Vec<String> =
                counts.iter().map(|(outcome, count)| format!("{count} {}", name(*outcome))).collect();
            writeln!(out, "  {collection}: {}", parts.join(", "))?;
        }
        if self.tally.without_rule > 0 {
            writeln!(out, "  {} of collections that are not indexed", self.tally.without_rule)?;
        }
        let parts: Vec<String> =
            OUTCOMES.iter().map(|(outcome, name)| format!("{name} {}", self.tally.total(*outcome))).collect();
        let would = if self.dry_run { "nothing was changed; it would be: " } else { "" };
        writeln!(out, "{would}{}", parts.join(", "))
    }

    /// # Errors
    /// The database refused a record.
    pub(super) fn verdict(&self) -> anyhow::Result<()> {
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
pub(super) fn printable(text: &str) -> String {
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
        let mut report = Report { head: "h".to_owned(), dry_run: true, lines: false, tally };
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
