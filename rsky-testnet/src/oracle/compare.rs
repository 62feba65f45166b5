//! What a database holds, beside what it must hold.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result};
use serde_json::Value;

use super::tables::{LATER_TABLES, TABLES, Tables};
use crate::servers::sql;

/// Differences that are printed of a table.
const SHOWN: usize = 10;

/// How a database differs from what it must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Differences {
    /// Rows that were compared.
    pub rows: usize,
    /// By table, a line for each row that is missing, too many, or different in a column.
    pub tables: BTreeMap<&'static str, Vec<String>>,
}

impl Differences {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (table, lines) in &self.tables {
            writeln!(f, "{table}: {} rows differ", lines.len())?;
            for line in lines.iter().take(SHOWN) {
                writeln!(f, "  {line}")?;
            }
            if lines.len() > SHOWN {
                writeln!(f, "  and {} more", lines.len() - SHOWN)?;
            }
        }
        write!(f, "{} rows compared", self.rows)
    }
}

/// Compares every row of every table.
///
/// # Errors
/// The database cannot be read.
pub fn compare(url: &str, expected: &Tables) -> Result<Differences> {
    let mut differences = Differences::default();
    let later = LATER_TABLES.into_iter().filter(|(table, _)| expected.contains_key(table));
    for (table, keys) in TABLES.into_iter().chain(later) {
        let held = read(url, table).with_context(|| format!("read {table}"))?;
        let must = expected.get(table).map(Vec::as_slice).unwrap_or_default();
        differences.rows += must.len();
        let lines = unlike(keys, must, &held);
        if !lines.is_empty() {
            differences.tables.insert(table, lines);
        }
    }
    Ok(differences)
}

pub(super) fn read(url: &str, table: &str) -> Result<Vec<Value>> {
    let rows = sql(url, &format!("SELECT row_to_json(t) FROM \"{table}\" t"))?;
    rows.lines().map(|line| serde_json::from_str(line).context("a row as JSON")).collect()
}

/// Rows by key. Several of one key, which only notifications may have, are kept apart by their number.
fn by_key<'a>(keys: &[&str], rows: &'a [Value]) -> BTreeMap<(String, usize), &'a Value> {
    let mut found = BTreeMap::new();
    for row in rows {
        let parts: Vec<String> = keys.iter().map(|key| plain(&row[*key])).collect();
        let key = parts.join(" ");
        let number = (0..).find(|number| !found.contains_key(&(key.clone(), *number))).unwrap_or(0);
        found.insert((key, number), row);
    }
    found
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn unlike(keys: &[&str], must: &[Value], held: &[Value]) -> Vec<String> {
    let (must, held) = (by_key(keys, must), by_key(keys, held));
    let mut lines = Vec::new();
    for ((key, number), row) in &must {
        match held.get(&(key.clone(), *number)) {
            None => lines.push(format!("{key}: missing; must be {row}")),
            Some(found) => {
                let columns = columns(row, found);
                if !columns.is_empty() {
                    lines.push(format!("{key}: {}", columns.join(", ")));
                }
            }
        }
    }
    for ((key, number), row) in &held {
        if !must.contains_key(&(key.clone(), *number)) {
            lines.push(format!("{key}: must not be there: {row}"));
        }
    }
    lines
}

/// The columns that differ.
fn columns(must: &Value, held: &Value) -> Vec<String> {
    let Some(found) = held.as_object() else { return vec!["no row".to_owned()] };
    let mut unlike = Vec::new();
    for (column, value) in found {
        let wanted = &must[column.as_str()];
        let any = wanted.as_str().is_some_and(|text| text.starts_with('~')) && value.is_string();
        // Notifications are numbered as they come.
        if !any && wanted != value && column != "id" {
            unlike.push(format!("{column} is {value}, must be {wanted}"));
        }
    }
    let absent = must.as_object().into_iter().flatten().filter(|(column, _)| !found.contains_key(*column));
    unlike.extend(absent.map(|(column, _)| format!("there is no column {column}")));
    unlike
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_kind_of_difference_is_seen() {
        let must = [
            json!({"uri": "a", "n": 1, "at": "~0"}),
            json!({"uri": "b", "n": 1}),
            json!({"uri": "d", "n": 1}),
            json!({"uri": "d", "n": 1}),
        ];
        let held = [
            json!({"uri": "a", "n": 1, "at": "2026", "other": null}),
            json!({"uri": "c", "n": 1}),
            json!({"uri": "d", "n": 2}),
        ];
        let lines = unlike(&["uri"], &must, &held);
        assert_eq!(lines.len(), 4, "{lines:#?}");
        assert!(lines[0].starts_with("b: missing"));
        assert_eq!(lines[1], "d: n is 2, must be 1");
        assert!(lines[2].starts_with("d: missing"));
        assert!(lines[3].starts_with("c: must not be there"));
        assert_eq!(unlike(&["uri"], &must[..1], &held[..1]), Vec::<String>::new());
    }
}
