//! Everything that stands in the tables of some items, at about one moment.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rsky_common::postgres::transaction::{self, Purpose};
use sqlx::PgConnection;

use super::expected::{Beside, Cells, Place, own_place};
use super::item::{Expected, Item};
use super::tables::{self, Recorded, Standing};
use crate::collections::{Collection, PartsKind};
use crate::engine::{Change, EngineError, Statements, holders, in_waiting};
use crate::labels::LabelRow;

/// An item to be held against the tables.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) item: Arc<Item>,
    /// Whether something about the same may have been written that was not seen: entries were missed since, or others are
    /// ahead.
    pub(super) blind: bool,
    /// Whether its account was deleted meanwhile.
    pub(super) gone: bool,
}

impl Asked {
    pub(super) fn change(&self) -> Option<&Change> {
        match &self.item.expected {
            Expected::Record(work) => work.change.as_ref(),
            _ => None,
        }
    }

    fn label(&self) -> Option<&LabelRow> {
        if let Expected::Label(label) = &self.item.expected { Some(label) } else { None }
    }

    /// The uri of a record, and about as many bytes as its JSON has.
    fn record(&self) -> Option<(&str, usize)> {
        match &self.item.expected {
            Expected::Refused { uri, .. } => Some((uri, 0)),
            _ => self.change().map(|change| (change.uri.as_str(), size(change))),
        }
    }
}

fn size(change: &Change) -> usize {
    change.content().map_or(0, |content| content.json.len())
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Stands {
    pub(super) records: HashMap<String, Recorded>,
    /// By table: the collections' own rows.
    pub(super) own: HashMap<&'static str, HashMap<String, Vec<Cells>>>,
    /// In the order of the tables beside them.
    pub(super) beside: Vec<HashMap<String, Vec<Cells>>>,
    /// Records that stand behind others as duplicates.
    pub(super) waiting: HashMap<String, String>,
    /// Records without their own row, with whoever says the same.
    pub(super) holders: HashMap<String, String>,
    /// Posts that rows which are missing are about, with the times at which they were indexed.
    pub(super) subjects: HashMap<String, String>,
    pub(super) hidden: HashSet<String>,
    pub(super) commits: HashMap<String, (String, Option<String>)>,
    pub(super) statuses: HashMap<String, Option<String>>,
    /// By the place of the item.
    pub(super) labels: HashMap<usize, Standing>,
}

/// Looks at the tables, in one transaction that only reads.
///
/// # Errors
/// The database's.
pub(super) async fn look(
    connection: &mut PgConnection,
    statements: &Statements,
    besides: &[Beside],
    asked: &[Asked],
) -> Result<Stands, EngineError> {
    transaction::begin(connection, statements.preamble(), Purpose::Reading).await?;
    let stands = read(connection, statements, besides, asked).await;
    Ok(transaction::end(connection, stands).await?)
}

async fn read(
    connection: &mut PgConnection,
    statements: &Statements,
    besides: &[Beside],
    asked: &[Asked],
) -> Result<Stands, sqlx::Error> {
    let mut stands = Stands::default();
    let records: Vec<(&str, usize)> = asked.iter().filter_map(Asked::record).collect();
    if !records.is_empty() {
        stands.records = tables::records(connection, statements.schema(), &records).await?;
    }
    let dids: HashSet<&str> = asked.iter().filter_map(|asked| asked.item.did()).collect();
    if !dids.is_empty() {
        stands.commits = tables::commits(connection, &dids.into_iter().collect::<Vec<_>>()).await?;
    }
    let changes: Vec<&Change> = asked.iter().filter_map(Asked::change).collect();
    if !changes.is_empty() {
        stands.of_changes(connection, statements, besides, &changes).await?;
    }
    let status = |asked: &'_ Asked| match &asked.item.expected {
        Expected::Status { did, .. } => Some(did.clone()),
        _ => None,
    };
    let hosted: Vec<String> = asked.iter().filter_map(status).collect();
    if !hosted.is_empty() {
        let hosted: Vec<&str> = hosted.iter().map(String::as_str).collect();
        stands.statuses = tables::statuses(connection, &hosted).await?;
    }
    let labels: Vec<(usize, &LabelRow)> =
        asked.iter().enumerate().filter_map(|(at, asked)| Some((at, asked.label()?))).collect();
    if !labels.is_empty() {
        let rows: Vec<&LabelRow> = labels.iter().map(|(_, label)| *label).collect();
        let mut found = tables::labels(connection, statements.schema(), &rows).await?;
        let places = labels.iter().enumerate();
        stands.labels = places.filter_map(|(at, (place, _))| Some((*place, found.remove(&at)?))).collect();
    }
    Ok(stands)
}

impl Stands {
    async fn of_changes(
        &mut self,
        connection: &mut PgConnection,
        statements: &Statements,
        besides: &[Beside],
        changes: &[&Change],
    ) -> Result<(), sqlx::Error> {
        let uris: Vec<&str> = changes.iter().map(|change| change.uri.as_str()).collect();
        self.waiting = in_waiting(connection, statements, &uris).await?.into_iter().collect();
        for collection in crate::collections::ALL.iter().copied() {
            let own: Vec<&Change> = changes
                .iter()
                .copied()
                .filter(|change| std::ptr::eq(change.collection, collection))
                .collect();
            if let Some(place) = own_place(collection, statements).filter(|_| !own.is_empty()) {
                self.own_rows(connection, statements, &place, &own).await?;
            }
        }
        for beside in besides {
            let has = changes.iter().copied().filter(|change| (beside.has)(change.collection));
            let found = read_place(connection, &beside.place, has).await?;
            self.beside.push(found);
        }
        let replies: Vec<&str> = changes
            .iter()
            .filter(|change| change.collection.parts == PartsKind::Post && change.content().is_some())
            .map(|change| change.uri.as_str())
            .collect();
        if !replies.is_empty() {
            self.hidden = tables::hidden(connection, &replies).await?;
        }
        let missing = self.subjects_of_missing(besides, changes);
        if !missing.is_empty() {
            let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
            self.subjects = tables::standing(connection, &missing).await?;
        }
        Ok(())
    }

    async fn own_rows(
        &mut self,
        connection: &mut PgConnection,
        statements: &Statements,
        place: &Place,
        changes: &[&Change],
    ) -> Result<(), sqlx::Error> {
        let found = read_place(connection, place, changes.iter().copied()).await?;
        let without: Vec<&Change> =
            changes.iter().copied().filter(|change| !found.contains_key(&change.uri)).collect();
        for (uri, holder) in holders(connection, statements, &without).await? {
            self.holders.insert(uri.to_owned(), holder);
        }
        self.own.insert(place.table, found);
        Ok(())
    }

    /// The posts whose going may have taken rows with it that are missing.
    fn subjects_of_missing(&self, besides: &[Beside], changes: &[&Change]) -> HashSet<String> {
        let mut subjects = HashSet::new();
        for (beside, found) in besides.iter().zip(&self.beside) {
            let Some(subject) = beside.goes_with else { continue };
            for change in changes.iter().filter(|change| !found.contains_key(&change.uri)) {
                let Some(content) = change.content().filter(|_| (beside.has)(change.collection)) else {
                    continue;
                };
                let rows = (beside.rows)(change, content);
                subjects.extend(rows.into_iter().filter_map(|cells| cells.into_iter().nth(subject)?));
            }
        }
        subjects
    }

    /// A collection's own row of a record.
    pub(super) fn own_row(&self, collection: &Collection, uri: &str) -> Option<&Cells> {
        self.own.get(collection.table?.name)?.get(uri)?.first()
    }
}

async fn read_place<'c>(
    connection: &mut PgConnection,
    place: &Place,
    changes: impl Iterator<Item = &'c Change>,
) -> Result<HashMap<String, Vec<Cells>>, sqlx::Error> {
    let wanted: Vec<(&str, usize)> =
        changes.map(|change| (change.uri.as_str(), size(change).saturating_add(change.uri.len()))).collect();
    if wanted.is_empty() { Ok(HashMap::new()) } else { tables::rows(connection, place, &wanted).await }
}
