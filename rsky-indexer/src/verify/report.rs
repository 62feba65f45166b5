//! What is told of each account, the summary, and how far it is.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::one::{Differences, Verified};
use crate::index_repo::report::{Outcome, printable};

/// Records of an account that are named unless all are.
const NAMED: usize = 10;
/// Width of the bar.
const BAR: usize = 30;

/// All accounts together.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) compared: u64,
    differ: u64,
    pub(super) passed_over: u64,
    failed: u64,
    same: u64,
    newer: u64,
    missing: u64,
    different: u64,
    too_much: u64,
    incomplete: u64,
    hidden: u64,
    invalid: u64,
    repaired: u64,
}

impl Summary {
    /// Whether nothing differs (any more).
    pub(super) fn is_clean(&self) -> bool {
        self.differ == 0
    }

    /// Counts an account, and tells of it where there is something to tell.
    ///
    /// # Errors
    /// Of `out`.
    pub(super) fn tell(
        &mut self,
        out: &mut impl Write,
        account: &str,
        verified: &Verified,
        all: bool,
    ) -> io::Result<()> {
        match verified {
            Verified::PassedOver(why) => {
                self.passed_over += 1;
                writeln!(out, "{account} passed over: {}", printable(why))
            }
            Verified::Failed(error) => {
                self.failed += 1;
                writeln!(out, "{account} not compared: {}", printable(&format!("{error:#}")))
            }
            Verified::Compared { same, newer, invalid, differs, repaired } => {
                self.compared += 1;
                self.same += same;
                self.newer += newer;
                self.invalid += invalid;
                self.repaired += repaired;
                if *repaired > 0 {
                    writeln!(out, "{account} {repaired} records put right")?;
                }
                if differs.is_empty() {
                    return Ok(());
                }
                self.differ += 1;
                self.tell_differences(out, account, differs, all)
            }
        }
    }

    fn tell_differences(
        &mut self,
        out: &mut impl Write,
        account: &str,
        differs: &Differences,
        all: bool,
    ) -> io::Result<()> {
        let word = |outcome: &Outcome| match outcome {
            Outcome::Created => "missing",
            Outcome::Updated => "different",
            Outcome::Deleted => "too much",
            _ => "refused by the database",
        };
        let records = differs.records.iter().map(|(path, outcome)| (path, word(outcome)));
        let rows = differs.incomplete.iter().map(|path| (path, "without its row"));
        let hidden = differs.hidden.iter().map(|path| (path, "hidden though its parent is shown"));
        let told: Vec<(&String, &str)> = records.chain(rows).chain(hidden).collect();
        for (_, word) in &told {
            *match *word {
                "missing" => &mut self.missing,
                "different" => &mut self.different,
                "too much" => &mut self.too_much,
                "without its row" => &mut self.incomplete,
                _ => &mut self.hidden,
            } += 1;
        }
        self.missing += differs.more;
        let named = if all { told.len() } else { NAMED };
        for (path, word) in told.iter().take(named) {
            writeln!(out, "{account} {word}: {}", printable(path))?;
        }
        let more = u64::try_from(told.len().saturating_sub(named)).unwrap_or(u64::MAX);
        match more.saturating_add(differs.more) {
            0 => Ok(()),
            more => writeln!(out, "{account} and {more} more"),
        }
    }

    /// # Errors
    /// Of `out`.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { compared, differ, passed_over, failed, .. } = self;
        writeln!(
            out,
            "{compared} accounts compared, {differ} of them differ; {passed_over} passed over (their PDS does not give them \
             out), {failed} not compared"
        )?;
        writeln!(
            out,
            "{} records the same, {} missing, {} different, {} too much, {} without their row, {} hidden without a reason; {} \
             newer in the tables, {} not valid{}",
            self.same,
            self.missing,
            self.different,
            self.too_much,
            self.incomplete,
            self.hidden,
            self.newer,
            self.invalid,
            if self.repaired > 0 { format!("; {} put right", self.repaired) } else { String::new() }
        )
    }
}

/// A bar on a terminal, a line now and then elsewhere, and nothing for a single account.
pub(super) struct Progress<'w> {
    out: &'w mut dyn Write,
    is_terminal: bool,
    total: usize,
    done: usize,
    told: Instant,
}

impl<'w> Progress<'w> {
    pub(super) fn new(out: &'w mut dyn Write, is_terminal: bool, total: usize) -> Self {
        Self { out, is_terminal, total, done: 0, told: Instant::now() }
    }

    pub(super) fn one_more(&mut self, summary: &Summary) {
        self.done = self.done.saturating_add(1);
        let every = Duration::from_secs(if self.is_terminal { 0 } else { 10 });
        if self.total < 2 || self.told.elapsed() < every {
            return;
        }
        self.told = Instant::now();
        let filled = self.done.saturating_mul(BAR).checked_div(self.total).unwrap_or(0).min(BAR);
        let bar = format!("{}{}", "#".repeat(filled), ".".repeat(BAR.saturating_sub(filled)));
        let line = format!("[{bar}] {} of {} accounts, {} differ", self.done, self.total, summary.differ);
        let written = if self.is_terminal {
            write!(self.out, "\r{line}\x1b[K").and_then(|()| self.out.flush())
        } else {
            writeln!(self.out, "{line}")
        };
        // What cannot be written is nobody's loss.
        drop(written);
    }

    /// Makes room for a line of the report.
    pub(super) fn clear(&mut self) {
        if self.is_terminal && self.total > 1 {
            drop(write!(self.out, "\r\x1b[K").and_then(|()| self.out.flush()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_and_counted() {
        let records = (0..12).map(|at| (format!("a.b.c/{at:02}"), Outcome::Created)).collect();
        let differs =
            Differences { records, incomplete: vec!["a.b.d/1".to_owned()], ..Differences::default() };
        let verified = Verified::Compared { same: 5, newer: 1, invalid: 0, differs, repaired: 0 };
        let (mut summary, mut out) = (Summary::default(), Vec::new());
        summary.tell(&mut out, "did:plc:a", &verified, false).unwrap();
        summary.write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("did:plc:a missing: a.b.c/00\n"), "{text}");
        assert!(text.contains("did:plc:a and 3 more\n1 accounts compared, 1 of them differ;"), "{text}");
        assert!(
            text.contains("5 records the same, 12 missing, 0 different, 0 too much, 1 without"),
            "{text}"
        );
        assert!(!summary.is_clean());
    }

    #[test]
    fn a_bar_fills() {
        let mut out = Vec::new();
        let mut progress = Progress::new(&mut out, true, 2);
        progress.one_more(&Summary::default());
        progress.one_more(&Summary::default());
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(&format!("[{}{}] 1 of 2", "#".repeat(15), ".".repeat(15))), "{text}");
        assert!(text.contains(&format!("[{}] 2 of 2", "#".repeat(30))), "{text}");
    }
}
