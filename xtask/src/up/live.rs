//! The line that `up` prints every second.

use std::time::Instant;

use anyhow::Result;

use super::pipeline::Pipeline;
use crate::admin;
use crate::procfs::resident_kib;
use crate::streams::{self, FIREHOSE_BACKFILL, FIREHOSE_LIVE, LABEL_LIVE, REPO_BACKFILL};

/// What each column is; printed once.
const KEY: &str = "\
frames  read from relays and labelers, and how many a second
live    entries of live events, backf of backfilled ones, label of labels,
        repos of repositories to be fetched: those that are not done with
rows    written to Postgres, and how many a second
lag     seconds since the oldest entry was written that is not indexed
later   entries that are indexed and wait for their account's handle
MB      memory of ingester, backfiller and indexer together
";
const HEAD: &str = "   s  frames    /s    live   backf label  repos     rows    /s   lag later   MB";
/// Lines between two heads.
const HEAD_EVERY: u64 = 20;
/// Columns of a terminal.
#[cfg(test)]
const COLUMNS: usize = 80;

/// What the last line was made of.
pub(crate) struct Live {
    started: Instant,
    looked: Instant,
    frames: f64,
    rows: f64,
    lines: u64,
}

/// The figures of a line.
#[derive(Default)]
struct Figures {
    seconds: u64,
    frames: f64,
    frames_rate: f64,
    /// Live, backfill, label, repositories.
    entries: [i64; 4],
    rows: f64,
    rows_rate: f64,
    lag: f64,
    later: f64,
    megabytes: u64,
}

impl Live {
    /// `started`: what the first column counts from.
    pub(crate) fn new(started: Instant) -> Self {
        Self { started, looked: started, frames: 0.0, rows: 0.0, lines: 0 }
    }

    /// Looks at everything: a line, and what its columns are before the first one.
    pub(crate) fn line(&mut self, pipeline: &Pipeline) -> Result<String> {
        let figures = self.look(pipeline)?;
        let mut text = if self.lines == 0 { format!("{KEY}\n") } else { String::new() };
        if self.lines.is_multiple_of(HEAD_EVERY) {
            text.push_str(HEAD);
            text.push('\n');
        }
        self.lines += 1;
        Ok(text + &figures.row())
    }

    fn look(&mut self, pipeline: &Pipeline) -> Result<Figures> {
        let mut redis = pipeline.redis()?;
        let since = self.looked.elapsed().as_secs_f64().max(0.001);
        self.looked = Instant::now();
        // A daemon that has not opened its port yet has taken nothing in.
        let page = admin::get(pipeline.ingester.admin, "/metrics").unwrap_or_default();
        let firehose = admin::sum(&page, "firehose_ingester_incoming_events_total").unwrap_or(0.0);
        let frames = firehose + admin::sum(&page, "labeler_ingester_incoming_events_total").unwrap_or(0.0);
        let page = admin::get(pipeline.indexer.admin, "/metrics").unwrap_or_default();
        let rows = admin::sum(&page, "indexer_rows_total").unwrap_or(0.0);
        let entries = [FIREHOSE_LIVE, FIREHOSE_BACKFILL, LABEL_LIVE, REPO_BACKFILL];
        let [live, backfill, label, repos] = entries.map(|stream| streams::length(&mut redis, stream));
        let memory = [&pipeline.ingester, &pipeline.backfiller, &pipeline.indexer]
            .map(|daemon| resident_kib(daemon.pid()).unwrap_or(0));
        Ok(Figures {
            seconds: self.started.elapsed().as_secs(),
            frames,
            frames_rate: (frames - std::mem::replace(&mut self.frames, frames)) / since,
            entries: [live?, backfill?, label?, repos?],
            rows,
            rows_rate: (rows - std::mem::replace(&mut self.rows, rows)) / since,
            lag: admin::largest(&page, "indexer_lag_seconds").unwrap_or(0.0),
            later: admin::sum(&page, "indexer_handle_entries").unwrap_or(0.0),
            megabytes: memory.iter().sum::<u64>() / 1024,
        })
    }
}

impl Figures {
    fn row(&self) -> String {
        let [live, backfill, label, repos] = self.entries;
        format!(
            "{:>4} {:>7.0} {:>5.0} {live:>7} {backfill:>7} {label:>5} {repos:>6} {:>8.0} {:>5.0} {:>5.1} {:>5.0} {:>4}",
            self.seconds,
            self.frames,
            self.frames_rate,
            self.rows,
            self.rows_rate,
            self.lag,
            self.later,
            self.megabytes,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_a_terminal_and_stand_below_their_names() {
        let figures = Figures {
            seconds: 3600,
            frames: 9_999_999.0,
            frames_rate: 20_000.0,
            entries: [100_000, 100_000, 99_999, 100_000],
            rows: 99_999_999.0,
            rows_rate: 20_000.0,
            lag: 999.9,
            later: 9_999.0,
            megabytes: 9_999,
        };
        let row = figures.row();
        assert!(row.len() < COLUMNS && row.len() == HEAD.len(), "{row}");
        assert!(KEY.lines().all(|line| line.len() < COLUMNS));
    }
}
