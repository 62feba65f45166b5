//! What an operator reads: remarkable frames, how old events are, what is in memory.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rsky_common::atproto::{Converted, FrameKind};
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
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
    Some((now - unix_seconds(time)?).max(0.0))
}

/// Seconds since the Unix epoch of `YYYY-MM-DDThh:mm:ss…`, taken for UTC.
fn unix_seconds(time: &str) -> Option<f64> {
    let number = |from: usize, to: usize| time.get(from..to)?.parse::<i32>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    // Days from the civil date, with years that begin in March.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days =
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    Some(f64::from(days) * 86_400.0 + f64::from(hour * 3600 + minute * 60 + second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn civil_dates_become_seconds() {
        for (time, seconds) in [
            ("1970-01-01T00:00:00.000Z", 0.0),
            ("2000-02-29T12:00:01Z", 951_825_601.0),
            ("2025-10-01T00:00:00Z", 1_759_276_800.0),
        ] {
            assert_eq!(unix_seconds(time), Some(seconds), "{time}");
        }
        for bad in ["", "2025", "yesterday-at-noon-it-was", "éééééééééééééééééééé"] {
            assert_eq!(unix_seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_age_is_that_of_the_event_and_not_of_a_record() {
        let entry = r#"{"type":"create","record":{"time":"1970-01-01T00:00:00Z"},"seq":1,"time":"2999-01-01T00:00:00Z","did":"d"}"#;
        assert_eq!(age_seconds(entry), Some(0.0));
        assert_eq!(age_seconds("{}"), None);
    }
}
