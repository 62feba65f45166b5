//! A record: whether it is where it should be, and why not.

use serde_json::Value;

use super::way::on_its_way;
use super::{State, Verdict, text, verdict};
use crate::inspect::facts::{Asked, Facts, Held, Hosted, Path, Pds, RecordRows, Tables};

/// Judges a record.
pub(super) fn judge(facts: &Facts, tables: &Tables, path: &Path, rows: &RecordRows) -> Verdict {
    let (did, uri) = (&facts.did, path.uri(&facts.did));
    if !rows.has_rule {
        let collection = &path.collection;
        return verdict(
            State::InOrder,
            format!(
                "Records of {collection} are not indexed in this database: there is no row to be expected."
            ),
        );
    }
    let held = facts.pds.known().and_then(|pds| pds.record.as_ref());
    let stored = rows.record.as_ref().and_then(|row| row.get("cid")?.as_str()).unwrap_or_default();
    if rows.live && matches!(held, Some(Held::Has { cid, .. }) if cid == stored) {
        return indexed(tables, rows, &uri, did);
    }
    if !rows.live && held == Some(&Held::Gone) {
        let here =
            if rows.record.is_some() { "it was deleted, and the tables know" } else { "nor do the tables" };
        return verdict(State::InOrder, format!("The PDS has no such record; {here}."));
    }
    if let Some(waits) = on_its_way(facts, &|found| found.path.is_some()) {
        return waits;
    }
    match held {
        Some(Held::Has { invalid: Some(why), .. }) => verdict(
            State::InOrder,
            format!("The PDS has it, and no AppView takes it: {why}. There is no row to be expected."),
        ),
        Some(Held::Has { .. }) if rows.live => verdict(
            State::Amiss,
            "The tables have another version than the PDS, and nothing of it waits: its update was lost, or is still to come \
             from the relay.",
        )
        .by(index_repo(did)),
        Some(Held::Has { .. }) if rows.record.is_some() => verdict(
            State::Amiss,
            "The PDS has it, the tables know it as deleted, and nothing of it waits: it was made again since, and that was \
             lost.",
        )
        .by(index_repo(did)),
        Some(Held::Has { .. }) if rows.typed.is_some() => verdict(
            State::Amiss,
            format!("Its row in {} is there and that in record is not.", rows.table.unwrap_or_default()),
        )
        .by(index_repo(did)),
        Some(Held::Has { .. }) => verdict(
            State::Amiss,
            "The PDS has it, the tables do not, and nothing of it waits: it was lost, or is still to come from the relay.",
        )
        .by(index_repo(did)),
        Some(Held::Gone) => verdict(
            State::Amiss,
            "The PDS has no such record any more, the tables still do, and its deletion does not wait: it was lost.",
        )
        .by(index_repo(did)),
        Some(Held::Unknown { error }) => unknown_pds(facts, rows.live, error),
        None => match &facts.pds {
            Asked::Unknown { error } => unknown_pds(facts, rows.live, error),
            Asked::Known(_) => unknown_pds(facts, rows.live, "it was not asked"),
        },
    }
}

fn index_repo(did: &str) -> String {
    format!("indexer index-repo {did}")
}

fn unknown_pds(facts: &Facts, is_there: bool, error: &str) -> Verdict {
    if let Some(Pds { account, .. }) = facts.pds.known() {
        match account {
            Hosted::Gone => {
                return verdict(State::Unknown, "The PDS does not have the account any more.")
                    .by(format!("indexer inspect {}", facts.did));
            }
            Hosted::Inactive { status } => {
                let says = format!("The PDS does not give the repository out: the account is {status}.");
                return verdict(State::Unknown, says).by(format!("indexer inspect {}", facts.did));
            }
            Hosted::Active { .. } | Hosted::Unknown { .. } => {}
        }
    }
    let there = if is_there { "The tables have it" } else { "The tables do not have it" };
    verdict(State::Unknown, format!("{there}; whether the PDS does cannot be told now: {error}"))
}

/// The record is in `record` as the PDS has it; whether readers see it is another question.
fn indexed(tables: &Tables, rows: &RecordRows, uri: &str, did: &str) -> Verdict {
    if let Some(other) = &rows.duplicate_of {
        let says = format!(
            "It is indexed, and says the same as {other}, which has the row in {}.",
            rows.table.unwrap_or_default()
        );
        return verdict(State::InOrder, says);
    }
    if let (true, None, Some(table)) = (rows.typed_expected, &rows.typed, rows.table) {
        return verdict(State::Amiss, format!("Its row in record is there, that in {table} is missing."))
            .by(format!("indexer verify {did} --repair"));
    }
    let flag = |name: &str| rows.typed.as_ref().and_then(|row| row.get(name)?.as_bool()) == Some(true);
    if flag("invalidReplyRoot") {
        return match rows.missing.first() {
            Some(missing) => verdict(
                State::Amiss,
                format!(
                    "It is indexed and hidden (invalidReplyRoot): it answers {missing}, which is not in the tables. It shows \
                     when that comes."
                ),
            )
            .by(format!("indexer inspect {missing}")),
            None => verdict(
                State::InOrder,
                "It is indexed and hidden (invalidReplyRoot): what it answers belongs to another thread, or is hidden itself.",
            ),
        };
    }
    if flag("violatesThreadGate") {
        return verdict(
            State::InOrder,
            "It is indexed and hidden (violatesThreadGate): the gate of its thread keeps its author out.",
        );
    }
    if flag("violatesEmbeddingRules") {
        return verdict(
            State::InOrder,
            "It is indexed and its quote is hidden (violatesEmbeddingRules): the author of what it quotes does not allow that.",
        );
    }
    let taken_down = |row: &Option<Value>| text(row.as_ref(), "takedownRef").is_some();
    if taken_down(&rows.record) || taken_down(&rows.typed) {
        return verdict(State::InOrder, "It is indexed and taken down by moderation (takedownRef).");
    }
    match &tables.actor {
        None => {
            verdict(State::Amiss, "It is indexed, but its author has no row in actor, so it is not shown.")
                .by(format!("backfiller enqueue --priority {did}"))
        }
        Some(actor) => match hidden(actor) {
            Some(why) => verdict(State::InOrder, format!("It is indexed and not shown: its author {why}.")),
            None => verdict(State::InOrder, format!("It is indexed: {uri} is as its PDS has it.")),
        },
    }
}

/// Why readers show nothing of an account.
fn hidden(actor: &Value) -> Option<String> {
    if text(Some(actor), "takedownRef").is_some() {
        return Some("is taken down by moderation (actor.takedownRef)".to_owned());
    }
    let status = text(Some(actor), "upstreamStatus")?;
    Some(format!("is {status} (actor.upstreamStatus)"))
}
