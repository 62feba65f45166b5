//! What could not be processed, kept for people: one stream `<stream>_dlq` beside each stream.
//!
//! Fields (DECISIONS, names): the original field with the payload, `reason`, `error`, `attempts`, `source_id`, `at`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use redis::{Cmd, Pipeline};

use crate::clock::now_ms;
use crate::wire::names::{FIELD_REPO, dead_letter_stream};

/// Longest copy of a payload, in bytes. A letter that holds all of its payload can be put back, so this is far above what
/// the network sends (records of some KiB, frames of some ten); it is a bound on what one piece of bad input can take in
/// Redis. How many letters there may be is in [`super::letter_room`].
pub const PAYLOAD_MAX: usize = 1 << 20;
/// In the error text of a letter whose payload is not whole.
pub(super) const CUT: &str = " (payload cut to ";
/// Longest error text, in bytes.
const ERROR_MAX: usize = 2 * 1024;

/// One thing that could not be processed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    field: &'static str,
    payload: String,
    reason: String,
    error: String,
    attempts: u32,
    source_id: String,
}

/// What says in an error text that only so much of a payload stands in the letter, which is not put back then.
pub fn cut_note(kept: usize, whole: usize) -> String {
    format!("{CUT}{kept} of {whole} bytes)")
}

impl DeadLetter {
    /// A dead letter. `field` is the field the payload had (or would have had) in its stream; `reason` is one of a
    /// closed set of words, the label of the metric that counts it; `error` says what happened; `source_id` is the
    /// entry's id in its stream, or where on the network it came from (`host@seq`).
    pub fn new(field: &'static str, payload: &str, reason: &str, error: &str, source_id: &str) -> Self {
        let kept = prefix(payload, PAYLOAD_MAX);
        let mut error = prefix(error, ERROR_MAX).to_owned();
        if kept.len() < payload.len() {
            error.push_str(&cut_note(kept.len(), payload.len()));
        }
        Self {
            field,
            payload: kept.to_owned(),
            reason: reason.to_owned(),
            error,
            attempts: 1,
            source_id: source_id.to_owned(),
        }
    }

    /// A dead letter for bytes that are not text; the payload is their base64 (standard alphabet, no padding).
    pub fn binary(field: &'static str, bytes: &[u8], reason: &str, error: &str, source_id: &str) -> Self {
        let kept = bytes.get(..PAYLOAD_MAX / 4 * 3).unwrap_or(bytes);
        let mut letter = Self::new(field, &STANDARD_NO_PAD.encode(kept), reason, error, source_id);
        if kept.len() < bytes.len() {
            letter.error.push_str(&format!("{CUT}{} of {} bytes before base64)", kept.len(), bytes.len()));
        }
        letter
    }

    /// Sets how often it was tried; 1 unless set.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// The word it is counted under.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Its size in Redis, roughly, in bytes.
    pub fn size(&self) -> usize {
        self.payload.len() + self.error.len() + self.reason.len() + self.source_id.len() + 64
    }

    /// Whether a whole repository stands in it, which must not be lost.
    pub fn is_of_repository(&self) -> bool {
        self.field == FIELD_REPO
    }

    /// The `XADD` for it. `stream` is the stream it belongs beside.
    pub fn xadd(&self, stream: &str) -> Cmd {
        let mut command = redis::cmd("XADD");
        command.arg(dead_letter_stream(stream)).arg("*");
        command
            .arg(self.field)
            .arg(&self.payload)
            .arg("reason")
            .arg(&self.reason)
            .arg("error")
            .arg(&self.error);
        command
            .arg("attempts")
            .arg(self.attempts)
            .arg("source_id")
            .arg(&self.source_id)
            .arg("at")
            .arg(now_ms());
        command
    }

    /// Appends [`DeadLetter::xadd`] to a pipeline.
    pub fn append(&self, pipeline: &mut Pipeline, stream: &str) {
        pipeline.add_command(self.xadd(stream));
    }
}

/// The longest prefix of at most `max` bytes that ends between characters.
fn prefix(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(letter: &DeadLetter) -> String {
        String::from_utf8_lossy(&letter.xadd("s").get_packed_command()).into_owned()
    }

    #[test]
    fn has_the_agreed_fields() {
        let letter = DeadLetter::new("event", "{}", "bad", "why", "host@5").attempts(3);
        let sent = packed(&letter);
        for part in [
            "s_dlq",
            "event",
            "{}",
            "reason",
            "bad",
            "error",
            "why",
            "attempts",
            "3",
            "source_id",
            "host@5",
            "at",
        ] {
            assert!(sent.contains(&format!("\r\n{part}\r\n")), "{part}: {sent}");
        }
    }

    #[test]
    fn bounds_the_copy_and_says_the_true_size() {
        let letter = DeadLetter::new("event", &"é".repeat(600_000), "bad", "why", "x");
        assert!(letter.payload.len() <= PAYLOAD_MAX);
        assert!(letter.error.contains("1048576 of 1200000 bytes"), "{}", letter.error);
        let letter = DeadLetter::binary("event", &vec![0; 5_000_000], "bad", "why", "x");
        assert!(letter.payload.len() <= PAYLOAD_MAX);
        assert!(letter.error.contains("of 5000000 bytes"), "{}", letter.error);
        assert!(letter.size() < PAYLOAD_MAX + 1024);
    }

    #[test]
    fn cuts_between_characters() {
        assert_eq!(prefix("aé", 2), "a");
        assert_eq!(prefix("aé", 3), "aé");
        assert_eq!(prefix("é", 1), "");
    }
}
