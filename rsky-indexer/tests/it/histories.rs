//! Streams of many worlds' histories ([`crate::worlds`]), and the rows they end in one entry at a time.

use std::collections::{BTreeMap, HashMap};

use rsky_indexer::engine::{self, Notifications};
use rsky_indexer::intake::{self, Intake};
use serde_json::Value;
use sqlx::{Connection, PgConnection};

use crate::entries::{AT, CID, POST, Scribe};
use crate::support::{Db, dump_without_clocks, statements};
use crate::worlds::{Action, Content, Random, STEPS, Step, World};

/// Worlds that are told at the same time, at most: with fewer, what depends on each other stands closer together.
const MOST_OPEN: usize = 12;

/// A stream of many worlds' histories.
pub struct Stream {
    /// The payloads in order, each with the number of its world.
    pub entries: Vec<(usize, String)>,
}

impl Stream {
    /// So many worlds of a seed, told at once.
    pub fn of(seed: u64, worlds: usize, content: Content) -> Self {
        let mut random = Random::new(seed);
        let mut untold: Vec<(usize, std::vec::IntoIter<Step>)> = (0..worlds)
            .map(|number| (number, World { number, random: &mut random }.steps(content).into_iter()))
            .collect();
        let mut scribe = Scribe::live();
        let mut entries = Vec::with_capacity(worlds * STEPS);
        let mut open = Vec::new();
        let mut repeats: HashMap<usize, Vec<String>> = HashMap::new();
        let mut most_open = MOST_OPEN;
        loop {
            while open.len() < most_open
                && let Some(world) = untold.pop()
            {
                open.push(world);
            }
            if open.is_empty() {
                break;
            }
            let place = random.below(open.len());
            let (world, steps) = &mut open[place];
            // Now and then several of one world, one right after the other.
            let several: Vec<Step> = steps.by_ref().take(1 + random.below(4)).collect();
            for step in several {
                let may_be_repeated = content.late || !step.backfilled;
                let entry = write(&mut scribe, step);
                if may_be_repeated && random.percent(6) {
                    repeats.entry(*world).or_default().push(entry.clone());
                }
                entries.push((*world, entry));
            }
            // The relay repeats itself, at once or later.
            if random.percent(30) {
                let again = repeats.remove(world).unwrap_or_default();
                entries.extend(again.into_iter().map(|entry| (*world, entry)));
            }
            if steps.len() == 0 {
                open.swap_remove(place);
                most_open = 1 + random.below(MOST_OPEN);
            }
        }
        Self { entries }
    }

    /// What happens in one world, a line each.
    pub fn history(&self, world: usize) -> String {
        let own = self.entries.iter().enumerate().filter(|(_, (of, _))| *of == world);
        own.map(|(at, (_, payload))| format!("\n{at:5} {}", line(payload))).collect()
    }
}

fn write(scribe: &mut Scribe, step: Step) -> String {
    let Step { did, collection, rkey, action, backfilled, late, clock } = step;
    scribe.set_backfilled(backfilled);
    scribe.set_late(late);
    scribe.set_clock(clock);
    match action {
        Action::Create(record) => scribe.create(&did, collection, &rkey, record),
        Action::Update(record) => scribe.update(&did, collection, &rkey, record),
        Action::Delete => scribe.delete(&did, collection, &rkey),
        Action::Account { active } => scribe.account(&did, active),
    }
}

/// An entry for a person.
fn line(payload: &str) -> String {
    let event: Value = serde_json::from_str(payload).unwrap();
    let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
    let mut record = event["record"].clone();
    if let Some(record) = record.as_object_mut() {
        for field in ["$type", "createdAt"] {
            record.remove(field);
        }
    }
    let said = record
        .to_string()
        .replace(&format!(",\"cid\":\"{CID}\""), "")
        .replace(&format!("\"cid\":\"{CID}\","), "");
    let seq = if event["seq"] == -1 { "backfilled" } else { "live" };
    let active = event["active"].as_bool().map(|active| format!("active {active}")).unwrap_or_default();
    format!(
        "{} {seq} {}/{}/{} {} {active}{said}",
        text("type"),
        text("did"),
        text("collection"),
        text("rkey"),
        text("rev")
    )
}

/// Roots of which somebody wants to hear nothing.
pub fn mute_threads(db: &Db, worlds: usize) {
    let rows: Vec<String> = (0..worlds)
        .map(|world| format!("('at://did:plc:w{world}a0/{POST}/p0', 'did:plc:w{world}a1', '{AT}')"))
        .collect();
    db.sql(&format!(
        r#"INSERT INTO thread_mute ("rootUri", "mutedByDid", "createdAt") VALUES {}"#,
        rows.join(", ")
    ));
}

/// Connections that tell worlds at the same time: none has anything to do with another.
const TELLERS: usize = 3;

/// The rows that the entries make one at a time, each in a transaction of its own.
pub async fn apply_one_by_one(db: &Db, stream: &Stream, notifications: Notifications) {
    let tell = |teller: usize| async move {
        let mut connection = PgConnection::connect(db.url()).await.unwrap();
        let statements = statements(&mut connection).await.with_notifications(notifications);
        let edition = statements.schema().lexicons();
        for (_, payload) in stream.entries.iter().filter(|(world, _)| world % TELLERS == teller) {
            match intake::read_in(edition, payload) {
                Intake::Work(work) => {
                    engine::apply(&mut connection, &statements, &[&work]).await.unwrap();
                }
                other => panic!("{payload}: {other:?}"),
            }
        }
    };
    tokio::join!(tell(0), tell(1), tell(2));
}

/// Every row, without what only a clock or the order of writing decides.
pub async fn all_rows(db: &Db) -> BTreeMap<&'static str, Vec<String>> {
    let mut connection = PgConnection::connect(db.url()).await.unwrap();
    let mut rows = dump_without_clocks(&mut connection).await;
    for (table, row) in [
        ("actor", "to_jsonb(t)"),
        ("op_thread_reply", r#"to_jsonb(t) || jsonb_build_object('deletedAt', t."deletedAt" IS NOT NULL)"#),
    ] {
        let exists = format!("SELECT to_regclass('{table}') IS NOT NULL");
        let exists: bool =
            sqlx::query_scalar(sqlx::AssertSqlSafe(exists)).fetch_one(&mut connection).await.unwrap();
        if exists {
            let sql = format!("SELECT ({row})::text FROM {table} t ORDER BY 1");
            let found = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&mut connection).await;
            rows.insert(table, found.unwrap());
        }
    }
    rows
}

/// The rows that one side has more often than the other: `-` expected and missing, `+` surplus.
pub fn differences(
    expected: &BTreeMap<&'static str, Vec<String>>,
    found: &BTreeMap<&'static str, Vec<String>>,
) -> Vec<String> {
    let mut differences = Vec::new();
    for (table, rows) in expected {
        let mut balance: HashMap<&str, i64> = HashMap::new();
        rows.iter().for_each(|row| *balance.entry(row).or_default() -= 1);
        found[table].iter().for_each(|row| *balance.entry(row).or_default() += 1);
        let unlike = balance.into_iter().filter(|(_, balance)| *balance != 0);
        let line =
            |(row, balance): (&str, i64)| format!("{} {table} {row}", if balance < 0 { '-' } else { '+' });
        let mut lines: Vec<String> = unlike.map(line).collect();
        // By row, so that both versions of it stand together.
        lines.sort_by(|a, b| a[2..].cmp(&b[2..]));
        differences.extend(lines);
    }
    differences
}

/// The world that a row belongs to.
pub fn world_of(row: &str) -> Option<usize> {
    let (_, after) = row.split_once("did:plc:w")?;
    after.split_once('a')?.0.parse().ok()
}
