//! `indexer recount`: the counters of `post_agg` and `profile_agg` counted anew, while indexers run.
//!
//! | step | file |
//! |---|---|
//! | arguments and settings, signals, what is printed | [`command`], [`selection`], [`progress`] |
//! | which rows, in which order; where to go on after a stop | this one, [`place`] |
//! | one page of rows, in one short transaction | [`step`], [`tables`] |
//!
//! **Why running indexers lose nothing.** Indexers move a counter by the rows that came and went, as the last thing of
//! their transaction, and hold the counter's row until they commit. A step locks the rows of its page, and counts in a
//! *later* statement. At READ COMMITTED every statement sees what was committed before it began. So for each indexer's
//! transaction there are two cases: it held the row before the step did, then it has committed and the count sees its
//! rows; or it comes to the row after the step, then the count did not see its rows, it waits, and moves the counter
//! that the step has written. A count made in the statement that locks would have missed who committed while it waited.
//!
//! **Why nobody is locked out.** As the indexers do (see `engine/aggregates.rs`), a step first inserts the rows that are
//! missing, in order, and then locks those that are there, in order. A page has 1000 rows at most, and fewer when
//! counting them takes long. A deadlock, should there be one after all, ends the step and it is done again.
//!
//! `bookmarkCount` is not touched: bookmarks are not the indexer's.

pub mod command;
pub mod place;
pub mod progress;
pub mod selection;
mod step;
mod tables;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use rsky_common::postgres::transaction::Preamble;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use place::Place;
use progress::{Figures, Progress};
use selection::Selection;
use step::{Keys, Step};
use tables::{POST_AGG, PROFILE_AGG, STAGES, Stage};

/// Most rows of a step.
pub const MAX_PAGE: usize = 1000;

/// A step that takes longer makes the following ones smaller: its rows are locked for all that time.
const SLOW: Duration = Duration::from_secs(1);
/// A step that takes less lets the following ones grow again.
const QUICK: Duration = Duration::from_millis(250);

/// How a recount ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was looked at, and what was wrong.
    pub figures: Figures,
    /// Whether it was told to stop before its end.
    pub stopped: bool,
    /// Where a recount of everything that was stopped can go on.
    pub resume_after: Option<Place>,
}

/// How steps are sent, and how many rows they take.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether the server may keep statements prepared; off behind a transaction-pooling proxy.
    pub persistent: bool,
    /// What every transaction says.
    pub preamble: Preamble,
    /// Most rows of a step, 1 to [`MAX_PAGE`].
    pub page: usize,
}

/// Recounts what is selected. When `stop` is cancelled it ends after the current step.
///
/// # Errors
/// Postgres fails or goes away; everything before the step at hand is done, and for `--all` the error says where to go
/// on. A selection of everything also fails where a table lacks the index that it would be walked by.
pub async fn recount(
    connection: &mut PgConnection,
    options: Options,
    selection: &Selection,
    stop: &CancellationToken,
    progress: &mut Progress<'_>,
) -> anyhow::Result<Outcome> {
    let page = options.page.clamp(1, MAX_PAGE);
    let mut run = Run { connection, options, page, stop, progress };
    match selection {
        Selection::Some { dids, uris } => run.some(dids, uris).await,
        Selection::All { resume_after } => run.all(resume_after.as_ref()).await,
    }
}

struct Run<'r, 'w> {
    connection: &'r mut PgConnection,
    options: Options,
    /// Rows of the next step.
    page: usize,
    stop: &'r CancellationToken,
    progress: &'r mut Progress<'w>,
}

impl Run<'_, '_> {
    async fn some(&mut self, dids: &[String], uris: &[String]) -> anyhow::Result<Outcome> {
        for (table, keys) in [(&*POST_AGG, uris), (&*PROFILE_AGG, dids)] {
            self.progress.begin(table.name, "", keys.len() as f64);
            for page in keys.chunks(self.page.max(1)) {
                if self.stop.is_cancelled() {
                    return Ok(self.ended(true, None));
                }
                let step = Step { table, keys: Keys::These(page) };
                let done = step.run(self.connection, &self.options).await?;
                self.progress.add(page.len() as u64, done.figures);
            }
        }
        Ok(self.ended(false, None))
    }

    async fn all(&mut self, resume_after: Option<&Place>) -> anyhow::Result<Outcome> {
        step::require_indexes(self.connection, &self.options).await?;
        let first = resume_after.map_or(0, Place::stage);
        for (number, stage) in STAGES.iter().enumerate().skip(first) {
            let after = resume_after.filter(|place| place.stage() == number).map_or("", Place::key);
            if let Some(place) = self.stage(number, stage, after).await? {
                return Ok(self.ended(true, Some(place)));
            }
        }
        Ok(self.ended(false, None))
    }

    /// Returns where it was told to stop.
    async fn stage(&mut self, number: usize, stage: &Stage, after: &str) -> anyhow::Result<Option<Place>> {
        let estimate = step::estimate(self.connection, stage, &self.options).await?;
        self.progress.begin(stage.name(), after, estimate);
        let mut after = after.to_owned();
        loop {
            let place = Place::new(number, after.as_str());
            self.progress.reached(place.clone());
            if self.stop.is_cancelled() {
                return Ok(Some(place));
            }
            let began = Instant::now();
            let step =
                Step { table: stage.table(), keys: Keys::After { stage, after: &after, limit: self.page } };
            let done = step
                .run(self.connection, &self.options)
                .await
                .with_context(|| format!("everything before is done; go on with --resume-after '{place}'"))?;
            self.progress.add(done.walked, done.figures);
            let Some(last) = done.last else { return Ok(None) };
            after = last;
            self.fit_page(began.elapsed());
        }
    }

    fn fit_page(&mut self, took: Duration) {
        if took > SLOW {
            self.page = (self.page / 2).max(1);
        } else if took < QUICK {
            self.page = (self.page * 2).min(self.options.page.clamp(1, MAX_PAGE));
        }
    }

    fn ended(&self, stopped: bool, resume_after: Option<Place>) -> Outcome {
        Outcome { figures: self.progress.figures(), stopped, resume_after }
    }
}
