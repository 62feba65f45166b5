//! Patience with the directory as a whole: one that does not answer is asked again now and then, by one question.

use std::time::{Duration, Instant};

use rsky_common::runtime::backoff::Backoff;
use tracing::{info, warn};

/// Failures in a row that are not blamed on the accounts asked for.
const FEW: u32 = 4;
/// Longest pause that a directory may ask for.
const LONGEST: Duration = Duration::from_secs(300);

/// Whether the directory (and the handle resolver, where one is set) answers.
#[derive(Debug)]
pub(super) struct Directory {
    failures: u32,
    backoff: Backoff,
    silent: Option<Silent>,
}

#[derive(Debug)]
struct Silent {
    since: Instant,
    next: Instant,
    probed: bool,
    error: String,
}

impl Default for Directory {
    fn default() -> Self {
        let backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));
        Self { failures: 0, backoff, silent: None }
    }
}

impl Directory {
    /// Whether a question may be asked now.
    pub(super) fn may_be_asked(&self, now: Instant) -> bool {
        self.silent.as_ref().is_none_or(|silent| !silent.probed && silent.next <= now)
    }

    /// When a question may be asked, if that is known and to come.
    pub(super) fn next(&self) -> Option<Instant> {
        self.silent.as_ref().filter(|silent| !silent.probed).map(|silent| silent.next)
    }

    /// A question is on its way; `true` if it is the one that tells whether the directory is back.
    pub(super) fn asked(&mut self) -> bool {
        self.silent.as_mut().is_some_and(|silent| !std::mem::replace(&mut silent.probed, true))
    }

    /// It answered, whatever it said.
    pub(super) fn answered(&mut self) {
        self.failures = 0;
        self.backoff.reset();
        if let Some(silent) = self.silent.take() {
            info!(seconds = silent.since.elapsed().as_secs(), "the directory answers again: handles go on");
        }
    }

    /// It did not answer, or said that it cannot now. `patience`: how long it asks to be left alone.
    pub(super) fn failed(&mut self, probe: bool, patience: Option<Duration>, error: &str) {
        self.failures = self.failures.saturating_add(1);
        let now = Instant::now();
        match &mut self.silent {
            Some(silent) if probe => {
                silent.probed = false;
                silent.next = now + patience.unwrap_or_default().min(LONGEST).max(self.backoff.next_delay());
                error.clone_into(&mut silent.error);
            }
            Some(_) => {}
            None if patience.is_some() || self.failures >= FEW => {
                let pause = patience.unwrap_or_default().min(LONGEST).max(self.backoff.next_delay());
                warn!("the directory does not answer: handles wait, everything else goes on: {error}");
                self.silent =
                    Some(Silent { since: now, next: now + pause, probed: false, error: error.to_owned() });
            }
            None => {}
        }
    }

    /// Whether it is known not to answer.
    pub(super) fn is_silent(&self) -> bool {
        self.silent.is_some()
    }

    /// For the status page.
    pub(super) fn describe(&self) -> String {
        match &self.silent {
            None => "answers".to_owned(),
            Some(silent) => {
                format!("has not answered for {} s: {}", silent.since.elapsed().as_secs(), silent.error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_question_tells_whether_it_is_back() {
        let mut directory = Directory::default();
        for _ in 0..FEW - 1 {
            assert!(!directory.asked());
            directory.failed(false, None, "no");
        }
        assert!(directory.may_be_asked(Instant::now()), "a few failures are the accounts' own");
        directory.failed(false, None, "no");
        assert!(directory.is_silent() && !directory.may_be_asked(Instant::now()));
        let later = directory.next().unwrap();
        assert!(directory.may_be_asked(later));
        assert!(directory.asked());
        assert!(!directory.may_be_asked(later + Duration::from_secs(60)), "one at a time");
        // Answers that were on their way say nothing new.
        directory.failed(false, None, "late");
        assert!(!directory.may_be_asked(later + Duration::from_secs(60)));
        directory.failed(true, None, "still");
        assert!(directory.next().unwrap() > later);
        assert!(directory.asked());
        directory.answered();
        assert!(directory.may_be_asked(Instant::now()) && !directory.asked());
        assert_eq!(directory.describe(), "answers");
    }

    #[test]
    fn a_directory_that_asks_for_patience_gets_it() {
        let mut directory = Directory::default();
        directory.failed(false, Some(Duration::from_secs(7)), "HTTP 429");
        assert!(directory.next().unwrap() > Instant::now() + Duration::from_secs(6));
        let mut directory = Directory::default();
        directory.failed(false, Some(Duration::from_secs(1_000_000)), "HTTP 429");
        assert!(directory.next().unwrap() <= Instant::now() + LONGEST);
    }
}
