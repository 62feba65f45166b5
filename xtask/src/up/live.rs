//! The line that `up` prints every second.

use std::time::Instant;

use anyhow::Result;

use super::pipeline::Pipeline;
use crate::admin;
use crate::procfs::resident_kib;
use crate::streams::{self, FIREHOSE_BACKFILL, FIREHOSE_LIVE, LABEL_LIVE, REPO_BACKFILL};

/// The streams shown, with the short names of the line.
const STREAMS: [(&str, &str); 4] = [
    ("live", FIREHOSE_LIVE),
    ("backfill", FIREHOSE_BACKFILL),
    ("label", LABEL_LIVE),
    ("repo", REPO_BACKFILL),
];

/// What the last line was made of.
pub(crate) struct Live {
    started: Instant,
    looked: Instant,
    frames: f64,
    rows: f64,
}

impl Live {
    /// `started`: what the first column counts from.
    pub(crate) fn new(started: Instant) -> Self {
        Self { started, looked: started, frames: 0.0, rows: 0.0 }
    }

    /// Frames in, entries per stream, rows, age of the oldest unfinished event, memory of each daemon.
    pub(crate) fn line(&mut self, pipeline: &Pipeline) -> Result<String> {
        let mut redis = pipeline.redis()?;
        let since = self.looked.elapsed().as_secs_f64().max(0.001);
        self.looked = Instant::now();

        // A daemon that has not opened its port yet has taken nothing in.
        let page = admin::get(pipeline.ingester.admin, "/metrics").unwrap_or_default();
        let firehose = admin::sum(&page, "firehose_ingester_incoming_events_total").unwrap_or(0.0);
        let frames = firehose + admin::sum(&page, "labeler_ingester_incoming_events_total").unwrap_or(0.0);
        let page = admin::get(pipeline.indexer.admin, "/metrics").unwrap_or_default();
        let rows = admin::sum(&page, "indexer_rows_total").unwrap_or(0.0);
        let frames_rate = (frames - std::mem::replace(&mut self.frames, frames)) / since;
        let rows_rate = (rows - std::mem::replace(&mut self.rows, rows)) / since;

        let mut entries = Vec::new();
        let mut lag: f64 = 0.0;
        for (name, stream) in STREAMS {
            entries.push(format!("{name} {}", streams::length(&mut redis, stream)?));
            if stream != REPO_BACKFILL {
                lag = lag.max(streams::oldest_seconds(&mut redis, stream)?);
            }
        }
        let memory = [&pipeline.ingester, &pipeline.backfiller, &pipeline.indexer].map(|daemon| {
            let kib = resident_kib(daemon.pid()).unwrap_or(0);
            format!("{} {} MB", daemon.name, kib / 1024)
        });
        Ok(format!(
            "{:>4} s  frames {frames:.0} ({frames_rate:.0}/s)  entries: {}  rows {rows:.0} ({rows_rate:.0}/s)  lag {lag:.1} s  {}",
            self.started.elapsed().as_secs(),
            entries.join(", "),
            memory.join(", "),
        ))
    }
}
