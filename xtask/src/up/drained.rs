//! Whether a replay has gone all the way through.

use anyhow::{Context, Result};

use super::pipeline::Pipeline;
use crate::streams::{
    self, FIREHOSE_BACKFILL, FIREHOSE_LIVE, LABEL_LIVE, REPO_BACKFILL, REPO_BACKFILL_DELAYED,
    REPO_BACKFILL_PRIORITY,
};

/// What the ingester leaves at the end of a listing.
const LISTING_DONE: &str = "!ingester-done";

/// Whether all repositories of a simulated network were listed, fetched, and indexed.
pub(crate) fn past_is_over(pipeline: &Pipeline) -> Result<bool> {
    let mut redis = pipeline.redis()?;
    let host = pipeline.network().context("a real network's past is never over")?;
    let listed = streams::cursor(&mut redis, REPO_BACKFILL, host)?.as_deref() == Some(LISTING_DONE);
    let left = streams::length(&mut redis, REPO_BACKFILL)? + streams::length(&mut redis, FIREHOSE_BACKFILL)?;
    Ok(listed && left == 0)
}

/// What is still to be done, as seen at one moment.
pub(crate) struct Drained {
    missing: Vec<String>,
    dead_letters: Vec<String>,
}

impl Drained {
    /// Looks at the ingester's positions and at the streams, in this order: an entry that is still on its way when the
    /// positions are complete is in a stream by then.
    pub(crate) fn look(pipeline: &Pipeline) -> Result<Self> {
        let mut redis = pipeline.redis()?;
        let (recording, host) = pipeline.recording().context("only a replay has an end")?;
        let mut missing = Vec::new();
        for (stream, last) in [(FIREHOSE_LIVE, recording.last_seq), (LABEL_LIVE, recording.last_label_seq)] {
            let at = streams::cursor(&mut redis, stream, host)?;
            let seq: Option<u64> = at.as_deref().and_then(|seq| seq.parse().ok());
            if seq.unwrap_or(0) < last {
                missing.push(format!("{stream} is at {} of {last}", at.as_deref().unwrap_or("its start")));
            }
        }
        if streams::cursor(&mut redis, REPO_BACKFILL, host)?.as_deref() != Some(LISTING_DONE) {
            missing.push("the listing of repositories has not ended".to_owned());
        }
        let delayed = streams::put_off(&mut redis, REPO_BACKFILL_DELAYED)?;
        if delayed > 0 {
            missing.push(format!("{delayed} repositories are to be tried again later"));
        }
        // In the order of the flow: what has left one is in the next by the time that is looked at.
        let mut dead_letters = Vec::new();
        for stream in [REPO_BACKFILL_PRIORITY, REPO_BACKFILL, FIREHOSE_LIVE, FIREHOSE_BACKFILL, LABEL_LIVE] {
            let dead = streams::length(&mut redis, &format!("{stream}_dlq"))?;
            if dead > 0 {
                dead_letters.push(format!("{stream} {dead}"));
            }
            let (length, pending) =
                (streams::length(&mut redis, stream)?, streams::pending(&mut redis, stream)?);
            if length > 0 || pending > 0 {
                missing.push(format!("{stream} has {length} entries, {pending} of them pending"));
            }
        }
        Ok(Self { missing, dead_letters })
    }

    /// Nothing is left.
    pub(crate) fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// What is left, in words.
    pub(crate) fn missing(&self) -> String {
        self.missing.join("; ")
    }

    /// What was set aside on the way: the recording has its share of broken records and repositories.
    pub(crate) fn note(&self) -> String {
        let none = self.dead_letters.is_empty();
        format!("dead letters: {}", if none { "none".to_owned() } else { self.dead_letters.join(", ") })
    }
}
