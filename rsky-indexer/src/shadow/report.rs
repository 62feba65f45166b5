//! What is told: a line for a difference, examples of each kind, counts at the end, and how far it is.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use rsky_common::admin::shown;

use super::judge::{Difference, Notes, Verdict, What};
use super::place::written;
use super::source::{Known, Source};
use super::window::Taken;

/// Most bytes of a name that are told.
const SHOWN: usize = 300;

/// What was found so far. Its size is bounded: kinds of differences are tables and columns, reasons are a closed set.
#[derive(Debug, Default)]
pub(super) struct Report {
    same: u64,
    differ: u64,
    superseded: u64,
    /// As those, but before anybody has looked at them.
    replaced: u64,
    refused: u64,
    failed: u64,
    overdue: u64,
    lost: u64,
    times: u64,
    spellings: u64,
    tombstones: u64,
    kinds: BTreeMap<(&'static str, What), u64>,
    passed: BTreeMap<&'static str, u64>,
}

impl Report {
    /// Entries, or labels of them, that were held against the tables.
    pub(super) fn decided(&self) -> u64 {
        [self.same, self.differ, self.superseded, self.refused].iter().sum()
    }

    /// Whether anything differs.
    pub(super) fn differs(&self) -> bool {
        self.differ > 0
    }

    /// Nothing is looked for in the tables, or not everything.
    pub(super) fn passed(&mut self, why: &'static str) {
        *self.passed.entry(why).or_default() += 1;
    }

    /// Earlier ones about the same, which later ones replace.
    pub(super) fn replaced(&mut self, count: u64) {
        self.replaced = self.replaced.saturating_add(count);
    }

    /// What was not decided when its stream went.
    pub(super) fn lost(&mut self, count: u64) {
        self.lost = self.lost.saturating_add(count);
    }

    /// Counts what came of an item, and tells of it if it differs: of each kind so many examples.
    ///
    /// # Errors
    /// Of `out`.
    pub(super) fn tell(
        &mut self,
        out: &mut impl Write,
        stream: &str,
        taken: &Taken,
        verdict: &Verdict,
        examples: u64,
    ) -> io::Result<()> {
        self.overdue += u64::from(taken.overdue);
        let id = written(taken.place.0);
        match verdict {
            Verdict::Same(notes) => {
                self.same += 1;
                let Notes { times, spelling, tombstone } = *notes;
                self.times += u64::from(times);
                self.spellings += u64::from(spelling);
                self.tombstones += u64::from(tombstone);
            }
            Verdict::Superseded => self.superseded += 1,
            Verdict::RefusedByBoth => self.refused += 1,
            Verdict::Failed(why) => {
                self.failed += 1;
                if self.failed <= examples {
                    let name = shown(taken.item.name(), SHOWN);
                    writeln!(out, "not compared {name} ({stream} {id}): {why}")?;
                }
            }
            Verdict::Differs(differences) => {
                self.differ += 1;
                let pending = if taken.overdue { ", still pending" } else { "" };
                for difference in differences {
                    let Difference { table, what, ours, stands } = difference;
                    let count = self.kinds.entry((table, *what)).or_default();
                    *count += 1;
                    if *count <= examples {
                        let name = shown(taken.item.name(), SHOWN);
                        let kind = kind(table, *what);
                        writeln!(
                            out,
                            "{kind}: {name} ({stream} {id}{pending}): ours {ours}; stands {stands}"
                        )?;
                    }
                }
            }
        }
        out.flush()
    }

    /// # Errors
    /// Of `out`.
    pub(super) fn write(&self, out: &mut impl Write, ending: &Ending<'_>) -> io::Result<()> {
        for (source, known) in ending.streams {
            let missed = match known.missed {
                Some(missed) => format!("{missed} deleted before they were seen"),
                None => "this Redis does not tell how many were deleted before they were seen".to_owned(),
            };
            let late = if known.began_late { "; some had been deleted before it began" } else { "" };
            writeln!(out, "{}: {} entries read, {missed}{late}", source.stream, known.read)?;
        }
        let Self { same, differ, refused, failed, lost, .. } = self;
        let superseded = self.superseded.saturating_add(self.replaced);
        writeln!(
            out,
            "{same} as ours would write them, {differ} differ, {superseded} superseded by what came later, {refused} refused \
             by both; {} not decided, {lost} lost with their stream, {failed} not compared",
            ending.left
        )?;
        for ((table, what), count) in &self.kinds {
            writeln!(out, "  {count} {}", kind(table, *what))?;
        }
        let notes = [
            (self.times, "were indexed with another entry of the same record: their indexedAt is another"),
            (self.spellings, "have JSON in another spelling, or as another entry of the same version had it"),
            (self.tombstones, "are deletions of what was never there: ours would leave a tombstone"),
            (self.overdue, "were still pending after --patience, and compared as they stood"),
            (ending.in_doubt, "differed once and were not looked at again"),
        ];
        for (count, words) in notes.iter().filter(|(count, _)| *count > 0) {
            writeln!(out, "  {count} {words}")?;
        }
        if !self.passed.is_empty() {
            let passed = self.passed.iter().map(|(why, count)| format!("{count} {why}"));
            writeln!(out, "not looked for in the tables: {}", passed.collect::<Vec<_>>().join(", "))?;
        }
        writeln!(
            out,
            "never compared: handles, counters (indexer recount does), notifications, flags of gates, op_thread_reply, which of \
             two records that say the same has the row"
        )?;
        writeln!(out, "go on with: indexer shadow --from '{}'", ending.places)
    }

    /// In a line.
    fn line(&self, waiting: usize) -> String {
        format!("{} compared, {} differ, {waiting} waiting", self.decided(), self.differ)
    }
}

/// How it stands at the end.
pub(super) struct Ending<'a> {
    pub(super) streams: &'a [(&'a Source, Known)],
    /// Not decided.
    pub(super) left: usize,
    /// Of them, those that differed once.
    pub(super) in_doubt: u64,
    /// Where to go on, as `--from` takes it.
    pub(super) places: String,
}

fn kind(table: &str, what: What) -> String {
    match what {
        What::Missing => format!("{table} missing"),
        What::TooMuch => format!("{table} too much"),
        What::Column(column) => format!("{table}.{column} different"),
    }
}

/// A line that is rewritten on a terminal, one now and then elsewhere.
pub(super) struct Progress<'w> {
    out: &'w mut dyn Write,
    is_terminal: bool,
    told: Option<Instant>,
}

impl<'w> Progress<'w> {
    pub(super) fn new(out: &'w mut dyn Write, is_terminal: bool) -> Self {
        Self { out, is_terminal, told: None }
    }

    /// `waits` is what is waited for.
    pub(super) fn tell(&mut self, report: &Report, read: u64, waiting: usize, waits: &[String]) {
        let every = Duration::from_secs(if self.is_terminal { 1 } else { 10 });
        if self.told.is_some_and(|told| told.elapsed() < every) {
            return;
        }
        self.told = Some(Instant::now());
        let waits: String = waits.iter().map(|why| format!("; {}", shown(why, SHOWN))).collect();
        let line = format!("{read} entries read, {}{waits}", report.line(waiting));
        let written = if self.is_terminal {
            write!(self.out, "\r{line}\x1b[K").and_then(|()| self.out.flush())
        } else {
            writeln!(self.out, "{line}")
        };
        // What cannot be written is nobody's loss.
        drop(written);
    }

    /// All that is read has been read.
    pub(super) fn read_all(&mut self, read: u64, waiting: usize) {
        self.clear();
        drop(writeln!(self.out, "{read} entries read, no more are; {waiting} wait until they are finished"));
    }

    /// A stream is another than it was.
    pub(super) fn began_anew(&mut self, stream: &str, lost: u64) {
        self.clear();
        drop(writeln!(self.out, "{stream} began anew; {lost} that waited are lost with what it was"));
    }

    /// Makes room for a line of the report.
    pub(super) fn clear(&mut self) {
        if self.is_terminal && self.told.is_some() {
            drop(write!(self.out, "\r\x1b[K").and_then(|()| self.out.flush()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::shadow::item::{Expected, Item};

    #[test]
    fn examples_are_few_and_counts_are_whole() {
        let key = Some("at://did:plc:a/b.c.d/e\n".to_owned());
        let expected = Expected::Status { did: String::new(), status: None };
        let taken = Taken {
            source: 0,
            place: ((5, 1), 0),
            item: Arc::new(Item { key, expected }),
            read_at: Instant::now(),
            again: true,
            overdue: false,
        };
        let difference = Difference {
            table: "post",
            what: What::Column("text"),
            ours: "a".to_owned(),
            stands: "b".to_owned(),
        };
        let (mut report, mut out) = (Report::default(), Vec::new());
        for _ in 0..3 {
            report.tell(&mut out, "s", &taken, &Verdict::Differs(vec![difference.clone()]), 2).unwrap();
        }
        report.passed("identity");
        let ending = Ending { streams: &[], left: 4, in_doubt: 0, places: "s=5-1".to_owned() };
        report.write(&mut out, &ending).unwrap();
        let text = String::from_utf8(out).unwrap();
        let example = "post.text different: at://did:plc:a/b.c.d/e\\n (s 5-1): ours a; stands b\n";
        assert_eq!(text.matches(example).count(), 2, "{text}");
        assert!(text.contains("3 differ") && text.contains("4 not decided"), "{text}");
        assert!(
            text.contains("  3 post.text different\n") && text.contains("tables: 1 identity\n"),
            "{text}"
        );
        assert!(text.ends_with("--from 's=5-1'\n"), "{text}");
    }
}
