//! What a collection may declare. The engine reads these; it knows no collection by name.

use crate::lexicon::Edition;

/// Everything the engine needs to know of one collection (INDEXING §4).
#[derive(Debug)]
pub struct Collection {
    /// The NSID, as it stands in `at://did/<nsid>/rkey`.
    pub nsid: &'static str,
    /// Which record keys get a typed row. The `record` row is written for every key.
    pub rkey: RkeyRule,
    /// Whether the reference holds records against their lexicon. All are but one (INDEXING §4); later editions hold all.
    pub validated: bool,
    /// Whether only editions later than the reference have a rule for it (SCHEMA-VARIANTS §5).
    pub later: bool,
    /// A condition on the record beyond its lexicon; a record that fails it is skipped whole.
    pub ownership: Ownership,
    /// The typed table, if the collection has one.
    pub table: Option<&'static Table>,
    /// Whether every row also puts an item into the author's feed (INDEXING §4.2).
    pub feed_item: Option<FeedItem>,
    /// The counters that follow the rows of [`Self::table`].
    pub aggregates: &'static [Aggregate],
    /// What hangs on a record beside its row.
    pub parts: PartsKind,
    /// Whom its rows tell something.
    pub notifies: Notifies,
}

impl Collection {
    /// Whether two of its records can say the same.
    pub fn has_key(&self) -> bool {
        self.table.is_some_and(|table| !table.duplicate_key.is_empty())
    }

    /// Whether two records that say the same are of one author.
    pub fn has_key_of_author(&self) -> bool {
        self.table.is_some_and(|table| {
            let mut key = table.duplicate_key.iter().filter_map(|at| table.columns.get(*at));
            key.any(|column| matches!(column.source, Source::Creator))
        })
    }

    /// Whether an edition has a rule for it.
    pub fn is_in(&self, edition: Edition) -> bool {
        !self.later || edition.is_later()
    }

    /// Whether an edition holds records against their lexicon.
    pub fn is_validated_in(&self, edition: Edition) -> bool {
        self.validated || edition.is_later()
    }
}

/// What hangs on a record beside its row, with rules of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartsKind {
    /// Nothing.
    None,
    /// Embeds, quotes, the flags of replies (INDEXING §4.1).
    Post,
    /// `post."hasThreadGate"` (INDEXING §4.4).
    ThreadGate,
    /// `post."hasPostGate"` (INDEXING §4.4).
    PostGate,
}

/// Which rule of INDEXING §5 makes notifications of a collection's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notifies {
    /// None.
    Nobody,
    /// §5.1
    Post,
    /// §5.2: subject and via, by these reasons.
    Subject {
        /// Reason for the subject's author.
        reason: &'static str,
        /// Reason for the author of the repost that led here.
        via: &'static str,
    },
    /// §5.3
    Follow,
    /// §5.4
    Profile,
    /// §5.5
    Verification,
}

/// Which record keys get a typed row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RkeyRule {
    /// Any key: the reference does not hold the key against the lexicon.
    Any,
    /// Only `self`.
    SelfOnly,
}

/// Conditions that make the reference throw `InvalidRequestError` (PIPELINE §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// Nothing is asked.
    Free,
    /// The at-uri in this field must belong to the record's author.
    SameAuthor(&'static str),
    /// The at-uri in this field must have the record's author and record key.
    SameAuthorAndRkey(&'static str),
}

/// A typed table: its name, its columns, and the columns that make two records say the same thing.
#[derive(Debug)]
pub struct Table {
    /// Unquoted name.
    pub name: &'static str,
    /// Columns in the order of [`super::Row`]; `uri` is always the first. Generated columns are absent.
    pub columns: &'static [Column],
    /// Indexes into [`Self::columns`] of the duplicate key (unique in the table); empty when there is none.
    pub duplicate_key: &'static [usize],
}

/// One column and where its value comes from.
#[derive(Debug)]
pub struct Column {
    /// Unquoted name.
    pub name: &'static str,
    /// Where the value comes from.
    pub source: Source,
    /// The Postgres type that the text is cast to; `None` for a text column.
    pub cast: Option<&'static str>,
    /// Whether it is left out where the database does not have it (SCHEMA-VARIANTS §4).
    pub optional: bool,
}

/// Where a column's value comes from. Every value is text or NULL.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// The record's at-uri.
    Uri,
    /// The record's CID.
    Cid,
    /// The repository's DID.
    Creator,
    /// The record key.
    Rkey,
    /// The event's time, verbatim.
    IndexedAt,
    /// `createdAt`, normalised (INDEXING §3).
    CreatedAt,
    /// `createdAt` as written, or the time of indexing where it is absent (profiles only).
    CreatedAtRaw,
    /// The string at this path, NULL where absent.
    Text(&'static [&'static str]),
    /// The CID of the blob at this key, NULL where absent.
    BlobCid(&'static str),
    /// The value at this key as JSON text, NULL where absent (INDEXING §4.3).
    JsonText(&'static str),
    /// The strings of the array at this key as JSON text, NULL where absent or empty.
    Strings(&'static str),
    /// A flag that the engine decides on when it inserts the row.
    Flag(Flag),
}

/// The flags of a post that depend on other records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// `post."invalidReplyRoot"`
    InvalidReplyRoot,
    /// `post."violatesThreadGate"`
    ViolatesThreadGate,
    /// `post."violatesEmbeddingRules"`
    ViolatesEmbeddingRules,
}

/// A feed item that follows a row (INDEXING §4.2).
#[derive(Debug, Clone, Copy)]
pub struct FeedItem {
    /// Value of `feed_item.type`.
    pub kind: &'static str,
    /// Index of the column that holds the post's uri.
    pub post: usize,
    /// Index of the column that holds the normalised `createdAt`.
    pub created_at: usize,
}

/// A counter: rows of the collection's table per value of one column.
#[derive(Debug, Clone, Copy)]
pub struct Aggregate {
    /// The counter.
    pub counter: Counter,
    /// Index into the table's columns of the value that is counted by; rows without one do not count.
    pub by: usize,
    /// Index of a flag: rows that have it set do not count.
    pub unless: Option<usize>,
}

/// The counters of `post_agg` and `profile_agg` that this engine moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counter {
    /// `post_agg."likeCount"`
    Likes,
    /// `post_agg."repostCount"`
    Reposts,
    /// `post_agg."replyCount"`
    Replies,
    /// `profile_agg."followersCount"`
    Followers,
    /// `profile_agg."followsCount"`
    Follows,
    /// `profile_agg."postsCount"`
    Posts,
}

impl Counter {
    /// Its column, unquoted.
    pub fn column(self) -> &'static str {
        match self {
            Self::Likes => "likeCount",
            Self::Reposts => "repostCount",
            Self::Replies => "replyCount",
            Self::Followers => "followersCount",
            Self::Follows => "followsCount",
            Self::Posts => "postsCount",
        }
    }

    /// The rows it counts for the subject `v.key`, as what follows FROM. A counter that has to be made anew is made from
    /// them; one that exists moves with them.
    pub fn rows(self) -> &'static str {
        match self {
            Self::Likes => r#""like" t WHERE t.subject = v.key"#,
            Self::Reposts => "repost t WHERE t.subject = v.key",
            Self::Replies => r#"post t WHERE t."replyParent" = v.key AND t."violatesThreadGate" IS NOT TRUE"#,
            Self::Followers => r#"follow t WHERE t."subjectDid" = v.key"#,
            Self::Follows => "follow t WHERE t.creator = v.key",
            Self::Posts => "post t WHERE t.creator = v.key",
        }
    }
}
