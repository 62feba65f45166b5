//! Records that were sent, until their rows are seen.

use std::collections::HashSet;

/// Rows asked for in one statement at most, the longest awaited first: when the daemons fall behind, asking must not
/// become what they have to wait for. Rows come nearly in the order of the records.
const WINDOW: usize = 200;

/// A record without a row.
#[derive(Debug)]
struct Record {
    uri: String,
    sent_micros: u64,
    counts: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Awaited {
    records: Vec<Record>,
    delays: Vec<u64>,
}

impl Awaited {
    /// A record was sent. One of the warm-up is waited for, and does not count.
    pub(super) fn sent(&mut self, uri: String, sent_micros: u64, counts: bool) {
        self.records.push(Record { uri, sent_micros, counts });
    }

    /// The statement that asks for their rows; `None` when nothing is awaited.
    pub(super) fn question(&self) -> Option<String> {
        let quoted = |record: &Record| format!("'{}'", record.uri.replace('\'', "''"));
        let uris: Vec<String> = self.records.iter().take(WINDOW).map(quoted).collect();
        (!uris.is_empty())
            .then(|| format!("SELECT uri FROM record WHERE uri = ANY (ARRAY[{}])", uris.join(", ")))
    }

    /// These rows are there.
    pub(super) fn seen(&mut self, rows: &[String], now_micros: u64) {
        if rows.is_empty() {
            return;
        }
        let rows: HashSet<&str> = rows.iter().map(String::as_str).collect();
        self.records.retain(|record| {
            let seen = rows.contains(record.uri.as_str());
            if seen && record.counts {
                self.delays.push(now_micros.saturating_sub(record.sent_micros));
            }
            !seen
        });
    }

    /// Nothing is awaited.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// What came of those that count.
    pub(super) fn delays(mut self) -> Delays {
        self.delays.sort_unstable();
        let never = self.records.iter().filter(|record| record.counts).count();
        Delays { sorted: self.delays, never }
    }
}

/// How long the rows took, in microseconds.
#[derive(Debug)]
pub(super) struct Delays {
    sorted: Vec<u64>,
    never: usize,
}

impl Delays {
    /// Percentiles of all records, those never seen as the longest, and how many there were.
    pub(super) fn lines(&self) -> String {
        let total = self.sorted.len() + self.never;
        let column = |name: &str, percent| format!("{name} {}", self.text(percent));
        let columns = [column("p50", 50), column("p90", 90), column("p99", 99), column("max", 100)];
        format!("    {}\n    {total} records sampled, {} of them never seen", columns.join("   "), self.never)
    }

    fn text(&self, percent: usize) -> String {
        match self.percentile(percent) {
            Some(micros) => format!("{:.1} ms", millis(micros)),
            None => "never".to_owned(),
        }
    }

    /// The smallest delay that so many of a hundred records did not exceed; `None` when it was not seen.
    fn percentile(&self, percent: usize) -> Option<u64> {
        let rank = (self.sorted.len() + self.never).saturating_mul(percent).div_ceil(100);
        self.sorted.get(rank.checked_sub(1)?).copied()
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of minutes are far below 2^53")]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_the_longest_awaited_until_they_are_seen() {
        let mut awaited = Awaited::default();
        assert_eq!(awaited.question(), None);
        for number in 0..WINDOW + 5 {
            awaited.sent(format!("at://{number}"), 1_000, number > 0);
        }
        awaited.sent("at://it's".to_owned(), 1_000, true);
        let question = awaited.question().unwrap();
        assert!(question.contains("ARRAY['at://0', 'at://1',"), "{question}");
        assert_eq!(question.matches("at://").count(), WINDOW);
        let rows: Vec<String> = (0..WINDOW + 5).map(|number| format!("at://{number}")).collect();
        awaited.seen(&rows, 3_500);
        let question = awaited.question().unwrap();
        assert!(question.ends_with("(ARRAY['at://it''s'])"), "{question}");
        assert!(!awaited.is_empty());
        let delays = awaited.delays();
        assert_eq!((delays.sorted.len(), delays.never), (WINDOW + 4, 1), "the warm-up does not count");
        assert!(delays.sorted.iter().all(|delay| *delay == 2_500));
    }

    #[test]
    fn percentiles_are_of_all_and_who_was_never_seen_was_slowest() {
        let delays = Delays { sorted: (1..=98).map(|ms| ms * 1_000).collect(), never: 2 };
        assert_eq!((delays.percentile(50), delays.percentile(98)), (Some(50_000), Some(98_000)));
        assert_eq!((delays.percentile(99), delays.percentile(100)), (None, None));
        let text = delays.lines();
        assert!(text.contains("p50 50.0 ms   p90 90.0 ms   p99 never   max never"), "{text}");
        assert!(text.contains("100 records sampled, 2 of them never seen"), "{text}");
        assert_eq!(Delays { sorted: vec![7], never: 0 }.percentile(50), Some(7));
        assert_eq!(Delays { sorted: Vec::new(), never: 0 }.percentile(50), None);
    }
}
