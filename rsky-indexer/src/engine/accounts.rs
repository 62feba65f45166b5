//! `actor."upstreamStatus"`: what the host of an account says of it (IDENTITY 5, DECISIONS 17).

use std::borrow::Cow;
use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::aggregates::Deltas;
use super::change::Work;
use super::sql::Statements;
use crate::collections::Counter;

/// What an entry says of an account. Beyond the status, which the engine writes, it asks for work that waits for the
/// network ([`crate::identity`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountNews {
    /// The account.
    pub did: String,
    /// The event's time, verbatim.
    pub time: String,
    /// What is new.
    pub what: News,
}

/// What is new about an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Its profile came, changed or went.
    Profile,
    /// Its handle or its DID document may have changed.
    Identity,
    /// It may be shown (again).
    Active,
    /// It may not be shown, by this status: `deactivated`, `suspended` or `takendown`.
    Hidden(&'static str),
    /// Its host says that it is gone.
    Deleted,
    /// It has committed: its handle may be old. Best effort, and no reason to keep an entry.
    Commit,
}

impl News {
    /// The news in an account event; `None` for a status without effect.
    pub fn of_status(active: bool, status: Option<&str>) -> Option<Self> {
        match status {
            _ if active => Some(Self::Active),
            Some("deactivated") => Some(Self::Hidden("deactivated")),
            Some("suspended") => Some(Self::Hidden("suspended")),
            Some("takendown") => Some(Self::Hidden("takendown")),
            Some("deleted") => Some(Self::Deleted),
            _ => None,
        }
    }

    /// Whether an entry with these news writes rows, so that none may be done with before an earlier one of its account that is to
    /// be read again: it would write over them.
    pub fn writes(self) -> bool {
        !matches!(self, Self::Identity | Self::Commit)
    }
}

/// The statuses of one account in a batch: what is left of them is what one after the other would leave.
#[derive(Debug, Default)]
struct Statuses<'w> {
    /// When it was first to be hidden: that makes its row, if it has none.
    hidden_at: Option<&'w str>,
    newest: Option<&'static str>,
}

/// Writes the newest status of each account; returns how many rows changed. An account without a row gets one if it
/// is to be hidden: its status would be lost otherwise. Its handle is found out later.
pub(super) async fn note(
    connection: &mut PgConnection,
    statements: &Statements,
    batch: &[&Work],
) -> Result<usize, sqlx::Error> {
    let mut statuses: BTreeMap<&str, Statuses<'_>> = BTreeMap::new();
    for news in batch.iter().filter_map(|work| work.account.as_ref()) {
        let status = match news.what {
            News::Active => None,
            News::Hidden(status) => Some(status),
            News::Profile | News::Identity | News::Deleted | News::Commit => continue,
        };
        let statuses = statuses.entry(&news.did).or_default();
        statuses.newest = status;
        if status.is_some() {
            statuses.hidden_at.get_or_insert(&news.time);
        }
    }
    let active: Vec<&str> =
        statuses.iter().filter(|(_, statuses)| statuses.hidden_at.is_none()).map(|(did, _)| *did).collect();
    let hidden: Vec<(&str, &str, Option<&str>)> = statuses
        .iter()
        .filter_map(|(did, statuses)| Some((*did, statuses.hidden_at?, statuses.newest)))
        .collect();
    let mut rows = 0;
    if !hidden.is_empty() {
        let sql = r#"INSERT INTO actor (did, "indexedAt", "upstreamStatus")
            SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
            ON CONFLICT (did) DO UPDATE SET "upstreamStatus" = excluded."upstreamStatus"
                WHERE actor."upstreamStatus" IS DISTINCT FROM excluded."upstreamStatus""#;
        let query = statements
            .query(sql)
            .bind(hidden.iter().map(|(did, _, _)| *did).collect::<Vec<&str>>())
            .bind(hidden.iter().map(|(_, time, _)| *time).collect::<Vec<&str>>())
            .bind(hidden.iter().map(|(_, _, status)| *status).collect::<Vec<Option<&str>>>());
        rows += query.execute(&mut *connection).await?.rows_affected();
    }
    if !active.is_empty() {
        let sql = r#"UPDATE actor SET "upstreamStatus" = NULL FROM unnest($1::text[]) AS v(did)
            WHERE actor.did = v.did AND actor."upstreamStatus" IS NOT NULL"#;
        rows += statements.query(sql).bind(active).execute(connection).await?.rows_affected();
    }
    Ok(usize::try_from(rows).unwrap_or(usize::MAX))
}

/// Counters of others that follow the rows of an account that is taken out.
#[derive(Debug, Default)]
pub(crate) struct LostRows {
    deltas: Deltas<'static>,
    quotes: usize,
}

impl LostRows {
    /// A row that was counted is gone.
    pub(crate) fn counted(&mut self, counter: Counter, subject: String) {
        self.deltas.add(counter, Cow::Owned(subject), -1);
    }

    /// A quote of a version of a post is gone.
    pub(crate) fn quote(&mut self, subject: &str, cid: &str) {
        self.deltas.quote(subject, cid, self.quotes, -1);
        self.quotes += 1;
    }

    /// Moves the counters; the last thing of a transaction.
    pub(crate) async fn write(
        self,
        connection: &mut PgConnection,
        statements: &Statements,
    ) -> Result<usize, sqlx::Error> {
        self.deltas.write(connection, statements).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_without_effect_are_no_news() {
        assert_eq!(News::of_status(true, Some("deleted")), Some(News::Active));
        assert_eq!(News::of_status(false, Some("takendown")), Some(News::Hidden("takendown")));
        assert_eq!(News::of_status(false, Some("deleted")), Some(News::Deleted));
        for status in [Some("desynchronized"), Some("throttled"), Some("Deactivated"), Some(""), None] {
            assert_eq!(News::of_status(false, status), None, "{status:?}");
        }
    }
}
