//! How many dead letters there may be (DECISIONS 31).
//!
//! A repository stands in its letter and nowhere else: such letters are never trimmed, and who has one to write waits
//! while there are too many. A letter of an entry is one record or one event: the oldest are trimmed, since spam must not
//! stop the pipeline, and each trimmed one is counted by stream and warned about. A letter may hold a mebibyte, so these
//! are bounded in bytes as well: Redis tells what they take, and is asked after every sixteenth of the bound that was
//! written.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::{LinkError, RedisLink};
use crate::admin::{Label, counter};
use crate::config::LetterBounds;
use crate::runtime::backoff::sleep_or_stop;
use crate::wire::names::dead_letter_stream;

/// Time between two looks at a full stream of letters.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Shortest time between two warnings about one stream.
const WARN_AGAIN: Duration = Duration::from_secs(60);
/// Part of the bound in bytes that is written between two questions what the letters take, and to which below the bound
/// they are trimmed.
const STEP: u64 = 16;
/// Letters and bytes that one script takes away: the server does nothing else meanwhile, and copies each of them.
const AT_ONCE: (u64, u64) = (500, 8 << 20);

/// Takes away the oldest letters until so many bytes of fields are gone, at most so many letters. Gives their number.
const TAKE_AWAY: &str =
    "local wanted, most, taken, gone, from = tonumber(ARGV[1]), tonumber(ARGV[2]), 0, 0, '-'
while gone < wanted and taken < most do
  local page = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', 1)
  if #page == 0 then break end
  for _, text in ipairs(page[1][2]) do gone = gone + #text end
  from = '(' .. page[1][1]
  taken = taken + 1
end
redis.call('XTRIM', KEYS[1], 'MAXLEN', redis.call('XLEN', KEYS[1]) - taken)
return taken";

/// What this process knows of the letters beside a stream.
#[derive(Debug, Default)]
struct Known {
    trimmed: u64,
    warned_at: Option<Instant>,
    /// Bytes written since Redis was last asked what they take; `None`: it was never asked.
    unweighed: Option<u64>,
}

/// By stream of letters. One table for the process, as its writers are many.
static KNOWN: Mutex<BTreeMap<String, Known>> = Mutex::new(BTreeMap::new());

/// Looks at what is known of a stream of letters, or changes it.
fn known<T>(letters: &str, look: impl FnOnce(&mut Known) -> T) -> T {
    let mut all = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    look(all.entry(letters.to_owned()).or_default())
}

/// Waits until fewer letters than are allowed lie beside `stream`. Not being able to write them is said by the link's part
/// of readiness, and once in the log.
///
/// # Errors
/// `Stopped`, or an error of Redis that waiting does not cure.
pub async fn wait_for_room(
    link: &mut RedisLink,
    stream: &str,
    bounds: LetterBounds,
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
        if length < bounds.letters {
            link.succeeded();
            if is_said {
                tracing::info!(stream = letters, "there is room for letters of repositories again");
            }
            return Ok(());
        }
        let why = format!(
            "{letters} holds {length} letters and DLQ_MAX_LEN is {}: letters of repositories are never trimmed, so what \
             fills it waits; look with `backfiller dead-letters list`, then retry or drop them",
            bounds.letters
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

/// Trims the letters of entries beside `stream`, of which `written` bytes were just added, to about the bounds, and counts
/// what goes. A failure is left to the next time: the letters are only too many.
pub async fn trim(link: &mut RedisLink, stream: &str, bounds: LetterBounds, written: u64) {
    let letters = dead_letter_stream(stream);
    let mut command = redis::cmd("XTRIM");
    command.arg(&letters).arg("MAXLEN").arg("~").arg(bounds.letters);
    match link.query::<u64>(&command).await {
        Ok(trimmed) => count(&letters, trimmed, Instant::now()),
        Err(error) => return tracing::debug!(stream = letters, "dead letters are not trimmed: {error}"),
    }
    if is_to_be_weighed(&letters, bounds, written)
        && let Err(error) = trim_to_bytes(link, &letters, bounds.bytes).await
    {
        tracing::warn!(stream = letters, "dead letters are not kept to DLQ_MAX_BYTES: {error}");
    }
}

/// Whether so much was written since Redis was last asked that it is asked again.
fn is_to_be_weighed(letters: &str, bounds: LetterBounds, written: u64) -> bool {
    known(letters, |known| {
        let unweighed = known.unweighed.map(|bytes| bytes.saturating_add(written));
        let due = unweighed.is_none_or(|bytes| bytes >= bounds.bytes / STEP);
        known.unweighed = if due { Some(0) } else { unweighed };
        due
    })
}

async fn trim_to_bytes(link: &mut RedisLink, letters: &str, bytes: u64) -> Result<(), LinkError> {
    let mut wanted = bytes;
    loop {
        // All of them: letters are of very different sizes. That is a look at each of the stream's nodes, not at each letter.
        let mut weigh = redis::cmd("MEMORY");
        weigh.arg("USAGE").arg(letters).arg("SAMPLES").arg(0);
        let taken: u64 = link.query::<Option<u64>>(&weigh).await?.unwrap_or(0);
        if taken <= wanted {
            return Ok(());
        }
        wanted = bytes.saturating_sub(bytes / STEP);
        // A letter takes more than the bytes of its fields: not all at once, or too many would go.
        let (most, at_once) = AT_ONCE;
        let excess = taken.saturating_sub(wanted);
        let mut script = redis::cmd("EVAL");
        script.arg(TAKE_AWAY).arg(1).arg(letters).arg(excess.div_ceil(2).min(at_once)).arg(most);
        let trimmed: u64 = link.query(&script).await?;
        count(letters, trimmed, Instant::now());
        if trimmed == 0 {
            return Ok(());
        }
    }
}

fn count(letters: &str, trimmed: u64, now: Instant) {
    if trimmed == 0 {
        return;
    }
    let warned = known(letters, |known| {
        known.trimmed = known.trimmed.saturating_add(trimmed);
        let is_due = known.warned_at.is_none_or(|at| now.duration_since(at) >= WARN_AGAIN);
        is_due.then(|| {
            known.warned_at = Some(now);
            known.trimmed
        })
    });
    if let Some(trimmed) = warned {
        tracing::warn!(
            stream = letters,
            trimmed,
            "the oldest dead letters were trimmed: there are more than DLQ_MAX_LEN, or they take more than DLQ_MAX_BYTES"
        );
    }
}

crate::declare! {
    OF_LETTERS, "Dead letters";
    TRIMMED = counter("dead_letters_trimmed_total", "letters", "Dead letters of single entries that were trimmed, oldest first")
        .by(&[Label::configured("stream", "a stream of dead letters")]).absent("before the first");
}

/// Registers them, for every daemon.
pub(crate) fn register(registry: &mut Registry) {
    TRIMMED.asked_by(registry, || {
        let all = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let trimmed = all.iter().filter(|(_, known)| known.trimmed > 0);
        trimmed.map(|(stream, known)| (vec![stream.clone()], known.trimmed as f64)).collect()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_trimmed_is_counted_by_stream() {
        count("a_test_dlq", 3, Instant::now());
        count("a_test_dlq", 4, Instant::now());
        let mut text = String::new();
        let registry = crate::admin::registry("test", "1", &crate::admin::Health::new());
        prometheus_client::encoding::prometheus_text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("dead_letters_trimmed_total{stream=\"a_test_dlq\"} 7"), "{text}");
    }

    #[test]
    fn what_they_take_is_asked_for_at_first_and_after_each_step() {
        let bounds = LetterBounds { letters: 10, bytes: 1600 };
        let due = |written| is_to_be_weighed("weighed_dlq", bounds, written);
        assert_eq!([1, 60, 39, 1, 99, 1].map(due), [true, false, false, true, false, true]);
    }
}
