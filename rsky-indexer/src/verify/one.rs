//! One account: compared, looked at again, put right.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::rows::{self, Rows};
use crate::index_repo::account::{self, Account, NotGivenOut};
use crate::index_repo::report::{Outcome, Report, Style};
use crate::index_repo::session::Session;
use crate::index_repo::settings::Settings;
use crate::schema::RevMode;

/// What is to be done about differences.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    pub(super) repair: bool,
    /// Pause before they are looked at again.
    pub(super) settle: Duration,
}

/// What differs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Differences {
    /// Records, by what would have to be done with them in the tables.
    pub(super) records: BTreeMap<String, Outcome>,
    /// Differences that were counted and not kept by name.
    pub(super) more: u64,
    /// Records without the row that goes with them.
    pub(super) incomplete: Vec<String>,
    /// Replies that are hidden though what they answer is there and shown.
    pub(super) hidden: Vec<String>,
}

impl Differences {
    pub(super) fn is_empty(&self) -> bool {
        let Self { records, more, incomplete, hidden } = self;
        records.is_empty() && *more == 0 && incomplete.is_empty() && hidden.is_empty()
    }
}

/// What came of an account.
#[derive(Debug)]
pub(super) enum Verified {
    /// It was compared: records that are the same, that the tables have of a later commit, that are not valid; and what
    /// differs (still, after a repair).
    Compared { same: u64, newer: u64, invalid: u64, differs: Differences, repaired: u64 },
    /// Its PDS does not give it out, which is no fault of ours: the words.
    PassedOver(String),
    /// It could not be compared.
    Failed(anyhow::Error),
}

/// Looks at one account.
pub(super) async fn verify_one(session: &Session, settings: &Settings, name: &str, wish: Wish) -> Verified {
    match try_one(session, settings, name, wish).await {
        Ok(verified) => verified,
        Err(error) if error.downcast_ref::<NotGivenOut>().is_some() => {
            Verified::PassedOver(format!("{error:#}"))
        }
        Err(error) => Verified::Failed(error),
    }
}

async fn try_one(session: &Session, settings: &Settings, name: &str, wish: Wish) -> anyhow::Result<Verified> {
    let account = account::find(name, settings).await?;
    let did = account.did.as_str();
    let look = || async {
        let repository = session.fetch(&account).await?;
        let mut report = Report::new(&account, &repository, Style::Kept);
        session.compare(did, repository, true, HashSet::new(), &mut report).await?;
        let rows = rows::look(session, did).await?;
        anyhow::Ok((report, rows))
    };
    let (mut report, rows) = look().await?;
    let mut differs = differences(&report, rows);
    if !differs.is_empty() && !wish.settle.is_zero() {
        tokio::time::sleep(wish.settle).await;
        let (again, rows) = look().await?;
        differs = differences(&again, rows).among(&differs);
        report = again;
    }
    let mut repaired = 0;
    if wish.repair && !differs.is_empty() {
        repaired = repair(session, &account, &differs).await?;
        (report, differs) = look().await.map(|(report, rows)| {
            let differs = differences(&report, rows).among(&differs);
            (report, differs)
        })?;
    }
    let tally = report.tally();
    Ok(Verified::Compared {
        same: tally.total(Outcome::Unchanged),
        newer: tally.total(Outcome::Newer),
        invalid: tally.total(Outcome::Skipped),
        differs,
        repaired,
    })
}

/// Puts right what differs; how many records that was.
async fn repair(session: &Session, account: &Account, differs: &Differences) -> anyhow::Result<u64> {
    let mut again: HashSet<String> = differs.incomplete.iter().cloned().collect();
    let (mut repaired, anew) = (0, again.len());
    let passes = if anew > 0 && session.found.schema.rev() == RevMode::None { 2 } else { 1 };
    for pass in 1..=passes {
        let repository = session.fetch(account).await?;
        let mut done = Report::new(account, &repository, Style::Kept);
        session.compare(&account.did, repository, false, std::mem::take(&mut again), &mut done).await?;
        let total = |outcome| done.tally().total(outcome);
        let written = [Outcome::Created, Outcome::Updated, Outcome::Deleted, Outcome::Completed].map(total);
        repaired += written.iter().sum::<u64>();
        // What was deleted to be made again is counted when it is.
        if pass < passes {
            repaired = repaired.saturating_sub(u64::try_from(anew).unwrap_or(0));
        }
    }
    Ok(repaired)
}

fn differences(report: &Report, rows: Rows) -> Differences {
    let counted: u64 = [Outcome::Created, Outcome::Updated, Outcome::Deleted]
        .map(|outcome| report.tally().total(outcome))
        .iter()
        .sum();
    let records = report.kept.clone();
    let more = counted.saturating_sub(u64::try_from(records.len()).unwrap_or(u64::MAX));
    Differences { records, more, incomplete: rows.incomplete, hidden: rows.hidden }
}

impl Differences {
    /// Those of these that were there before: what was on its way then is not.
    fn among(mut self, before: &Self) -> Self {
        // More than are kept by name are not on their way.
        if before.more == 0 {
            self.records.retain(|path, outcome| before.records.get(path) == Some(outcome));
            self.more = 0;
        }
        self.incomplete.retain(|path| before.incomplete.contains(path));
        self.hidden.retain(|path| before.hidden.contains(path));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_twice_differs() {
        let differs = |paths: &[(&str, Outcome)]| Differences {
            records: paths.iter().map(|(path, outcome)| ((*path).to_owned(), *outcome)).collect(),
            ..Differences::default()
        };
        let before = differs(&[("a", Outcome::Created), ("b", Outcome::Created)]);
        let after = differs(&[("b", Outcome::Created), ("c", Outcome::Deleted)]);
        assert_eq!(after.clone().among(&before), differs(&[("b", Outcome::Created)]));
        let many = Differences { more: 1, ..before };
        assert_eq!(after.clone().among(&many), after);
    }
}
