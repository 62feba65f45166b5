//! One wave: changes that do not depend on each other, a handful of statements for all of them.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::PgConnection;

use super::aggregates::Deltas;
use super::change::{Action, Change, Content};
use super::load::Known;
use super::sql::Statements;
use super::typed::NewRow;
use super::{EngineError, Trust, duplicates, promotion, records, typed};
use crate::collections::Collection;

/// What a batch's transaction carries from wave to wave.
pub(super) struct Batch<'a, 'c> {
    pub connection: &'a mut PgConnection,
    pub statements: &'a Statements,
    pub known: Known<'c>,
    pub deltas: Deltas<'c>,
    pub trust: Trust,
    /// Rows of `record` and the typed tables that were written or deleted.
    pub rows: usize,
}

/// Changes that write the record, sorted by how the stored record stands to them (INDEXING §2.1, §2.2,
/// DECISIONS 12).
#[derive(Default)]
struct Writes<'c> {
    /// Never seen: inserted.
    new: Vec<(&'c Change, &'c Content)>,
    /// Seen with other content, or an update: replaced.
    replacing: Vec<(&'c Change, &'c Content)>,
    /// A create of what is stored already, at another rev.
    same: Vec<(&'c Change, &'c Content)>,
}

impl<'c> Batch<'_, 'c> {
    /// Applies a wave.
    pub(super) async fn apply(&mut self, wave: &[&'c Change]) -> Result<(), EngineError> {
        let deletes: Vec<&'c Change> =
            wave.iter().copied().filter(|change| self.is_new_delete(change)).collect();
        if !deletes.is_empty() {
            self.delete(&deletes).await?;
        }
        let writes = self.sort_writes(wave);
        self.write(writes).await
    }

    /// Whether this is a delete that has not been applied before: a re-delivered one has nothing left to do.
    fn is_new_delete(&self, change: &Change) -> bool {
        let stored = self.known.stored(&change.uri);
        matches!(change.action, Action::Delete)
            && !stored.is_some_and(|stored| stored.cid.is_empty() && stored.rev == change.rev)
    }

    fn sort_writes(&self, wave: &[&'c Change]) -> Writes<'c> {
        let mut writes = Writes::default();
        for change in wave {
            let Some(content) = change.content() else { continue };
            match self.known.stored(&change.uri) {
                None => writes.new.push((change, content)),
                Some(stored) if stored.cid == content.cid && stored.rev == change.rev => {
                    // Delivered again: what came of it then stands, whatever other records did since.
                }
                Some(stored) if stored.cid == content.cid && matches!(change.action, Action::Create(_)) => {
                    writes.same.push((change, content));
                }
                Some(_) => writes.replacing.push((change, content)),
            }
        }
        writes
    }

    async fn write(&mut self, writes: Writes<'c>) -> Result<(), EngineError> {
        let Writes { new, mut replacing, mut same } = writes;
        if !new.is_empty() && self.trust == Trust::Loaded {
            records::insert_unseen(self.connection, self.statements, &new).await?;
        } else if !new.is_empty() {
            let inserted = records::insert_new(self.connection, self.statements, &new).await?;
            if inserted < u64::try_from(new.len()).unwrap_or(u64::MAX) {
                return Err(EngineError::Overtaken);
            }
        }
        if !replacing.is_empty() {
            let replaced = records::replace(self.connection, self.statements, &replacing).await?;
            replacing.retain(|(change, _)| replaced.contains(&change.uri));
        }
        if !same.is_empty() {
            // A record can be stored without its row: a duplicate whose holder went away. The reference inserts the
            // row when such a record is created again, and so does this.
            let touched = records::touch(self.connection, self.statements, &same).await?;
            same.retain(|(change, _)| touched.contains(&change.uri));
        }
        self.rows += new.len() + replacing.len() + same.len();
        for (change, content) in new.iter().chain(&replacing).chain(&same) {
            self.known.store(&change.uri, &content.cid, &change.rev);
        }
        for (collection, group) in by_collection(replacing.iter().copied(), |(change, _)| change) {
            self.make_room(collection, &group).await?;
        }
        let (free, contested): (Vec<_>, Vec<_>) = new
            .into_iter()
            .partition(|(change, _)| self.trust == Trust::Loaded && !self.known.is_taken(&change.uri));
        for (collection, group) in by_collection(free.into_iter(), |(change, _)| change) {
            let rows = rows_of(&group);
            typed::insert_unseen(self.connection, self.statements, collection, &rows, &mut self.deltas)
                .await?;
            self.rows += rows.len();
        }
        let contested = contested.iter().chain(&replacing).chain(&same).copied();
        for (collection, group) in by_collection(contested, |(change, _)| change) {
            self.insert_typed(collection, &group).await?;
        }
        Ok(())
    }

    /// Before a replaced record's new row: what its old key and its old row leave behind (INDEXING §2.2, 3-5).
    async fn make_room(
        &mut self,
        collection: &'static Collection,
        group: &[(&'c Change, &'c Content)],
    ) -> Result<(), EngineError> {
        let changes: Vec<&Change> = group.iter().map(|(change, _)| *change).collect();
        let holders = duplicates::holders(self.connection, self.statements, &changes).await?;
        let mut redirected = Vec::new();
        let mut freed = Vec::new();
        for (change, content) in group {
            match holders.get(change.uri.as_str()) {
                Some(holder) => redirected.push((*change, *content, holder.as_str())),
                None => freed.push(change.uri.as_str()),
            }
        }
        duplicates::redirect(self.connection, self.statements, &redirected).await?;
        duplicates::remove(self.connection, self.statements, &freed).await?;
        let uris: Vec<&str> = changes.iter().map(|change| change.uri.as_str()).collect();
        let deleted =
            typed::delete(self.connection, self.statements, collection, &uris, &mut self.deltas).await?;
        self.rows += deleted.len();
        Ok(())
    }

    /// Inserts rows; those that are refused because another record says the same become its duplicates
    /// (INDEXING §2.1, 3-4; DECISIONS 14).
    async fn insert_typed(
        &mut self,
        collection: &'static Collection,
        group: &[(&'c Change, &'c Content)],
    ) -> Result<(), EngineError> {
        let rows = rows_of(group);
        let inserted =
            typed::insert(self.connection, self.statements, collection, &rows, &mut self.deltas).await?;
        self.rows += inserted.len();
        let refused: Vec<NewRow<'_>> =
            rows.into_iter().filter(|(change, _, _)| !inserted.contains(&change.uri)).collect();
        if refused.is_empty() {
            return Ok(());
        }
        let changes: Vec<&Change> = refused.iter().map(|(change, _, _)| *change).collect();
        let holders: HashMap<&str, String> =
            duplicates::holders(self.connection, self.statements, &changes).await?;
        let noted: Vec<(&Change, &Content, &str)> = refused
            .iter()
            .filter_map(|(change, content, _)| {
                let holder = holders.get(change.uri.as_str())?;
                (*holder != change.uri).then_some((*change, *content, holder.as_str()))
            })
            .collect();
        duplicates::add(self.connection, self.statements, &noted).await?;
        Ok(())
    }

    /// Deletions (INDEXING §2.3).
    async fn delete(&mut self, deletes: &[&'c Change]) -> Result<(), EngineError> {
        let applied: HashSet<String> = records::bury(self.connection, self.statements, deletes).await?;
        let applied: Vec<&'c Change> =
            deletes.iter().copied().filter(|change| applied.contains(&change.uri)).collect();
        let mut uris = Vec::new();
        for change in &applied {
            if self.known.stored(&change.uri).is_some() {
                uris.push(change.uri.as_str());
            }
        }
        self.rows += applied.len();
        // A uri that was never seen has neither duplicates nor a row.
        duplicates::remove(self.connection, self.statements, &uris).await?;
        for (collection, group) in by_collection(applied.iter().copied(), |change| change) {
            let uris: Vec<&str> = group.iter().map(|change| change.uri.as_str()).collect();
            let deleted =
                typed::delete(self.connection, self.statements, collection, &uris, &mut self.deltas).await?;
            self.rows += deleted.len();
            if collection.table.is_some_and(|table| !table.duplicate_key.is_empty()) {
                self.promote(collection, &deleted).await?;
            }
        }
        for change in &applied {
            self.known.store(&change.uri, "", &change.rev);
        }
        Ok(())
    }

    /// The oldest duplicate of a deleted record takes its place (INDEXING §2.3, 5).
    async fn promote(
        &mut self,
        collection: &'static Collection,
        deleted: &HashSet<String>,
    ) -> Result<(), EngineError> {
        let uris: Vec<&str> = deleted.iter().map(String::as_str).collect();
        let candidates = duplicates::oldest_behind(self.connection, self.statements, &uris).await?;
        let promoted: Vec<(Change, Content)> = candidates
            .into_iter()
            .filter_map(|candidate| promotion::as_change(collection, candidate))
            .collect();
        let rows: Vec<NewRow<'_>> = promoted
            .iter()
            .filter_map(|(change, content)| Some((change, content, content.row.as_ref()?)))
            .collect();
        let mut gained = Deltas::default();
        self.rows +=
            typed::insert(self.connection, self.statements, collection, &rows, &mut gained).await?.len();
        self.deltas.absorb(&gained);
        Ok(())
    }
}

/// The typed rows of changes; those that have none are left out.
fn rows_of<'c>(group: &[(&'c Change, &'c Content)]) -> Vec<NewRow<'c>> {
    group.iter().filter_map(|(change, content)| Some((*change, *content, content.row.as_ref()?))).collect()
}

/// Groups changes by collection, in the order of the wave.
pub(super) fn by_collection<'c, T: Copy>(
    items: impl Iterator<Item = T>,
    change_of: impl Fn(T) -> &'c Change,
) -> Vec<(&'static Collection, Vec<T>)> {
    let mut groups: BTreeMap<&str, (&'static Collection, Vec<T>)> = BTreeMap::new();
    for item in items {
        let collection = change_of(item).collection;
        groups.entry(collection.nsid).or_insert_with(|| (collection, Vec::new())).1.push(item);
    }
    groups.into_values().collect()
}
