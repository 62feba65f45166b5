//! What the facts mean, in a sentence, and the command that mends it.

mod account;
mod record;
mod way;

use serde::Serialize;
use serde_json::Value;

use super::facts::{Asked, Facts, Searched};

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// Everything is where it should be.
    InOrder,
    /// It is on its way.
    Waits,
    /// It is not where it should be, and will not come by itself.
    Amiss,
    /// That could not be found out.
    Unknown,
}

/// The verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    pub(super) state: State,
    /// A sentence or two.
    pub(super) says: String,
    /// What mends it, or tells more.
    pub(super) command: Option<String>,
}

fn verdict(state: State, says: impl Into<String>) -> Verdict {
    Verdict { state, says: says.into(), command: None }
}

impl Verdict {
    fn by(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }
}

/// Judges.
pub(super) fn judge(facts: &Facts) -> Verdict {
    let tables = match &facts.tables {
        Asked::Known(tables) => tables,
        Asked::Unknown { error } => {
            let says = format!("The tables cannot be read, so nothing can be said: {error}");
            return verdict(State::Unknown, says).by("indexer doctor");
        }
    };
    let judged = match (&facts.path, &tables.record) {
        (Some(path), Some(rows)) => record::judge(facts, tables, path, rows),
        _ => account::judge(facts, tables),
    };
    with_gaps(judged, &facts.streams)
}

/// Says what was not looked at, where that could change the verdict.
fn with_gaps(mut judged: Verdict, streams: &[Searched]) -> Verdict {
    if !matches!(judged.state, State::Amiss | State::Unknown) {
        return judged;
    }
    if let Some(searched) = streams.iter().find(|searched| searched.error.is_some()) {
        let why = searched.error.as_deref().unwrap_or_default();
        judged.says.push_str(&format!(" What waits in {} is not known: {why}.", searched.stream));
    }
    if let Some(searched) = streams.iter().find(|searched| searched.more) {
        let Searched { stream, seen, length, .. } = searched;
        judged.says.push_str(&format!(
            " It may still wait: of {stream} {seen} of {length} entries were looked at (--limit)."
        ));
    }
    judged
}

/// The text in a column, if it has any.
fn text<'a>(row: Option<&'a Value>, column: &str) -> Option<&'a str> {
    row?.get(column)?.as_str().filter(|text| !text.is_empty())
}
