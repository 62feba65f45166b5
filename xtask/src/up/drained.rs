//! Whether a replay has gone all the way through.

use anyhow::{Context, Result};

use super::pipeline::Pipeline;
use crate::streams::{self, FIREHOSE_BACKFILL, FIREHOSE_LIVE, LABEL_LIVE, REPO_BACKFILL};

/// What is still to be done, as seen at one moment.
pub(crate) struct Drained {
    missing: Vec<String>,
    repositories: i64,
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
        for stream in [FIREHOSE_LIVE, FIREHOSE_BACKFILL, LABEL_LIVE] {
            let (length, pending) =
                (streams::length(&mut redis, stream)?, streams::pending(&mut redis, stream)?);
            if length > 0 || pending > 0 {
                missing.push(format!("{stream} has {length} entries, {pending} of them pending"));
            }
        }
        Ok(Self { missing, repositories: streams::length(&mut redis, REPO_BACKFILL)? })
    }

    /// Nothing is left.
    pub(crate) fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// What is left, in words.
    pub(crate) fn missing(&self) -> String {
        self.missing.join("; ")
    }

    /// What is in the pipeline without counting as left.
    pub(crate) fn note(&self) -> String {
        format!(
            "{REPO_BACKFILL} holds {} repositories that wait for the backfiller (not counted)",
            self.repositories
        )
    }
}
