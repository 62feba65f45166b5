//! An account whose entries are in hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ahead::Looked;
use super::handover::{Keeps, Places, Task};
use super::question::Question;
use super::waiting::Moment;
use super::window::{ActorRow, Event, Need, Resolution, need, need_nothing};
use crate::acks::{Fate, Source, entry_id};
use crate::engine::News;
use crate::job::Job;

/// The entries of one account, in the order they came in, and how far the work for them is.
#[derive(Debug, Default)]
pub(super) struct Account {
    tasks: Vec<Task>,
    /// How many of them, from the first, the question that is being asked is for.
    covered: usize,
    /// The account's row when its entries were looked at last.
    row: Option<ActorRow>,
    /// The time that the resolution in hand is for.
    time: String,
    /// Failures that count, in a row.
    attempts: u32,
    /// Failures that are the directory's, in a row.
    patience: u32,
    /// Whether it is among those that wait, are asked about, or are taken out.
    pub(super) busy: bool,
    /// The moment it waits for.
    pub(super) delay: Option<Delay>,
}

/// Why and until when an account waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delay {
    /// The moment.
    pub(super) moment: Moment,
    /// The question that had no answer; `None` where it was not asked for being asked too soon.
    pub(super) unanswered: Option<Question>,
}

/// What is next for an account.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing is left to do for its entries.
    Done,
    /// This is to be asked.
    Ask(Question),
    /// Not before so long.
    Later(Duration),
    /// Whether somebody still has what it wrote before this deletion is to be looked for.
    LookAhead,
}

/// A deletion ahead of which is to be looked.
#[derive(Debug)]
pub(super) struct Behind {
    pub(super) source: Arc<Source>,
    pub(super) id: String,
    pub(super) looked: Looked,
}

impl Account {
    pub(super) fn push(&mut self, task: Task) {
        self.tasks.push(task);
    }

    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// What the database has of it now.
    pub(super) fn looked_up(&mut self, row: Option<ActorRow>) {
        self.row = row;
    }

    /// What is to be done for the entries that are here now.
    pub(super) fn next(&mut self, last: Option<Resolution>) -> Next {
        self.covered = self.tasks.len();
        if self.behind().is_some() {
            return Next::LookAhead;
        }
        if self.tasks.iter().any(|task| task.news.what == News::Deleted) {
            return Next::Ask(Question::Hosted);
        }
        let events: Vec<Event<'_>> = self.tasks.iter().map(event).collect();
        match need(self.row.as_ref(), &events, last) {
            Need::Nothing => Next::Done,
            Need::Later(pause) => Next::Later(pause),
            Need::Resolve(time) => {
                self.time = time.to_owned();
                Next::Ask(Question::Handle)
            }
        }
    }

    /// The first deletion that is not known to come after all the account wrote before.
    pub(super) fn behind(&self) -> Option<Behind> {
        let is_behind = |task: &&Task| task.news.what == News::Deleted && task.looked != Looked::Through;
        self.tasks.iter().filter(is_behind).find_map(|task| match &task.keeps {
            Keeps::Entry(job) => Some(Behind {
                source: Arc::clone(&job.source),
                id: job.id.clone(),
                looked: task.looked.clone(),
            }),
            Keeps::Place(_) => None,
        })
    }

    /// So far was looked ahead of a deletion.
    pub(super) fn note_looked(&mut self, behind: &Behind) {
        for task in &mut self.tasks {
            if let Keeps::Entry(job) = &task.keeps
                && job.id == behind.id
                && Arc::ptr_eq(&job.source, &behind.source)
            {
                task.looked = behind.looked.clone();
            }
        }
    }

    /// Takes the entries out that need nothing, while the others wait.
    pub(super) fn settle_idle(&mut self, last: Option<Resolution>) -> Vec<(Job, Fate)> {
        let events: Vec<Event<'_>> = self.tasks.iter().map(event).collect();
        let may_go = need_nothing(self.row.as_ref(), &events, last);
        let covered = may_go.iter().take(self.covered).filter(|may_go| !**may_go).count();
        let (go, stay): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.tasks).into_iter().zip(may_go).partition(|(_, may_go)| *may_go);
        self.tasks = stay.into_iter().map(|(task, _)| task).collect();
        self.covered = covered;
        entries(go.into_iter().map(|(task, _)| task), || Fate::Indexed)
    }

    /// Gives its tasks places among those of the domain that has to answer for it; `false`: there are not enough.
    pub(super) fn enter(&mut self, did: &str, domain: &str, places: &Places) -> bool {
        places.enter(did, domain, &mut self.tasks)
    }

    /// Takes all of its entries out: they are to be read again when there is room for the domain. What nobody waits for is
    /// given up.
    pub(super) fn put_off(self, domain: Option<&str>) -> Vec<(Job, Fate)> {
        self.tasks.into_iter().filter_map(|task| put_off(task, domain.map(str::to_owned))).collect()
    }

    /// Gives up what nobody waits for.
    pub(super) fn give_up_looks(&mut self) {
        let is_entry = |task: &Task| matches!(task.keeps, Keeps::Entry(_));
        self.covered = self.tasks.iter().take(self.covered).filter(|task| is_entry(task)).count();
        self.tasks.retain(is_entry);
    }

    /// The time that becomes the row's `indexedAt`.
    pub(super) fn time(&self) -> &str {
        &self.time
    }

    /// Takes the entries out that the last question was for.
    pub(super) fn settle(&mut self, fate: impl Fn() -> Fate) -> Vec<(Job, Fate)> {
        (self.attempts, self.patience) = (0, 0);
        let covered = std::mem::take(&mut self.covered).min(self.tasks.len());
        entries(self.tasks.drain(..covered), fate)
    }

    /// Takes the entries out that said that the account is gone: it is not.
    pub(super) fn settle_deletions(&mut self, reason: &'static str) -> Vec<(Job, Fate)> {
        (self.attempts, self.patience) = (0, 0);
        // What has come since the host was asked may be a later deletion.
        let covered = std::mem::take(&mut self.covered).min(self.tasks.len());
        let later = self.tasks.split_off(covered);
        let (gone, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.tasks).into_iter().partition(|task| task.news.what == News::Deleted);
        self.tasks = kept.into_iter().chain(later).collect();
        entries(gone.into_iter(), || Fate::Nothing(reason))
    }

    /// Failures of another question do not count for the next one.
    pub(super) fn forget_failures(&mut self) {
        (self.attempts, self.patience) = (0, 0);
    }

    /// A failure that counts; how many in a row.
    pub(super) fn failed(&mut self) -> u32 {
        self.attempts += 1;
        self.attempts
    }

    /// When to ask again after a failure that counts: after 1, 4, 16, … seconds, at most five minutes.
    pub(super) fn again_at(&self) -> Instant {
        let seconds = 1_u64 << (2 * self.attempts.saturating_sub(1)).min(10);
        Instant::now() + Duration::from_secs(seconds.min(300))
    }

    /// When to ask again after the directory failed for this account alone: after 1, 2, 4, … seconds, at most a minute.
    pub(super) fn directory_failed(&mut self) -> Instant {
        let seconds = 1_u64 << self.patience.min(6);
        self.patience += 1;
        Instant::now() + Duration::from_secs(seconds.min(60))
    }

    /// The time of the first deletion that this stream brought, of those that the last question was for.
    pub(super) fn deleted_at(&self, stream: &str) -> Option<&str> {
        let is_of = |task: &&Task| {
            let of_stream = matches!(&task.keeps, Keeps::Entry(job) if job.source.consumer.stream == stream);
            task.news.what == News::Deleted && of_stream
        };
        self.tasks.iter().take(self.covered).find(is_of).map(|task| task.news.time.as_str())
    }
}

/// Puts off a task's entry, if it has one.
pub(super) fn put_off(task: Task, domain: Option<String>) -> Option<(Job, Fate)> {
    let Keeps::Entry(job) = task.keeps else { return None };
    let domain = job.put_off_behind(&task.news, domain);
    Some((job, Fate::Deferred(domain)))
}

/// Whether an earlier entry of the account was put off since this one was handed over; the domain that it waits for.
pub(super) fn overtaken(task: &Task) -> Option<String> {
    match &task.keeps {
        Keeps::Entry(job) => job.overtaken(&task.news),
        Keeps::Place(_) => None,
    }
}

/// The entries among tasks that are done.
fn entries(tasks: impl Iterator<Item = Task>, fate: impl Fn() -> Fate) -> Vec<(Job, Fate)> {
    let entry = |task: Task| match task.keeps {
        Keeps::Entry(job) => Some((job, fate())),
        Keeps::Place(_) => None,
    };
    tasks.filter_map(entry).collect()
}

fn event(task: &Task) -> Event<'_> {
    let queued_ms = match &task.keeps {
        Keeps::Entry(job) => entry_id(&job.id).0,
        // It matters for identity events alone.
        Keeps::Place(_) => 0,
    };
    Event { what: task.news.what, time: &task.news.time, queued_ms }
}
