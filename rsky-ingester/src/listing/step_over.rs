//! The way around a repository that a host cannot list, where its cursors are growing numbers.
//!
//! A cursor then means "what comes after this number". Numbers after the last good one are tried until one works. That
//! alone tells little: a host that was down for a while works again at whatever number is asked for then. So the smallest
//! number that works now is looked for, and it is believed only if the one before it still fails: it is the number of the
//! one repository that cannot be listed, and nothing else is passed over.

use std::time::Duration;

use rsky_common::redis::LinkError;
use rsky_common::runtime::backoff::sleep_or_stop;

use super::fetch::{Failure, Fetcher};
use super::page::Page;

/// Numbers tried after the last good one.
const MOST_STEPS: u64 = 10_000;
/// First pause between two numbers. It grows with each: a small gap between numbers is passed quickly, and a host that
/// is down is not asked more often than once a second.
const PAUSE: Duration = Duration::from_millis(20);
/// Most of the first pause.
const MOST_PAUSE: u32 = 50;

impl Fetcher {
    /// The page after the one repository that cannot be listed; `None`: there is no way around it, or not now.
    ///
    /// # Errors
    /// `Stopped` only.
    pub(super) async fn step_over(&mut self, cursor: Option<&str>) -> Result<Option<Page>, LinkError> {
        let (Some(number), Some(cursor), true) = (self.number, cursor, self.numeric) else {
            self.readiness.not_ready(format!("the repository after cursor {cursor:?} cannot be listed, and the host's cursors allow no way around it"));
            return Ok(None);
        };
        let mut pauses = 1_u32;
        for step in 1..=MOST_STEPS {
            let Some(next) = number.checked_add(step) else { break };
            if let Some(page) = self.single(number, next).await? {
                return self.smallest(number, next, page, cursor).await;
            }
            if !sleep_or_stop(PAUSE.saturating_mul(pauses), &self.stop).await {
                return Err(LinkError::Stopped);
            }
            pauses = pauses.saturating_add(1).min(MOST_PAUSE);
        }
        Ok(None)
    }

    /// `number` failed a while ago, `works` has just worked, with `page`.
    async fn smallest(
        &mut self,
        number: u64,
        mut works: u64,
        mut page: Page,
        cursor: &str,
    ) -> Result<Option<Page>, LinkError> {
        // Most often it was the host and not the repository.
        if let Some(page) = self.single(number, number).await? {
            return Ok(Some(self.good(page)));
        }
        let mut fails = number;
        while works.saturating_sub(fails) > 1 {
            let middle = fails.midpoint(works);
            match self.single(number, middle).await? {
                Some(found) => (works, page) = (middle, found),
                None => fails = middle,
            }
        }
        if self.single(number, fails).await?.is_some() {
            tracing::info!(source = self.source.name(), cursor, "the host changes its mind; starting over");
            return Ok(None);
        }
        tracing::error!(
            source = self.source.name(),
            cursor,
            next = works,
            "passed over a repository that the host cannot list"
        );
        self.metrics.cursor_skip(&self.source);
        page.passed_over.push(cursor.to_owned());
        Ok(Some(self.good(page)))
    }

    /// The one repository that comes after `at`; `None`: the host cannot give it.
    async fn single(&mut self, number: u64, at: u64) -> Result<Option<Page>, LinkError> {
        let at = at.to_string();
        let page = loop {
            match self.attempt(Some(&at), 1).await? {
                Ok(page) => break page,
                Err(Failure::Page(_)) => return Ok(None),
                Err(failure) => self.wait_after(&failure, Some(&at)).await?,
            }
        };
        // A host that answers with something earlier does not mean by its cursors what we took them for.
        let later = |found: &str| found.parse::<u64>().is_ok_and(|found| found > number);
        let sound = page.cursor.as_deref().is_none_or(later);
        Ok(sound.then_some(page))
    }
}
