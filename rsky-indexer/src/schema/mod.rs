//! Which generation of the AppView's schema the database has (SCHEMA-VARIANTS §4).
//!
//! The catalogue is looked at once, when the process starts; what was found is a [`Schema`], and every statement that
//! depends on it asks that. Nothing is ever created or altered (DECISIONS 26).

mod catalogue;
mod compare;
mod expected;
pub mod indexes;

use std::collections::BTreeSet;
use std::fmt;

use rsky_common::postgres::transaction::{self, Preamble, Purpose};
use sqlx::PgConnection;
use thiserror::Error;

use crate::lexicon::Edition;
pub(crate) use expected::WITH_TAKEDOWNS;

/// What of a database decides how it is written. Fixed for the life of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    rev: RevMode,
    /// Optional things that are not there: (table, column), or (table, "") for a whole table.
    missing: BTreeSet<(&'static str, &'static str)>,
    integer_positions: bool,
    notification_trigger: bool,
}

/// Whether `record` has the revision that wrote a row: what guards it, and what a deletion leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RevMode {
    /// `record.rev` is absent: nothing guards a row, a deletion deletes it (generation U).
    None,
    /// `record.rev` is NOT NULL: it guards every row, a deletion leaves a tombstone (generation D).
    #[default]
    NotNull,
    /// `record.rev` may be NULL, which is older than anything: it guards every row, a deletion deletes it
    /// (generation B).
    Nullable,
}

/// The generations of SCHEMA-VARIANTS §1, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// `divy/backfill-exp`, October 2025: the reference.
    D,
    /// Blacksky's fork, August 2026.
    B,
    /// Upstream `main`, August 2026.
    U,
    /// Older than one of these, or altered by hand. It is served all the same.
    Between,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::D => "D",
            Self::B => "B",
            Self::U => "U",
            Self::Between => "between",
        })
    }
}

/// Why a database is not served.
#[derive(Debug, Error)]
pub enum SchemaError {
    /// It is not the AppView's, or of no generation that is known: every difference, as a sentence each.
    #[error("the database does not have the AppView's schema:\n  {}", .0.join("\n  "))]
    Differs(Vec<String>),
    /// It could not be asked.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Looks at the database behind a connection. With a configured schema the tables must be in that one; otherwise
/// each is looked for along the `search_path` of every transaction, as its statements would.
///
/// # Errors
/// See [`SchemaError`].
pub async fn inspect(connection: &mut PgConnection, preamble: &Preamble) -> Result<Schema, SchemaError> {
    transaction::begin(connection, preamble, Purpose::Catalogue).await?;
    let outcome = inspect_in_transaction(connection, preamble.schema()).await;
    transaction::end(connection, outcome).await
}

async fn inspect_in_transaction(
    connection: &mut PgConnection,
    schema: Option<&str>,
) -> Result<Schema, SchemaError> {
    if let Some(schema) = schema
        && !catalogue::is_current_schema(connection, schema).await?
    {
        let difference = format!("DATABASE_SCHEMA: there is no schema \"{schema}\" that may be used");
        return Err(SchemaError::Differs(vec![difference]));
    }
    let catalogue = catalogue::read(connection, schema, &expected::tables()).await?;
    compare::compare(&catalogue).map_err(SchemaError::Differs)
}

impl Schema {
    /// Generation D as its migrations leave it.
    pub fn reference() -> Self {
        let mut missing: BTreeSet<(&str, &str)> = [
            ("follow", "via"),
            ("follow", "viaCid"),
            ("post_embed_gallery_image", ""),
            ("op_thread_reply", ""),
            ("actor", "handleResolveTries"),
            ("label", "sig"),
        ]
        .into();
        missing.extend(WITH_TAKEDOWNS.map(|table| (table, "takedownRef")));
        Self { rev: RevMode::NotNull, missing, integer_positions: false, notification_trigger: false }
    }

    /// What guards a record's row and what its deletion leaves.
    pub fn rev(&self) -> RevMode {
        self.rev
    }

    /// Whether an optional column is there, or a mandatory one (which always is).
    pub fn has_column(&self, table: &str, column: &str) -> bool {
        self.has_table(table) && !self.missing.iter().any(|thing| *thing == (table, column))
    }

    /// Whether a table is there.
    pub fn has_table(&self, table: &str) -> bool {
        !self.missing.iter().any(|thing| *thing == (table, ""))
    }

    /// Whether posts' galleries have a table (`post_embed_gallery_image`).
    pub fn galleries(&self) -> bool {
        self.has_table("post_embed_gallery_image")
    }

    /// Whether posts' videos have a table (`post_embed_video`; absent before January 2025).
    pub fn videos(&self) -> bool {
        self.has_table("post_embed_video")
    }

    /// Whether the replies of a thread's author are kept in `op_thread_reply`.
    pub fn op_thread_replies(&self) -> bool {
        self.has_table("op_thread_reply")
    }

    /// Whether `thread_mute` can be asked who has muted a thread.
    pub fn thread_mutes(&self) -> bool {
        self.has_table("thread_mute")
    }

    /// Whose lexicons its readers have. The tables and columns tell that came with the lexicons' changes: galleries, and
    /// what a follow was made `via`, which only the fork keeps.
    pub fn lexicons(&self) -> Edition {
        match (self.galleries(), self.has_column("follow", "via")) {
            (false, _) => Edition::Reference,
            (true, true) => Edition::Fork,
            (true, false) => Edition::Upstream,
        }
    }

    /// Whether labels have an end (`label.exp`).
    pub fn label_expiry(&self) -> bool {
        self.has_column("label", "exp")
    }

    /// Whether labels keep their signature (`label.sig`, `bytea`).
    pub fn label_signatures(&self) -> bool {
        self.has_column("label", "sig")
    }

    /// Whether failed resolutions of a handle are counted for a scheduler (`actor."handleResolveTries"`).
    pub fn handle_resolve_tries(&self) -> bool {
        self.has_column("actor", "handleResolveTries")
    }

    /// Whether a row of `notification` sets something off: then a backfill must never write one
    /// (CONFORMANCE-TRAPS 110).
    pub fn notification_trigger(&self) -> bool {
        self.notification_trigger
    }

    /// The type that an image's position has in the tables of images; the parameters of statements are text.
    pub fn position_type(&self) -> &'static str {
        if self.integer_positions { "integer" } else { "text" }
    }

    /// The generation whose marks the database has, all of them.
    pub fn generation(&self) -> Generation {
        let complete = self.videos()
            && self.label_expiry()
            && self.has_table("verification")
            && self.has_table("thread_mute")
            && ["like", "repost"].iter().all(|table| self.has_column(table, "via"))
            && self.has_column("starter_pack", "name");
        let newer = (self.galleries(), self.op_thread_replies());
        let forked = (self.has_column("follow", "via"), self.handle_resolve_tries());
        match (self.rev, newer, forked) {
            _ if !complete => Generation::Between,
            (RevMode::NotNull, (false, false), (false, false)) => Generation::D,
            (RevMode::Nullable, (true, true), (true, true)) => Generation::B,
            (RevMode::None, (true, true), (false, false)) => Generation::U,
            _ => Generation::Between,
        }
    }
}

/// For the log: the generation, and what differs from one database to the next.
impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rev = match self.rev {
            RevMode::None => "absent",
            RevMode::NotNull => "NOT NULL",
            RevMode::Nullable => "nullable",
        };
        write!(f, "generation {}, record.rev {rev}, without ", self.generation())?;
        let missing = self.missing.iter().map(|(table, column)| match *column {
            "" => (*table).to_owned(),
            column => format!("{table}.{column}"),
        });
        let missing: Vec<String> = missing.collect();
        f.write_str(if missing.is_empty() { "exception" } else { "" })?;
        f.write_str(&missing.join(", "))?;
        if self.integer_positions {
            f.write_str(", positions of images are numbers")?;
        }
        if self.notification_trigger {
            f.write_str(", a trigger on notification")?;
        }
        Ok(())
    }
}

/// Every table that the indexer reads or writes, where it is there.
pub(crate) fn tables(schema: &Schema) -> Vec<&'static str> {
    expected::tables().into_iter().filter(|table| schema.has_table(table)).collect()
}
