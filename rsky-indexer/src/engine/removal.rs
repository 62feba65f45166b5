//! What goes in a wave: deletions, the rows that a new version displaces, and the duplicates that move up (INDEXING §2.3).

use foldhash::{HashMap, HashSet};

use super::aggregates::Deltas;
use super::change::{Change, Content};
use super::posts::{gates, op_thread, parts};
use super::typed::NewRow;
use super::wave::{Batch, by_collection};
use super::{EngineError, duplicates, notifications, promotion, records, typed};
use crate::collections::{Collection, Flags, Notifies, PartsKind};

impl<'c> Batch<'_, 'c> {
    /// Deletes the rows of records, with what hangs on them; returns the uris of those that had one.
    pub(super) async fn delete_rows(
        &mut self,
        collection: &'static Collection,
        uris: &[&str],
        order: &HashMap<&'c str, usize>,
    ) -> Result<HashSet<String>, EngineError> {
        let marked = match collection.parts {
            PartsKind::ThreadGate | PartsKind::PostGate => {
                gates::marked_by(self.connection, self.statements, collection, uris).await?
            }
            PartsKind::None | PartsKind::Post => Vec::new(),
        };
        if collection.notifies == Notifies::Verification {
            notifications::unverify(self.connection, self.statements, uris).await?;
        }
        if collection.parts == PartsKind::Post {
            op_thread::mark_deleted(self.connection, self.statements, uris).await?;
        }
        let deleted =
            typed::delete(self.connection, self.statements, collection, uris, &mut self.deltas).await?;
        self.rows += deleted.len();
        if collection.parts == PartsKind::Post {
            // What others hung on a post that was never there stays.
            let there = |uri: &&str| self.known.stored(uri).is_some() || deleted.contains(*uri);
            let there: Vec<&str> = uris.iter().copied().filter(there).collect();
            parts::delete(self.connection, self.statements, &there, order, &mut self.deltas).await?;
        }
        gates::unmark(self.connection, self.statements, collection.parts, marked).await?;
        Ok(deleted)
    }

    /// Deletions (INDEXING §2.3).
    pub(super) async fn delete(
        &mut self,
        deletes: &[&'c Change],
        order: &HashMap<&'c str, usize>,
    ) -> Result<(), EngineError> {
        let mut applied: HashSet<String> = records::bury(self.connection, self.statements, deletes).await?;
        let unrecorded = deletes.iter().map(|change| change.uri.as_str());
        let unrecorded: Vec<&str> = unrecorded.filter(|uri| self.known.is_unrecorded(uri)).collect();
        applied.extend(records::absent(self.connection, self.statements, &unrecorded).await?);
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
        // Also of those that were not there when the batch was loaded: another process may have written them since.
        let mut emptied: Vec<(&'static Collection, HashSet<String>)> = Vec::new();
        for (collection, group) in by_collection(applied.iter().copied(), |change| change) {
            let uris: Vec<&str> = group.iter().map(|change| change.uri.as_str()).collect();
            emptied.push((collection, self.delete_rows(collection, &uris, order).await?));
        }
        let replaced = self.promote(&emptied).await?;
        let is_told =
            |notifies| matches!(notifies, Notifies::Post | Notifies::Subject { .. } | Notifies::Follow);
        let silenced: Vec<&str> = emptied
            .iter()
            .filter(|(collection, _)| is_told(collection.notifies))
            .flat_map(|(_, deleted)| deleted.iter().map(String::as_str))
            .filter(|uri| !replaced.contains(*uri))
            .collect();
        notifications::take_back(self.connection, self.statements, &silenced).await?;
        for change in &applied {
            self.known.bury(&change.uri, &change.rev);
        }
        Ok(())
    }

    /// The oldest duplicates of deleted records take their places (INDEXING §2.3, 5). Returns the uris whose place is
    /// taken.
    async fn promote(
        &mut self,
        emptied: &[(&'static Collection, HashSet<String>)],
    ) -> Result<HashSet<String>, EngineError> {
        let emptied = || emptied.iter().filter(|(collection, _)| collection.has_key());
        let uris: Vec<&str> = emptied().flat_map(|(_, deleted)| deleted).map(String::as_str).collect();
        let candidates = duplicates::oldest_behind(self.connection, self.statements, &uris).await?;
        let mut replaced = HashSet::default();
        let mut promoted: Vec<(Change, Content)> = Vec::new();
        for candidate in candidates {
            let stands_behind = candidate.stands_behind.clone();
            let of = emptied().find(|(_, deleted)| deleted.contains(&stands_behind));
            if let Some((collection, _)) = of
                && let Some(change) = promotion::as_change(collection, candidate)
            {
                replaced.insert(stands_behind);
                promoted.push(change);
            }
        }
        for (collection, group) in by_collection(promoted.iter(), |(change, _)| change) {
            let rows: Vec<NewRow<'_>> = group
                .iter()
                .filter_map(|(change, content)| {
                    Some(NewRow { change, content, row: content.row.as_ref()?, flags: Flags::default() })
                })
                .collect();
            let mut gained = Deltas::default();
            self.rows +=
                typed::insert(self.connection, self.statements, collection, &rows, &mut gained).await?.len();
            self.deltas.absorb(&gained);
        }
        Ok(replaced)
    }
}
