//! How many dead letters there may be (DECISIONS 31).
//!
//! A repository stands in its letter and nowhere else: such letters are never trimmed, and who has one to write waits
//! while there are too many. A letter of an entry is one record or one event: the oldest are trimmed, since spam must not
//! stop the pipeline, and each trimmed one is counted by stream and warned about.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use tokio_util::sync::CancellationToken;

use super::{LinkError, RedisLink};
use crate::runtime::backoff::sleep_or_stop;
use crate::wire::names::dead_letter_stream;

/// Time between two looks at a full stream of letters.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Shortest time between two warnings about one stream.
const WARN_AGAIN: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Trimmed {
    letters: u64,
    warned_at: Option<Instant>,
}

/// Letters this process has trimmed, by stream. One table for the process, as its writers are many.
static TRIMMED: Mutex<BTreeMap<String, Trimmed>> = Mutex::new(BTreeMap::new());

/// Waits until fewer than `max_len` letters lie beside `stream`. Not being able to write them is said by the link's part
/// of readiness, and once in the log.
///
/// # Errors
/// `Stopped`, or an error of Redis that waiting does not cure.
pub async fn wait_for_room(
    link: &mut RedisLink,
    stream: &str,
    max_len: u64,
    stop: &CancellationToken,
) -> Result<(), LinkError> {
    let letters = dead_letter_stream(stream);
    let mut command = redis::cmd("XLEN");
    command.arg(&letters);
    let mut is_said = false;
    loop {
        let length: u64 = match link.query(&command).await {
            Ok(length) => length,
            Err(error) => {
                link.wait_out(error).await?;
                continue;
            }
        };
        if length < max_len {
            link.succeeded();
            if is_said {
                tracing::info!(stream = letters, "there is room for letters of repositories again");
            }
            return Ok(());
        }
        let why = format!(
            "{letters} holds {length} letters and DLQ_MAX_LEN is {max_len}: letters of repositories are never trimmed, \
             so what fills it waits; look with `backfiller dead-letters list`, then retry or drop them"
        );
        if !is_said {
            tracing::warn!("{why}");
            is_said = true;
        }
        link.held_up(why);
        if !sleep_or_stop(LOOK_AGAIN, stop).await {
            return Err(LinkError::Stopped);
        }
    }
}

/// Trims the letters of entries beside `stream` to about `max_len`, and counts what goes. A failure is left to the next
/// time: the letters are only too many.
pub async fn trim(link: &mut RedisLink, stream: &str, max_len: u64) {
    let letters = dead_letter_stream(stream);
    let mut command = redis::cmd("XTRIM");
    command.arg(&letters).arg("MAXLEN").arg("~").arg(max_len);
    match link.query::<u64>(&command).await {
        Ok(0) => {}
        Ok(trimmed) => count(&letters, trimmed, Instant::now()),
        Err(error) => tracing::debug!(stream = letters, "dead letters are not trimmed: {error}"),
    }
}

fn count(letters: &str, trimmed: u64, now: Instant) {
    let mut all = TRIMMED.lock().unwrap_or_else(PoisonError::into_inner);
    let of_stream = all.entry(letters.to_owned()).or_default();
    of_stream.letters = of_stream.letters.saturating_add(trimmed);
    if of_stream.warned_at.is_none_or(|at| now.duration_since(at) >= WARN_AGAIN) {
        of_stream.warned_at = Some(now);
        tracing::warn!(
            stream = letters,
            trimmed = of_stream.letters,
            "the oldest dead letters were trimmed: there are more than DLQ_MAX_LEN"
        );
    }
}

/// `dead_letters_trimmed_total` by stream, for the registry of every daemon.
#[derive(Debug)]
pub struct TrimmedLetters;

impl Collector for TrimmedLetters {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let all = TRIMMED.lock().unwrap_or_else(PoisonError::into_inner);
        let help = "Dead letters of single entries that were trimmed, oldest first";
        let mut family =
            encoder.encode_descriptor("dead_letters_trimmed", help, None, MetricType::Counter)?;
        for (stream, trimmed) in all.iter() {
            let labels = [("stream", stream.as_str())];
            ConstCounter::new(trimmed.letters).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_trimmed_is_counted_by_stream() {
        count("a_test_dlq", 3, Instant::now());
        count("a_test_dlq", 4, Instant::now());
        let mut text = String::new();
        let registry = crate::admin::registry("test", "1");
        prometheus_client::encoding::prometheus_text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("dead_letters_trimmed_total{stream=\"a_test_dlq\"} 7"), "{text}");
    }
}
