//! What the TypeScript reference made of the recorded streams, row by row.
//!
//! Differences that DECISIONS.md causes stand in `testdata/explained.jsonl`, one row a line with the number of the
//! decision; one that is not listed fails, and so does a listed one that does not occur.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::Read;
use std::path::PathBuf;

use flate2::read::GzDecoder;
use rsky_indexer::engine::{self, Notifications, Statements, Work};
use rsky_indexer::intake::{self, Intake};
use rsky_indexer::labels::{self, LabelRow};
use serde_json::{Map, Value};
use sqlx::{Connection, PgConnection};

use crate::support::{Db, dump, reference_statements};

type Row = Map<String, Value>;

pub fn testdata(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(path)
}

pub fn read_gz(path: &str) -> String {
    let file = std::fs::File::open(testdata(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    text
}

/// The `event` payloads of a recorded stream.
pub fn stream(name: &str) -> Vec<String> {
    read_gz(&format!("golden/streams/{name}.jsonl.gz"))
        .lines()
        .map(|line| {
            let entry: Value = serde_json::from_str(line).unwrap();
            entry["fields"]["event"].as_str().unwrap().to_owned()
        })
        .collect()
}

fn golden_rows(set: &str, table: &str) -> Vec<Row> {
    let path = format!("golden/{set}/{table}.jsonl.gz");
    if !testdata(&path).exists() {
        return Vec::new();
    }
    read_gz(&path).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A row without what only tells in which order rows came.
fn comparable(table: &str, mut row: Row) -> Row {
    if table == "notification" {
        row.remove("id");
    }
    row
}

/// A difference between the golden rows and ours: `-` a row that is missing, `+` one that is too much.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Difference {
    table: String,
    side: &'static str,
    row: String,
}

fn is_iso(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() >= 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T')
}

fn differences(set: &str, ours: BTreeMap<&'static str, Vec<String>>) -> (usize, BTreeSet<Difference>) {
    let mut found = BTreeSet::new();
    let mut compared = 0;
    for (table, rows) in ours {
        let mut want: Vec<Row> =
            golden_rows(set, table).into_iter().map(|row| comparable(table, row)).collect();
        compared += want.len();
        let clocks: HashSet<String> = want
            .iter()
            .flat_map(|row| row.iter().filter(|(_, value)| *value == "<clock>").map(|(key, _)| key.clone()))
            .collect();
        let mut wanted: BTreeMap<String, usize> = BTreeMap::new();
        for row in want.drain(..) {
            *wanted.entry(canonical(&row)).or_default() += 1;
        }
        for row in rows {
            let row: Row = serde_json::from_str(&row).unwrap();
            let row = comparable(table, row);
            let mut stopped = row.clone();
            for key in &clocks {
                if is_iso(&stopped[key]) {
                    stopped[key] = "<clock>".into();
                }
            }
            let exact = canonical(&row);
            let text = if wanted.contains_key(&exact) { exact } else { canonical(&stopped) };
            match wanted.get_mut(&text) {
                Some(count) if *count > 0 => *count -= 1,
                _ => {
                    found.insert(Difference { table: table.into(), side: "+", row: canonical(&row) });
                }
            }
        }
        for (row, count) in wanted {
            if count > 0 {
                found.insert(Difference { table: table.into(), side: "-", row });
            }
        }
    }
    (compared, found)
}

fn canonical(row: &Row) -> String {
    let sorted: BTreeMap<&String, &Value> = row.iter().collect();
    serde_json::to_string(&sorted).unwrap()
}

/// The listed differences of a set. A line is a whole row on one side, or the columns of a row that have one value in
/// the golden rows and another in ours.
fn explained(set: &str) -> BTreeSet<Difference> {
    let text = std::fs::read_to_string(testdata("explained.jsonl")).unwrap();
    let mut golden: HashMap<String, HashMap<String, Row>> = HashMap::new();
    let mut explained = BTreeSet::new();
    for line in text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        if line["set"] != set {
            continue;
        }
        assert!(line["decision"].is_u64(), "{line}: no decision named");
        let table = line["table"].as_str().unwrap().to_owned();
        let mut add = |side, row: &Row| {
            assert!(
                explained.insert(Difference { table: table.clone(), side, row: canonical(row) }),
                "{line} stands twice"
            );
        };
        if let Some(row) = line["row"].as_object() {
            add(if line["side"] == "+" { "+" } else { "-" }, row);
            continue;
        }
        let rows = golden.entry(table.clone()).or_insert_with(|| {
            let rows = golden_rows(set, &table).into_iter();
            rows.map(|row| (row.get("uri").or(row.get("did")).unwrap().as_str().unwrap().to_owned(), row))
                .collect()
        });
        let mut row = rows[line["key"].as_str().unwrap()].clone();
        add("-", &row);
        for (column, values) in line["columns"].as_object().unwrap() {
            assert_eq!(row[column], values[0], "{line}: not the golden value");
            row[column] = values[1].clone();
        }
        add("+", &row);
    }
    explained
}

/// The golden rows of a table with the explained differences applied.
pub fn expected_rows(set: &str, table: &str) -> Vec<Value> {
    let mut rows: BTreeSet<String> = golden_rows(set, table).iter().map(canonical).collect();
    for difference in explained(set).iter().filter(|difference| difference.table == table) {
        if difference.side == "+" {
            rows.insert(difference.row.clone());
        } else {
            assert!(rows.remove(&difference.row), "{difference:?}: no such golden row");
        }
    }
    rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect()
}

/// Holds the tables that are given against a golden set; `at_least` keeps the test from passing on nothing.
pub fn assert_golden(set: &str, ours: BTreeMap<&'static str, Vec<String>>, at_least: usize) {
    let tables: BTreeSet<&str> = ours.keys().copied().collect();
    let (compared, found) = differences(set, ours);
    assert!(compared >= at_least, "only {compared} rows compared");
    let mut explained = explained(set);
    explained.retain(|difference| tables.contains(difference.table.as_str()));
    // The whole list goes where an editor can open it; it is what explained.jsonl is written from.
    let mut report = String::new();
    for difference in found.difference(&explained) {
        let line = serde_json::json!({"set": set, "table": difference.table, "decision": null,
            "side": difference.side, "row": serde_json::from_str::<Value>(&difference.row).unwrap()});
        report.push_str(&format!("not explained: {line}\n"));
    }
    for difference in explained.difference(&found) {
        report.push_str(&format!("explained, but does not occur: {difference:?}\n"));
    }
    if !report.is_empty() {
        std::fs::write(std::env::temp_dir().join(format!("rsky-{set}.differences")), &report).unwrap();
        let shown: String = report.lines().take(40).map(|line| format!("{line}\n")).collect();
        panic!("{} differences from {set}:\n{shown}", report.lines().count());
    }
}

async fn index(
    connection: &mut PgConnection,
    statements: &Statements,
    payloads: &[String],
    batch: usize,
) -> BTreeMap<&'static str, usize> {
    let mut rejected: BTreeMap<&'static str, usize> = BTreeMap::new();
    for chunk in payloads.chunks(batch) {
        let mut works: Vec<Work> = Vec::new();
        for payload in chunk {
            match intake::read(payload) {
                Intake::Work(work) => works.push(work),
                Intake::Nothing(reason) | Intake::Rejected { reason, .. } => {
                    *rejected.entry(reason).or_default() += 1
                }
            }
        }
        engine::apply(connection, statements, &works.iter().collect::<Vec<_>>()).await.unwrap();
    }
    rejected
}

async fn index_labels(connection: &mut PgConnection, payloads: &[String]) {
    let rows: Vec<LabelRow> = payloads
        .iter()
        .flat_map(|payload| match labels::read(payload) {
            Intake::Work(rows) => rows,
            other => panic!("{other:?}"),
        })
        .collect();
    labels::apply(connection, &reference_statements(), &rows.iter().collect::<Vec<_>>()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_live_stream_gives_the_golden_rows() {
    for batch in [1, 7, 500] {
        let db = Db::new("golden_live");
        let mut connection = PgConnection::connect(db.url()).await.unwrap();
        let payloads = stream("firehose_live");
        index(&mut connection, &reference_statements(), &payloads, batch).await;
        assert_golden("tables-live", dump(&mut connection).await, 2000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_and_labels_give_the_golden_rows() {
    let db = Db::new("golden_backfill");
    let mut connection = PgConnection::connect(db.url()).await.unwrap();
    let payloads = stream("firehose_backfill");
    index(&mut connection, &reference_statements(), &payloads, 300).await;
    index_labels(&mut connection, &stream("label_live")).await;
    assert_golden("tables-backfill", dump(&mut connection).await, 4000);
}

#[tokio::test(flavor = "multi_thread")]
async fn live_then_backfill_then_labels_give_the_golden_rows() {
    let db = Db::new("golden_both");
    let mut connection = PgConnection::connect(db.url()).await.unwrap();
    let mut payloads = stream("firehose_live");
    payloads.extend(stream("firehose_backfill"));
    index(&mut connection, &reference_statements(), &payloads, 400).await;
    index_labels(&mut connection, &stream("label_live")).await;
    assert_golden("tables", dump(&mut connection).await, 4000);
}

#[tokio::test(flavor = "multi_thread")]
async fn creates_notify_where_it_is_asked_for() {
    for batch in [1, 300] {
        let db = Db::new("golden_notifying");
        let mut connection = PgConnection::connect(db.url()).await.unwrap();
        let statements = reference_statements().with_notifications(Notifications::Live);
        index(&mut connection, &statements, &stream("firehose_live"), batch).await;
        let mut ours = dump(&mut connection).await;
        ours.retain(|table, _| *table == "notification");
        assert_golden("tables-live-notifying", ours, 300);
    }
}
