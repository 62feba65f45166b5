//! `notification`: who is told of what (INDEXING §5, DECISIONS 20).
//!
//! `words.rs` decides what is said of a wave's records, without the database; `table.rs` writes it, and takes back what
//! holds no more.

mod table;
mod words;

pub(super) use table::{say, take_back, unverify};
pub(super) use words::{TakenBack, Word, may_notify, words, words_of_quote, words_of_reply};

/// When creates notify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Notifications {
    /// As the reference's stream indexer: updates and deletes touch the table, creates never do.
    #[default]
    Reference,
    /// Creates of the live stream notify, too; a backfill never does.
    Live,
    /// The table is left alone.
    Off,
}
