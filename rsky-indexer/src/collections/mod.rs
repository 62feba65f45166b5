//! The collections as data: which table, which columns from which field, which duplicate key, which counters.
//!
//! A new collection is one more declaration in [`actor`], [`feed`] or [`graph`] and one line in [`ALL`].

pub mod declaration;
pub mod parts;

mod actor;
mod feed;
mod graph;

mod row;

pub use actor::JOINED_VIA;
pub use declaration::{
    Aggregate, Collection, Counter, FeedItem, Flag, Notifies, Ownership, PartsKind, RkeyRule, Source, Table,
};
pub use feed::{GATED_POST, post_columns, subject_columns};
pub use graph::{follow_columns, verification_columns};
pub use parts::Parts;
pub use row::{Flags, RecordContext, Row, build_row, check_ownership};

use declaration::Column;

/// Every collection the indexer has a rule for.
pub static ALL: &[&Collection] = &[
    &feed::LIKE,
    &feed::REPOST,
    &feed::GENERATOR,
    &feed::POST,
    &feed::THREAD_GATE,
    &feed::POST_GATE,
    &graph::FOLLOW,
    &graph::BLOCK,
    &graph::LIST,
    &graph::LIST_ITEM,
    &graph::LIST_BLOCK,
    &graph::STARTER_PACK,
    &graph::VERIFICATION,
    &actor::PROFILE,
    &actor::STATUS,
    &actor::LABELER,
    &actor::NOTIFICATION_DECLARATION,
    &actor::CHAT_DECLARATION,
    &actor::GERM_DECLARATION,
];

/// The declaration of a collection, by exact NSID.
pub fn declaration_of(nsid: &str) -> Option<&'static Collection> {
    ALL.iter().copied().find(|collection| collection.nsid == nsid)
}

const fn column(name: &'static str, source: Source) -> Column {
    Column { name, source, cast: None, optional: false }
}

/// A column that some generations of the schema do not have.
const fn optional_column(name: &'static str, source: Source) -> Column {
    Column { name, source, cast: None, optional: true }
}

/// The place of a column among those of its table. One that is not there is an error of the compiler's.
#[expect(clippy::panic, reason = "when this is compiled, not when it runs")]
const fn place(columns: &[Column], name: &str) -> usize {
    let (mut rest, mut at) = (columns, 0);
    while let [column, others @ ..] = rest {
        if is_same(column.name, name) {
            return at;
        }
        (rest, at) = (others, at + 1);
    }
    panic!("the table has no such column")
}

const fn is_same(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.as_bytes(), other.as_bytes());
    while let ([a, one_rest @ ..], [b, other_rest @ ..]) = (one, other) {
        if *a != *b {
            return false;
        }
        (one, other) = (one_rest, other_rest);
    }
    one.is_empty() && other.is_empty()
}

const URI: Column = column("uri", Source::Uri);
const CID: Column = column("cid", Source::Cid);
const CREATOR: Column = column("creator", Source::Creator);
const CREATED_AT: Column = column("createdAt", Source::CreatedAt);
const INDEXED_AT: Column = column("indexedAt", Source::IndexedAt);

/// A counter of all rows by the value of one column.
const fn counted(counter: Counter, by: usize) -> Aggregate {
    Aggregate { counter, by, unless: None }
}

/// A collection of which only the `record` row is kept.
const fn record_only(nsid: &'static str, rkey: RkeyRule) -> Collection {
    Collection {
        nsid,
        rkey,
        validated: true,
        later: false,
        ownership: Ownership::Free,
        table: None,
        feed_item: None,
        aggregates: &[],
        parts: PartsKind::None,
        notifies: Notifies::Nobody,
    }
}

/// A collection with a typed table and nothing else.
const fn with_table(nsid: &'static str, rkey: RkeyRule, table: &'static Table) -> Collection {
    let mut collection = record_only(nsid, rkey);
    collection.table = Some(table);
    collection
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_table_of_collections_obeys_its_own_laws() {
        let mut nsids = HashSet::new();
        let mut tables = HashSet::new();
        for collection in ALL {
            assert!(nsids.insert(collection.nsid), "{} stands twice", collection.nsid);
            assert!(std::ptr::eq(declaration_of(collection.nsid).unwrap(), *collection));
            let Some(table) = collection.table else {
                assert!(collection.aggregates.is_empty() && collection.feed_item.is_none());
                continue;
            };
            assert!(tables.insert(table.name), "{} is filled by two collections", table.name);
            assert!(matches!(table.columns[0].source, Source::Uri), "{}: uri comes first", table.name);
            let names: HashSet<_> = table.columns.iter().map(|c| c.name).collect();
            assert_eq!(names.len(), table.columns.len(), "{} names a column twice", table.name);
            for index in table.duplicate_key.iter().chain(collection.aggregates.iter().map(|a| &a.by)) {
                assert!(!table.columns[*index].optional);
            }
        }
    }
}
