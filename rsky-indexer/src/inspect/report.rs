//! The facts and the verdict, for people.

use std::io::{self, Write};

use serde_json::Value;

use super::facts::{Asked, Facts, Found, Held, Hosted, Kind, Pds, RecordRows, Searched, Tables};
use super::verdict::{State, Verdict};
use crate::index_repo::report::printable;

/// # Errors
/// Of `out`.
pub(super) fn write(out: &mut impl Write, facts: &Facts, verdict: &Verdict) -> io::Result<()> {
    match &facts.path {
        Some(path) => writeln!(out, "{}", path.uri(&facts.did))?,
        None => writeln!(out, "{}", facts.did)?,
    }
    match &facts.pds {
        Asked::Known(pds) => line(out, "PDS", &of_pds(pds))?,
        Asked::Unknown { error } => line(out, "PDS", &format!("not known: {error}"))?,
    }
    match &facts.tables {
        Asked::Known(tables) => write_tables(out, tables)?,
        Asked::Unknown { error } => line(out, "tables", &format!("not known: {error}"))?,
    }
    facts.streams.iter().try_for_each(|searched| write_searched(out, searched))?;
    let state = match verdict.state {
        State::InOrder => "in order",
        State::Waits => "on its way",
        State::Amiss => "amiss",
        State::Unknown => "not known",
    };
    line(out, state, &verdict.says)?;
    if let Some(command) = &verdict.command {
        line(out, "next", command)?;
    }
    Ok(())
}

fn line(out: &mut impl Write, name: &str, text: &str) -> io::Result<()> {
    // What others said may be anything, and is longer than a line only where it is ours.
    let text: String = text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect();
    writeln!(out, "  {name:<11} {text}")
}

fn of_pds(pds: &Pds) -> String {
    let account = match &pds.account {
        Hosted::Active { rev } => format!("has the account, at rev {}", rev.as_deref().unwrap_or("unknown")),
        Hosted::Inactive { status } => format!("says the account is {status}"),
        Hosted::Gone => "does not have the account".to_owned(),
        Hosted::Unknown { error } => format!("does not say whether it has the account ({error})"),
    };
    let record = match &pds.record {
        None => String::new(),
        Some(Held::Has { cid, invalid: None }) => format!("; has the record, {cid}"),
        Some(Held::Has { cid, invalid: Some(why) }) => format!("; has the record, {cid}, not valid: {why}"),
        Some(Held::Gone) => "; does not have the record".to_owned(),
        Some(Held::Unknown { error }) => format!("; does not say whether it has the record ({error})"),
    };
    format!("{} {account}{record}", pds.host)
}

fn column<'a>(row: &'a Value, name: &str) -> &'a str {
    row.get(name).and_then(Value::as_str).unwrap_or("none")
}

fn write_tables(out: &mut impl Write, tables: &Tables) -> io::Result<()> {
    let actor = match &tables.actor {
        None => "none".to_owned(),
        Some(row) => format!(
            "handle {}, status {}, takedown {}, indexed {}",
            column(row, "handle"),
            column(row, "upstreamStatus"),
            column(row, "takedownRef"),
            column(row, "indexedAt")
        ),
    };
    line(out, "actor", &printable(&actor))?;
    line(out, "actor_sync", tables.rev.as_deref().unwrap_or("none"))?;
    match &tables.record {
        Some(rows) => write_record(out, rows)?,
        None => {
            let more = if tables.more_records { " (not all were counted)" } else { "" };
            let counts: Vec<String> =
                tables.records.iter().map(|(collection, count)| format!("{count} {collection}")).collect();
            let counts = if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
            line(out, "records", &format!("{counts}{more}"))?;
        }
    }
    Ok(())
}

fn write_record(out: &mut impl Write, rows: &RecordRows) -> io::Result<()> {
    let record = match &rows.record {
        None => "none".to_owned(),
        Some(row) => {
            let what = if rows.live { column(row, "cid") } else { "deleted" };
            format!("{what}, rev {}, indexed {}", column(row, "rev"), column(row, "indexedAt"))
        }
    };
    line(out, "record", &record)?;
    if let Some(table) = rows.table {
        let typed = match &rows.typed {
            None => "none".to_owned(),
            Some(row) => {
                let is_true = |name: &&&str| row.get(**name) == Some(&Value::Bool(true));
                let flags = ["invalidReplyRoot", "violatesThreadGate", "violatesEmbeddingRules"];
                let flags: Vec<&str> = flags.iter().filter(is_true).copied().collect();
                format!("there {}", flags.join(" "))
            }
        };
        line(out, table, typed.trim_end())?;
    }
    if let Some(other) = &rows.duplicate_of {
        line(out, "duplicate", &format!("of {other}"))?;
    }
    Ok(())
}

fn write_searched(out: &mut impl Write, searched: &Searched) -> io::Result<()> {
    let Searched { stream, kind, length, seen, more, found, count, error } = searched;
    if let Some(error) = error {
        return line(out, "stream", &format!("{stream}: not known: {error}"));
    }
    // Letters and what is put off are told of only where there is something.
    if *count == 0 && !more && !matches!(kind, Kind::Events | Kind::Repositories) {
        return Ok(());
    }
    let much =
        if *more { format!("{seen} of {length} entries looked at") } else { format!("of {length} entries") };
    line(out, "stream", &format!("{stream}: {count} {much}"))?;
    found.iter().try_for_each(|found| line(out, "", &of_found(found)))
}

fn of_found(found: &Found) -> String {
    let Found { id, what, path, rev, before, pending, reason } = found;
    let mut text = format!("{id} {what}");
    if let Some(path) = path {
        text.push_str(&format!(" {path}"));
    }
    if let Some(rev) = rev {
        text.push_str(&format!(" rev {rev}"));
    }
    match (pending, reason) {
        (Some((consumer, ms)), _) => text.push_str(&format!(", with {consumer} for {} s", ms / 1000)),
        (None, Some((reason, error))) => text.push_str(&format!(": {reason}: {}", printable(error))),
        (None, None) => text.push_str(&format!(", behind at least {before} entries")),
    }
    text
}
