//! What the database holds of a batch's uris before the batch: one query for the records, and for the few that
//! exist already, their duplicate keys and duplicates.
//!
//! Generation B makes up some records from their typed rows: there a typed row can stand without a record, and counts
//! as one.
//!
//! Indexes used: `record_pkey`, each typed table's primary key, `duplicate_record_pkey` and its index on
//! `"duplicateOf"`.

use std::borrow::Cow;

use foldhash::{HashMap, HashSet};
use sqlx::{PgConnection, Row as _};

use super::change::{Action, Change, Work};
use super::duplicates;
use super::sql::Statements;
use super::wave::by_collection;
use super::{EngineError, Trust, begin, end};
use crate::schema::RevMode;

/// Tables whose rows may stand without a record in generation B (SCHEMA-VARIANTS §3).
const OFTEN_UNRECORDED: [&str; 4] = ["like", "repost", "follow", "actor_block"];

/// The state of a batch's uris in the database.
#[derive(Debug, Default)]
pub(super) struct Known<'c> {
    records: HashMap<Cow<'c, str>, Stored<'c>>,
    duplicate_keys: HashMap<String, Vec<String>>,
    /// By records that others stand behind, or that stand behind another with others: the duplicate keys of these.
    behind_it: HashMap<String, HashSet<Vec<String>>>,
    taken: HashSet<String>,
    rev: RevMode,
    behind: HashSet<(&'c str, &'c str)>,
}

/// What `record` holds of a uri.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stored<'c> {
    /// Empty for a tombstone.
    pub cid: Cow<'c, str>,
    /// The rev that wrote it, where the database tells.
    pub rev: Option<Cow<'c, str>>,
    /// Whether this is a row of `record`, or a typed row without one.
    recorded: bool,
}

impl<'c> Known<'c> {
    /// What `record` holds of a uri; `None` for one never seen.
    pub(super) fn stored(&self, uri: &str) -> Option<&Stored<'c>> {
        self.records.get(uri)
    }

    /// Whether another record holds the duplicate key of this uri's new row.
    pub(super) fn is_taken(&self, uri: &str) -> bool {
        self.taken.contains(uri)
    }

    /// A wave has stored this.
    pub(super) fn store(&mut self, uri: &'c str, cid: &'c str, rev: &'c str) {
        // Where the database keeps no revs, none decides within a batch, either.
        let rev = (self.rev != RevMode::None).then(|| rev.into());
        self.records.insert(Cow::Borrowed(uri), Stored { cid: cid.into(), rev, recorded: true });
    }

    /// A wave has deleted this.
    pub(super) fn bury(&mut self, uri: &'c str, rev: &'c str) {
        match self.rev {
            RevMode::NotNull => self.store(uri, "", rev),
            RevMode::None | RevMode::Nullable => drop(self.records.remove(uri)),
        }
    }

    /// Backfilled changes that later commits of their repository have overtaken, by uri and rev.
    pub(super) fn set_behind(&mut self, behind: HashSet<(&'c str, &'c str)>) {
        self.behind = behind;
    }

    /// Whether a change has nothing to do, by what is stored: it was applied before (what came of it then stands,
    /// whatever other records did since), it deletes what is not there, or it is known to be late.
    pub(super) fn is_settled(&self, change: &Change) -> bool {
        let stored = self.stored(&change.uri);
        if stored.and_then(|stored| stored.rev.as_deref()).is_some_and(|rev| is_newer(rev, &change.rev)) {
            return true;
        }
        let same_rev = |stored: &Stored<'_>| stored.rev.as_deref() == Some(change.rev.as_str());
        let behind = || self.behind.contains(&(change.uri.as_str(), change.rev.as_str()));
        match (self.rev, change.content()) {
            (RevMode::NotNull, None) => {
                stored.is_some_and(|stored| stored.cid.is_empty() && same_rev(stored))
            }
            (RevMode::Nullable | RevMode::None, None) => stored.is_none() || behind(),
            (RevMode::None, Some(content)) => {
                stored.is_some_and(|stored| stored.cid == content.cid || behind())
            }
            (RevMode::NotNull | RevMode::Nullable, Some(content)) => {
                stored.is_some_and(|stored| stored.cid == content.cid && same_rev(stored))
            }
        }
    }

    /// Whether this very event was applied before, as far as what is stored tells.
    pub(super) fn was_applied(&self, change: &Change) -> bool {
        let Some((stored, content)) = self.stored(&change.uri).zip(change.content()) else { return false };
        let same_event = match self.rev {
            RevMode::None => true,
            RevMode::NotNull | RevMode::Nullable => stored.rev.as_deref() == Some(change.rev.as_str()),
        };
        same_event && stored.cid == content.cid
    }

    /// Whether the uri had a typed row and no record.
    pub(super) fn is_unrecorded(&self, uri: &str) -> bool {
        self.stored(uri).is_some_and(|stored| !stored.recorded)
    }

    /// The duplicate key of the uri's typed row.
    pub(super) fn duplicate_key(&self, uri: &str) -> Option<&[String]> {
        self.duplicate_keys.get(uri).map(Vec::as_slice)
    }

    /// Whether other records stand behind this one as duplicates, or it stands behind another.
    pub(super) fn has_duplicates(&self, uri: &str) -> bool {
        self.behind_it.contains_key(uri)
    }

    /// Whether there are any such records.
    pub(super) fn has_any_duplicates(&self) -> bool {
        !self.behind_it.is_empty()
    }

    /// The duplicate keys of the records that stand behind this one, or with it behind another: one of them moves up when it
    /// goes.
    pub(super) fn keys_behind(&self, uri: &str) -> impl Iterator<Item = &[String]> {
        self.behind_it.get(uri).into_iter().flatten().map(Vec::as_slice)
    }
}

/// Whether a rev is newer than another, and the database's collation says so, too: of TIDs it does. In doubt the guard of
/// `record` decides.
fn is_newer(rev: &str, other: &str) -> bool {
    let is_plain = |rev: &str| rev.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    rev > other && is_plain(rev) && is_plain(other)
}

/// Reads the state of the batch's uris; under [`Trust::Creates`] not of those that the batch creates first.
pub(super) async fn load<'c>(
    connection: &mut PgConnection,
    statements: &Statements,
    changes: &[&'c Change],
    trust: Trust,
) -> Result<Known<'c>, sqlx::Error> {
    let rev = statements.schema().rev();
    let mut known = Known { rev, ..Known::default() };
    let mut mentioned: HashSet<&str> = HashSet::default();
    let mut uris: Vec<&str> = Vec::new();
    for change in changes {
        let is_first = mentioned.insert(&change.uri);
        let is_new = trust == Trust::Creates && matches!(change.action, Action::Create(_));
        if is_first && !is_new {
            uris.push(&change.uri);
        }
    }
    load_stored(connection, statements, changes, &uris, &mut known).await?;
    load_replaced(connection, statements, changes, &mut known).await?;
    Ok(known)
}

/// Of each piece of work, whether it is about a record that has not been stored, nor is any before it about that.
///
/// # Errors
/// Those of the database.
pub(crate) async fn find_new(
    connection: &mut PgConnection,
    statements: &Statements,
    works: &[&Work],
) -> Result<Vec<bool>, EngineError> {
    let changes: Vec<&Change> = works.iter().filter_map(|work| work.change.as_ref()).collect();
    let uris: Vec<&str> = changes.iter().map(|change| change.uri.as_str()).collect();
    let mut known = Known { rev: statements.schema().rev(), ..Known::default() };
    begin(connection, statements).await?;
    let loaded = load_stored(connection, statements, &changes, &uris, &mut known).await;
    end(connection, loaded.map_err(EngineError::from)).await?;
    let mut before: HashSet<&str> = HashSet::default();
    let is_new = |change: &Change| known.stored(&change.uri).is_none();
    Ok(works
        .iter()
        .map(|work| work.change.as_ref().is_some_and(|change| before.insert(&change.uri) && is_new(change)))
        .collect())
}

/// What is stored of these uris, which are those of these changes.
async fn load_stored(
    connection: &mut PgConnection,
    statements: &Statements,
    changes: &[&Change],
    uris: &[&str],
    known: &mut Known<'_>,
) -> Result<(), sqlx::Error> {
    if uris.is_empty() {
        return Ok(());
    }
    load_records(connection, statements, uris, known).await?;
    if known.rev == RevMode::Nullable {
        load_unrecorded(connection, statements, changes, known).await?;
    }
    Ok(())
}

/// Rows of `record`.
async fn load_records(
    connection: &mut PgConnection,
    statements: &Statements,
    uris: &[&str],
    known: &mut Known<'_>,
) -> Result<(), sqlx::Error> {
    let sql = match known.rev {
        RevMode::None => "SELECT uri, cid, NULL::text FROM record WHERE uri = ANY($1)",
        RevMode::NotNull | RevMode::Nullable => "SELECT uri, cid, rev FROM record WHERE uri = ANY($1)",
    };
    for row in statements.query(sql).bind(uris).fetch_all(&mut *connection).await? {
        let rev: Option<String> = row.try_get(2)?;
        let stored =
            Stored { cid: row.try_get::<String, _>(1)?.into(), rev: rev.map(Cow::Owned), recorded: true };
        known.records.insert(row.try_get::<String, _>(0)?.into(), stored);
    }
    Ok(())
}

/// Typed rows without a record.
async fn load_unrecorded(
    connection: &mut PgConnection,
    statements: &Statements,
    changes: &[&Change],
    known: &mut Known<'_>,
) -> Result<(), sqlx::Error> {
    for table in OFTEN_UNRECORDED {
        let of_table =
            changes.iter().filter(|change| change.collection.table.is_some_and(|t| t.name == table));
        let uris: Vec<&str> = of_table
            .map(|change| change.uri.as_str())
            .filter(|uri| !known.records.contains_key(*uri))
            .collect();
        if uris.is_empty() {
            continue;
        }
        let sql = format!("SELECT uri, cid FROM \"{table}\" WHERE uri = ANY($1)");
        for row in statements.query(&sql).bind(&uris).fetch_all(&mut *connection).await? {
            let stored = Stored { cid: row.try_get::<String, _>(1)?.into(), rev: None, recorded: false };
            known.records.insert(row.try_get::<String, _>(0)?.into(), stored);
        }
    }
    Ok(())
}

/// Keys and duplicates of the records that the batch may replace or delete.
async fn load_replaced(
    connection: &mut PgConnection,
    statements: &Statements,
    changes: &[&Change],
    known: &mut Known<'_>,
) -> Result<(), sqlx::Error> {
    let mut by_table: HashMap<&'static str, (&'static crate::collections::Table, Vec<&str>)> =
        HashMap::default();
    let mut replaced: Vec<&str> = Vec::new();
    let mut absent: HashSet<&str> = HashSet::default();
    for change in changes {
        let Some(table) = change.collection.table else { continue };
        let Some(stored) = known.records.get(change.uri.as_str()) else {
            // It may have been there before, and what stood behind it then moves up when it comes and goes again.
            if change.collection.has_key() && !matches!(change.action, Action::Create(_)) {
                absent.insert(&change.uri);
            }
            continue;
        };
        // Such a create may bring back a row that is missing, but its key is the one it has itself.
        let same = matches!(&change.action, Action::Create(content) if content.cid == stored.cid);
        if same || table.duplicate_key.is_empty() {
            continue;
        }
        by_table.entry(table.name).or_insert_with(|| (table, Vec::new())).1.push(&change.uri);
        replaced.push(&change.uri);
    }
    for (table, uris) in by_table.into_values() {
        let rows = statements.query(statements.table(table).select_duplicate_key()).bind(&uris);
        for row in rows.fetch_all(&mut *connection).await? {
            let key = (1..=table.duplicate_key.len()).map(|at| row.try_get(at)).collect::<Result<_, _>>()?;
            known.duplicate_keys.insert(row.try_get(0)?, key);
        }
    }
    // What stands behind another itself moves up, and may go again, when an earlier change of the batch takes that away.
    let without_rows: Vec<&str> =
        replaced.iter().copied().filter(|uri| !known.duplicate_keys.contains_key(*uri)).collect();
    let waiting = duplicates::in_waiting(connection, statements, &without_rows).await?;
    let in_front: Vec<&str> =
        replaced.into_iter().chain(absent).chain(waiting.values().map(String::as_str)).collect();
    // No more of them can move up than the batch has changes.
    let most = changes.len().saturating_add(1);
    known.behind_it = duplicates::keys_behind(connection, statements, &in_front, most).await?;
    for (uri, holder) in &waiting {
        if let Some(keys) = known.behind_it.get(holder).cloned() {
            known.behind_it.entry(uri.clone()).or_default().extend(keys);
        }
    }
    Ok(())
}

/// Which new records have a duplicate key that a row holds already.
pub(super) async fn load_taken_keys(
    connection: &mut PgConnection,
    statements: &Statements,
    changes: &[&Change],
    known: &mut Known<'_>,
) -> Result<(), sqlx::Error> {
    let new = changes.iter().copied().filter(|change| !known.records.contains_key(change.uri.as_str()));
    for (_, group) in by_collection(new, |change| change) {
        let holders = duplicates::holders(connection, statements, &group).await?;
        known.taken.extend(holders.into_keys().map(str::to_owned));
    }
    Ok(())
}
