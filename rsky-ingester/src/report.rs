//! What an operator reads: remarkable frames, how old events are, what is in memory.

use std::time::Duration;

use rsky_common::atproto::{Converted, FrameKind};
use rsky_common::clock::{since_epoch, unix_seconds};
use rsky_common::runtime::CancellationToken;
use rsky_common::runtime::backoff::sleep_or_stop;

use crate::backlog::MAX_SEQ;
use crate::budgets::Budgets;
use crate::metrics::Metrics;
use crate::source::Source;
use crate::source_metrics::SourceMetrics;

/// Time between two log lines about what is in memory.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// Logs a frame that says something to an operator.
pub fn remarkable_frame(source: &Source, metrics: &Metrics, converted: &Converted) {
    if let Some(seq) = converted.seq.filter(|seq| *seq > MAX_SEQ) {
        tracing::warn!(
            source = source.name(),
            seq,
            "a sequence number nobody can mean; the cursor does not move to it"
        );
    }
    match &converted.kind {
        FrameKind::Info { name, message } => {
            let message = message.as_deref().unwrap_or_default();
            tracing::warn!(source = source.name(), "the host informs: {name} {message}");
            if name == "OutdatedCursor" {
                metrics.outdated_cursor(source);
                source.note(|state| {
                    state.last_error = Some(format!("OutdatedCursor {message}: events were missed"))
                });
            }
        }
        FrameKind::Undecodable => {
            let error =
                converted.rejected.first().map(|rejected| rejected.error.as_str()).unwrap_or_default();
            tracing::warn!(source = source.name(), seq = converted.seq, "undecodable frame: {error}");
        }
        _ => {}
    }
}

/// Logs what is in memory while there is something.
///
/// # Errors
/// None.
pub async fn watch_memory(
    budgets: Budgets,
    sources: SourceMetrics,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    while sleep_or_stop(LINE_EVERY, &stop).await {
        let frames = sources.frames();
        if frames > 0 {
            tracing::info!(frames, bytes = budgets.bytes(), limit = budgets.total(), "in memory");
        }
    }
    Ok(())
}

/// How many seconds ago an entry's event happened, by its `time`.
pub fn age_seconds(entry: &str) -> Option<f64> {
    // Everything after `time` in an entry is free of quotes within quotes (PIPELINE §3.1), so the last one is it.
    let (_, rest) = entry.rsplit_once("\"time\":\"")?;
    let (time, _) = rest.split_once('"')?;
    let happened = unix_seconds(time)? as f64;
    Some((since_epoch().as_secs_f64() - happened).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_that_of_the_event_and_not_of_a_record() {
        let entry = r#"{"type":"create","record":{"time":"1970-01-01T00:00:00Z"},"seq":1,"time":"2999-01-01T00:00:00Z","did":"d"}"#;
        assert_eq!(age_seconds(entry), Some(0.0));
        assert_eq!(age_seconds("{}"), None);
    }
}
