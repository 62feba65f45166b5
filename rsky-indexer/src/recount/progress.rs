//! How far a recount is, for people.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::place::Place;

/// What a recount has found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Rows whose counters were counted.
    pub looked_at: u64,
    /// Rows of them that were missing, or had a counter that was something else.
    pub wrong: u64,
}

/// Writes a line every few seconds; on a terminal one that is rewritten.
pub struct Progress<'w> {
    out: &'w mut dyn Write,
    is_terminal: bool,
    interval: Duration,
    written: Instant,
    stage: &'static str,
    resumed: bool,
    estimate: f64,
    walked: u64,
    figures: Figures,
    place: Option<Place>,
    open_line: bool,
}

impl<'w> Progress<'w> {
    /// Writes to `out`. What cannot be written is nobody's loss.
    pub fn new(out: &'w mut dyn Write, is_terminal: bool) -> Self {
        Self {
            out,
            is_terminal,
            interval: if is_terminal { Duration::from_millis(500) } else { Duration::from_secs(5) },
            written: Instant::now(),
            stage: "",
            resumed: false,
            estimate: 0.0,
            walked: 0,
            figures: Figures::default(),
            place: None,
            open_line: false,
        }
    }

    /// All figures so far.
    pub fn figures(&self) -> Figures {
        self.figures
    }

    /// Up to where everything is done, for a recount that can go on from there.
    pub fn place(&self) -> Option<Place> {
        self.place.clone()
    }

    /// Everything up to here is done.
    pub(super) fn reached(&mut self, place: Place) {
        self.place = Some(place);
    }

    /// A stage of about `estimate` keys begins, after a key of it that was done earlier, if any.
    pub(super) fn begin(&mut self, stage: &'static str, after: &str, estimate: f64) {
        (self.stage, self.resumed, self.estimate, self.walked) = (stage, !after.is_empty(), estimate, 0);
    }

    /// Keys were walked over, and rows looked at.
    pub(super) fn add(&mut self, walked: u64, figures: Figures) {
        self.walked = self.walked.saturating_add(walked);
        self.figures.looked_at = self.figures.looked_at.saturating_add(figures.looked_at);
        self.figures.wrong = self.figures.wrong.saturating_add(figures.wrong);
        if self.written.elapsed() >= self.interval {
            self.written = Instant::now();
            let line = self.line();
            self.open_line = self.is_terminal;
            let written = if self.is_terminal {
                write!(self.out, "\r{line}\x1b[K").and_then(|()| self.out.flush())
            } else {
                writeln!(self.out, "{line}")
            };
            ignore(written);
        }
    }

    /// Ends a line that was being rewritten.
    pub fn end(&mut self) {
        if std::mem::take(&mut self.open_line) {
            ignore(writeln!(self.out));
        }
    }

    fn line(&self) -> String {
        let of = match self.estimate {
            // Statistics are of some time ago, and say nothing of where in the order a resumed stage began.
            estimate if estimate < 1.0 => String::new(),
            estimate if self.resumed => format!(" of at most about {estimate:.0}"),
            estimate => {
                let share = (self.walked as f64 / estimate * 100.0).min(99.0);
                format!(" of about {estimate:.0} ({share:.0} %)")
            }
        };
        let Figures { looked_at, wrong } = self.figures;
        format!("{}: {}{of}; in all {looked_at} rows looked at, {wrong} wrong", self.stage, self.walked)
    }
}

fn ignore(_: io::Result<()>) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(is_terminal: bool, after: &str, estimate: f64) -> String {
        let mut out = Vec::new();
        let mut progress = Progress::new(&mut out, is_terminal);
        progress.interval = Duration::ZERO;
        progress.begin("post_agg", after, estimate);
        progress.add(1000, Figures { looked_at: 1000, wrong: 1 });
        progress.add(1000, Figures { looked_at: 1000, wrong: 0 });
        progress.end();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_each_time_or_one_that_is_rewritten() {
        let lines_of_file = lines(false, "", 8000.0);
        assert_eq!(lines_of_file.lines().count(), 2);
        assert!(
            lines_of_file
                .ends_with("post_agg: 2000 of about 8000 (25 %); in all 2000 rows looked at, 1 wrong\n")
        );
        let line_of_terminal = lines(true, "", 8000.0);
        assert_eq!((line_of_terminal.lines().count(), line_of_terminal.matches('\r').count()), (1, 2));
    }

    #[test]
    fn an_estimate_promises_no_more_than_it_knows() {
        assert!(lines(false, "", 0.0).contains("post_agg: 1000; in all"));
        assert!(lines(false, "", 10.0).contains("(99 %)"));
        assert!(lines(false, "at://", 8000.0).contains("of at most about 8000; in all"));
    }
}
