//! One wave: changes that do not depend on each other, a handful of statements for all of them. In this order:
//!
//! 1. deletions (`removal.rs`): the record, its duplicates, its typed rows with what hangs on them; the oldest duplicate of
//!    each moves up, what was told of it is taken back;
//! 2. writes are sorted: new, replacing what is stored, the same once more ([`Writes`]);
//! 3. posts are judged in batch order (`posts/judge.rs`), what is to be said of them is noted;
//! 4. `record`: new rows, replaced ones, those whose rev moves on;
//! 5. room is made for what replaces: its old key, its old rows;
//! 6. typed rows, by collection (a post before its gates): those whose key is free, then those that may become duplicates;
//!    after each collection what hangs on it (parts of posts, marks of gates);
//! 7. earlier posts get the flags that they are found to deserve;
//! 8. notifications are written and taken back, in batch order.

use foldhash::{HashMap, HashSet};
use sqlx::{PgConnection, Row as _};

use super::aggregates::Deltas;
use super::change::{Action, Change, Content};
use super::load::{Known, Stored};
use super::notifications::{self, may_notify};
use super::posts::judge::{Rules, Verdicts, judge};
use super::posts::refs::Threads;
use super::posts::second_look::Unseen;
use super::posts::{earlier, gates, parts};
use super::sql::Statements;
use super::takedowns::{self, Takedowns};
use super::typed::NewRow;
use super::{EngineError, Trust, duplicates, records, typed};
use crate::collections::{Collection, Notifies, PartsKind};
use crate::text::sort_key::sort_by_text;

/// What a batch's transaction carries from wave to wave.
pub(super) struct Batch<'a, 'c> {
    pub connection: &'a mut PgConnection,
    pub statements: &'a Statements,
    pub known: Known<'c>,
    pub deltas: Deltas<'c>,
    pub trust: Trust,
    /// The threads of its posts.
    pub threads: Threads<'c>,
    /// Whether it has one change only.
    pub alone: bool,
    /// What is to be looked at once more after the commit.
    pub unseen: Unseen<'c>,
    /// Records that more than one change of the batch is about.
    pub repeated: HashSet<&'c str>,
    /// Rows of `record` and the typed tables that were written or deleted.
    pub rows: usize,
}

/// A wave, and what has come of it so far.
struct Wave<'c> {
    /// Its writing changes in batch order.
    writes: Vec<&'c Change>,
    /// The place of each post's change in the batch.
    order: HashMap<&'c str, usize>,
    verdicts: Verdicts<'c>,
    /// Records that had a row and lost it to a new version.
    replaced: HashSet<String>,
    /// Records that got a row, where somebody is to be told of it.
    told: HashSet<&'c str>,
    /// Whether anybody is to be told of anything.
    tells: bool,
    takedowns: Takedowns,
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
    /// Applies a wave: places in the batch and changes, in batch order.
    pub(super) async fn apply(&mut self, ordered: &[(usize, &'c Change)]) -> Result<(), EngineError> {
        let posts = ordered.iter().filter(|(_, change)| change.collection.parts == PartsKind::Post);
        let order: HashMap<&str, usize> = posts.map(|(at, change)| (change.uri.as_str(), *at)).collect();
        // Every process locks rows in one order.
        let places = ordered.iter().enumerate().map(|(place, (_, change))| (place, *change));
        let sorted: Vec<(usize, &'c Change)> = sort_by_text(places, |(_, change)| change.uri.as_str());
        let deletes = sorted.iter().map(|(_, change)| *change);
        let deletes: Vec<&'c Change> = deletes.filter(|change| self.is_new_delete(change)).collect();
        if !deletes.is_empty() {
            self.delete(&deletes, &order).await?;
        }
        let (mut writes, writes_at) = self.sort_writes(&sorted);
        let whole = self.leave_out_whole_posts(&mut writes.same).await?;
        let writing: Vec<&'c Change> = ordered
            .iter()
            .zip(writes_at)
            .filter_map(|((_, change), writes)| writes.then_some(*change))
            .filter(|change| !whole.contains(change.uri.as_str()))
            .collect();
        let mode = self.statements.notifications();
        let is_gone = |stored: &Stored<'_>| stored.cid.is_empty();
        let rules = Rules {
            tells: |change: &Change| may_notify(mode, change, &self.known),
            is_new: |change: &Change| self.known.stored(&change.uri).is_none_or(is_gone),
            threads: &self.threads,
            alone: self.alone,
        };
        let verdicts = judge(self.connection, self.statements, &writing, rules).await?;
        self.unseen.judged(&verdicts);
        let wave = Wave {
            writes: writing,
            order,
            verdicts,
            replaced: HashSet::default(),
            told: HashSet::default(),
            tells: false,
            takedowns: Takedowns::default(),
        };
        self.write(writes, wave).await
    }

    /// A post that is stored already and has its row needs nothing but its rev moved on. Returns those.
    async fn leave_out_whole_posts(
        &mut self,
        same: &mut Vec<(&'c Change, &'c Content)>,
    ) -> Result<HashSet<&'c str>, EngineError> {
        let posts: Vec<(&Change, &Content)> =
            same.iter().copied().filter(|(change, _)| change.collection.parts == PartsKind::Post).collect();
        if posts.is_empty() {
            return Ok(HashSet::default());
        }
        let touched = posts_with_rows(self.connection, self.statements, &posts).await?;
        let (whole, rest): (Vec<_>, Vec<_>) =
            std::mem::take(same).into_iter().partition(|(change, _)| touched.contains(&change.uri));
        *same = rest;
        let moved = records::touch(self.connection, self.statements, &whole).await?;
        self.rows += moved.len();
        for (change, content) in whole.iter().filter(|(change, _)| moved.contains(&change.uri)) {
            self.store(change, content);
        }
        Ok(whole.into_iter().map(|(change, _)| change.uri.as_str()).collect())
    }

    /// A change is done, as far as later ones have to know.
    fn store(&mut self, change: &'c Change, content: &'c Content) {
        if self.repeated.contains(change.uri.as_str()) {
            self.known.store(&change.uri, &content.cid, &change.rev);
        }
    }

    /// Whether this is a delete that has something left to do.
    fn is_new_delete(&self, change: &Change) -> bool {
        matches!(change.action, Action::Delete) && !self.known.is_settled(change)
    }

    /// Sorts changes, each with its place in the wave; returns also of each place whether its change writes.
    fn sort_writes(&self, wave: &[(usize, &'c Change)]) -> (Writes<'c>, Vec<bool>) {
        let mut writes = Writes::default();
        let mut writes_at = vec![false; wave.len()];
        for (place, change) in wave {
            let Some(content) = change.content() else { continue };
            if let Some(writes) = writes_at.get_mut(*place) {
                *writes = true;
            }
            match self.known.stored(&change.uri) {
                None => writes.new.push((change, content)),
                Some(_) if self.known.is_settled(change) => {
                    if let Some(writes) = writes_at.get_mut(*place) {
                        *writes = false;
                    }
                }
                Some(stored) if stored.cid == content.cid && matches!(change.action, Action::Create(_)) => {
                    writes.same.push((change, content));
                }
                Some(_) => writes.replacing.push((change, content)),
            }
        }
        (writes, writes_at)
    }

    async fn write(&mut self, writes: Writes<'c>, mut wave: Wave<'c>) -> Result<(), EngineError> {
        let mode = self.statements.notifications();
        let mut words = notifications::words(mode, &wave.writes, &self.known, &wave.verdicts);
        wave.tells = words.iter().any(|word| word.owner().is_some());
        let Writes { new, mut replacing, mut same } = writes;
        if !new.is_empty() && self.trust != Trust::Nothing {
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
            self.store(change, content);
        }
        self.make_room(&replacing, &mut wave).await?;
        let (free, contested): (Vec<_>, Vec<_>) = new
            .into_iter()
            .partition(|(change, _)| self.trust != Trust::Nothing && !self.known.is_taken(&change.uri));
        for (collection, group) in by_collection(free.into_iter(), |(change, _)| change) {
            let rows = rows_of(&group, &wave.verdicts);
            typed::insert_unseen(self.connection, self.statements, collection, &rows, &mut self.deltas)
                .await?;
            self.rows += rows.len();
            self.follow_up(collection, &group, &rows, &mut wave).await?;
        }
        let contested = contested.iter().chain(&replacing).chain(&same).copied();
        for (collection, group) in by_collection(contested, |(change, _)| change) {
            let inserted = self.insert_typed(collection, &group, &wave.verdicts).await?;
            let mut rows = rows_of(&group, &wave.verdicts);
            rows.retain(|row| inserted.contains(&row.change.uri));
            let uris: Vec<&str> = rows.iter().map(|row| row.change.uri.as_str()).collect();
            takedowns::restore(self.connection, self.statements, collection, &wave.takedowns, &uris).await?;
            self.follow_up(collection, &group, &rows, &mut wave).await?;
        }
        words.retain(|word| {
            let Some(owner) = word.owner() else { return true };
            let uri = owner.uri.as_str();
            let corrects = owner.collection.notifies != Notifies::Post && wave.replaced.contains(uri);
            wave.told.contains(uri) && !corrects
        });
        let changed = wave.verdicts.changed();
        self.rows += earlier::write(self.connection, self.statements, &changed, &mut self.deltas).await?;
        self.rows += notifications::say(self.connection, self.statements, &words).await?;
        Ok(())
    }

    /// What follows when records of a collection have come and some of them (`rows`) have got a row. Collections come
    /// in the order of their names: a post before its gates.
    async fn follow_up(
        &mut self,
        collection: &'static Collection,
        group: &[(&'c Change, &'c Content)],
        rows: &[NewRow<'c>],
        wave: &mut Wave<'c>,
    ) -> Result<(), EngineError> {
        if wave.tells && collection.notifies != Notifies::Nobody {
            wave.told.extend(rows.iter().map(|row| row.change.uri.as_str()));
        }
        match collection.parts {
            PartsKind::None => {}
            PartsKind::ThreadGate | PartsKind::PostGate => {
                gates::mark(self.connection, self.statements, collection.parts, group, &wave.verdicts)
                    .await?;
            }
            PartsKind::Post => {
                let posts: Vec<parts::NewPost<'_>> =
                    rows.iter().map(|row| (row.change, row.content)).collect();
                self.rows +=
                    parts::insert(self.connection, self.statements, &posts, &wave.order, &mut self.deltas)
                        .await?;
            }
        }
        Ok(())
    }

    /// Before the new rows of replaced records: what their old keys and their old rows leave behind (INDEXING §2.2, 3-5).
    async fn make_room(
        &mut self,
        replacing: &[(&'c Change, &'c Content)],
        wave: &mut Wave<'c>,
    ) -> Result<(), EngineError> {
        let groups = by_collection(replacing.iter().copied(), |(change, _)| change);
        let mut redirected = Vec::new();
        let mut freed = Vec::new();
        for (_, group) in &groups {
            let changes: Vec<&Change> = group.iter().map(|(change, _)| *change).collect();
            let holders = duplicates::holders(self.connection, self.statements, &changes).await?;
            for (change, content) in group {
                match holders.get(change.uri.as_str()) {
                    Some(holder) => redirected.push((*change, *content, holder.clone())),
                    None => freed.push(change.uri.as_str()),
                }
            }
        }
        duplicates::redirect(self.connection, self.statements, &redirected).await?;
        duplicates::remove(self.connection, self.statements, &freed).await?;
        for (collection, group) in groups {
            let uris: Vec<&str> = group.iter().map(|(change, _)| change.uri.as_str()).collect();
            let takedowns = takedowns::load(self.connection, self.statements, collection, &uris).await?;
            wave.takedowns.extend(takedowns);
            let deleted = self.delete_rows(collection, &uris, &wave.order).await?;
            if collection.notifies == Notifies::Post {
                let gone: Vec<&str> = deleted.iter().map(String::as_str).collect();
                notifications::take_back(self.connection, self.statements, &gone).await?;
            }
            wave.replaced.extend(deleted);
        }
        Ok(())
    }

    /// Inserts rows; those that are refused because another record says the same become its duplicates
    /// (INDEXING §2.1, 3-4; DECISIONS 14).
    async fn insert_typed(
        &mut self,
        collection: &'static Collection,
        group: &[(&'c Change, &'c Content)],
        verdicts: &Verdicts<'c>,
    ) -> Result<HashSet<String>, EngineError> {
        let rows = rows_of(group, verdicts);
        let inserted =
            typed::insert(self.connection, self.statements, collection, &rows, &mut self.deltas).await?;
        self.rows += inserted.len();
        let refused: Vec<NewRow<'_>> =
            rows.into_iter().filter(|row| !inserted.contains(&row.change.uri)).collect();
        if refused.is_empty() {
            return Ok(inserted);
        }
        let changes: Vec<&Change> = refused.iter().map(|row| row.change).collect();
        let holders: HashMap<&str, String> =
            duplicates::holders(self.connection, self.statements, &changes).await?;
        let unheld: Vec<&str> = changes
            .iter()
            .map(|change| change.uri.as_str())
            .filter(|uri| !holders.contains_key(uri))
            .collect();
        if collection.has_key()
            && !typed::all_there(self.connection, self.statements, collection, &unheld).await?
        {
            // Whoever had the key has gone since: the row is free to be taken.
            return Err(EngineError::Overtaken);
        }
        let noted: Vec<(&Change, &Content, String)> = refused
            .iter()
            .filter_map(|NewRow { change, content, .. }| {
                let holder = holders.get(change.uri.as_str())?;
                (*holder != change.uri).then(|| (*change, *content, holder.clone()))
            })
            .collect();
        duplicates::add(self.connection, self.statements, &noted).await?;
        Ok(inserted)
    }
}

/// The typed rows of changes; those that have none are left out.
fn rows_of<'c>(group: &[(&'c Change, &'c Content)], verdicts: &Verdicts<'_>) -> Vec<NewRow<'c>> {
    let row = |(change, content): &(&'c Change, &'c Content)| {
        let flags = verdicts.flags(&change.uri);
        Some(NewRow { change, content, row: content.row.as_ref()?, flags })
    };
    group.iter().filter_map(row).collect()
}

/// Which of these posts have a row.
async fn posts_with_rows(
    connection: &mut PgConnection,
    statements: &Statements,
    posts: &[(&Change, &Content)],
) -> Result<HashSet<String>, sqlx::Error> {
    let uris: Vec<&str> = posts.iter().map(|(change, _)| change.uri.as_str()).collect();
    let sql = "SELECT uri FROM post WHERE uri = ANY($1)";
    statements.query(sql).bind(uris).fetch_all(connection).await?.iter().map(|row| row.try_get(0)).collect()
}

/// Groups changes by collection, in the order of the wave.
pub(super) fn by_collection<'c, T: Copy>(
    items: impl Iterator<Item = T>,
    change_of: impl Fn(T) -> &'c Change,
) -> Vec<(&'static Collection, Vec<T>)> {
    // There are a dozen.
    let mut groups: Vec<(&'static Collection, Vec<T>)> = Vec::new();
    for item in items {
        let collection = change_of(item).collection;
        match groups.iter_mut().find(|(of, _)| std::ptr::eq(*of, collection)) {
            Some((_, group)) => group.push(item),
            None => groups.push((collection, vec![item])),
        }
    }
    groups.sort_by_key(|(collection, _)| collection.nsid);
    groups
}
