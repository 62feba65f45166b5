//! A long course in five equal parts: where they end, what they took, whether the last costs what the first did.

/// Parts that are compared.
pub(super) const PARTS: u64 = 5;

/// How a course of `whole` rows or entries is cut: five equal parts, each of equal pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    whole: u64,
    pieces_of_a_fifth: u64,
}

impl Cut {
    /// As few pieces as there can be of `most` at most (one more where the numbers do not divide).
    pub(super) fn new(whole: u64, most: u64) -> Self {
        Self { whole, pieces_of_a_fifth: whole.div_ceil(PARTS).div_ceil(most.max(1)).max(1) }
    }

    /// Where each piece ends, fifth by fifth. The last ends at the whole.
    pub(super) fn fifths(self) -> impl Iterator<Item = Vec<u64>> {
        let pieces = self.pieces_of_a_fifth;
        let end = move |piece: u64| {
            let exact = u128::from(self.whole) * u128::from(piece) / u128::from(PARTS * pieces);
            u64::try_from(exact).unwrap_or(self.whole)
        };
        (0..PARTS).map(move |fifth| (1..=pieces).map(|piece| end(fifth * pieces + piece)).collect())
    }
}

/// What a piece, or several, took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spent {
    /// Entries that were drained.
    pub(super) entries: u64,
    /// From the moment they were all in the stream until they were all acknowledged.
    pub(super) seconds: f64,
    /// CPU time of the indexer and of Postgres.
    pub(super) cpu_seconds: f64,
}

impl Spent {
    /// All of them together.
    pub(super) fn total<'a>(pieces: impl IntoIterator<Item = &'a Self>) -> Self {
        pieces.into_iter().fold(Self::default(), |sum, piece| Self {
            entries: sum.entries + piece.entries,
            seconds: sum.seconds + piece.seconds,
            cpu_seconds: sum.cpu_seconds + piece.cpu_seconds,
        })
    }

    /// Entries a second.
    #[expect(clippy::cast_precision_loss, reason = "a number of entries is far below 2^53")]
    pub(super) fn rate(&self) -> f64 {
        self.entries as f64 / self.seconds
    }

    /// CPU time of an entry, in microseconds.
    #[expect(clippy::cast_precision_loss, reason = "a number of entries is far below 2^53")]
    pub(super) fn cpu_micros(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.entries as f64
    }
}

/// One line when a fifth is done.
pub(super) fn line(number: usize, spent: &Spent, unit: &str, so_far: &str) -> String {
    format!(
        "  fifth {number}: {:>9.0} {unit}/s   {:>6.1} µs of CPU each   {} {unit} in {:.2} s, {so_far}",
        spent.rate(),
        spent.cpu_micros(),
        spent.entries,
        spent.seconds
    )
}

/// The first part beside the last, and what their ratio is.
pub(super) fn compared(name: &str, first: &Spent, last: &Spent, unit: &str) -> [String; 3] {
    [
        format!("  {:>9.0} {unit}/s, the first {name}", first.rate()),
        format!("  {:>9.0} {unit}/s, the last {name}", last.rate()),
        format!(
            "  {:>9.2} of the first {name}'s rate, {:.2} of its CPU time an entry",
            last.rate() / first.rate(),
            last.cpu_micros() / first.cpu_micros()
        ),
    ]
}

/// The rate of the whole beside that of COPY of the rows it ended in.
#[expect(clippy::cast_precision_loss, reason = "a number of events is far below 2^53")]
pub(super) fn of_the_limit(whole: &Spent, copy_seconds: f64) -> String {
    let limit = whole.entries as f64 / copy_seconds;
    format!(
        "  {:>9.0} events/s over all, {limit:.0} COPY events/s of all rows: {:.2} of the limit",
        whole.rate(),
        whole.rate() / limit
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(whole: u64, most: u64) -> Vec<Vec<u64>> {
        Cut::new(whole, most).fifths().collect()
    }

    #[test]
    fn a_course_that_divides_has_equal_pieces() {
        let fifths = ends(200_000, 10_000);
        assert_eq!(fifths.len(), 5);
        assert_eq!(fifths[0], [10_000, 20_000, 30_000, 40_000]);
        assert_eq!(fifths[4], [170_000, 180_000, 190_000, 200_000]);
        assert_eq!(ends(50, 10), [[10], [20], [30], [40], [50]]);
    }

    #[test]
    fn a_course_that_does_not_divide_ends_at_the_whole_in_pieces_that_differ_by_one() {
        for (whole, most) in [(2_000_000, 50_000), (100_001, 7), (123_457, 10_000), (12, 1), (7, 100)] {
            let fifths = ends(whole, most);
            assert!(fifths.iter().all(|fifth| fifth.len() == fifths[0].len()), "{whole} by {most}");
            let ends: Vec<u64> = fifths.into_iter().flatten().collect();
            assert_eq!(ends.last(), Some(&whole));
            let sizes: Vec<u64> =
                ends.iter().scan(0, |before, end| Some(end - std::mem::replace(before, *end))).collect();
            let (smallest, largest) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
            assert!(
                largest - smallest <= 1 && *largest <= most + 1,
                "{whole} by {most}: {smallest} to {largest}"
            );
        }
    }

    #[test]
    fn rates_are_of_all_pieces_together_and_not_the_mean_of_theirs() {
        let piece = |entries, seconds| Spent { entries, seconds, cpu_seconds: seconds / 2.0 };
        let total = Spent::total(&[piece(900, 1.0), piece(100, 9.0)]);
        assert_eq!(total, Spent { entries: 1_000, seconds: 10.0, cpu_seconds: 5.0 });
        assert_eq!((total.rate(), total.cpu_micros()), (100.0, 5_000.0));
    }

    #[test]
    fn the_last_is_held_against_the_first() {
        let (first, last) = (
            Spent { entries: 1_000, seconds: 1.0, cpu_seconds: 1.0 },
            Spent { entries: 1_000, seconds: 2.0, cpu_seconds: 1.5 },
        );
        let [_, _, ratio] = compared("fifth", &first, &last, "events");
        assert_eq!(ratio.trim(), "0.50 of the first fifth's rate, 1.50 of its CPU time an entry");
        let line = line(1, &first, "events", "900 rows");
        assert!(
            line.contains("1000 events/s") && line.ends_with("1000 events in 1.00 s, 900 rows"),
            "{line}"
        );
    }
}
