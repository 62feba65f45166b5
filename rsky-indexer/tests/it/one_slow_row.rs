//! A row that somebody else holds delays the entries that need it, and nobody else's; when it is free they follow, and
//! nothing is miscounted.

use std::collections::HashSet;

use rsky_testnet::servers::Redis;
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tokio::runtime::Runtime;

use crate::counters;
use crate::entries::{FOLLOW, LIKE, POST, Scribe, THREAD_GATE, about, post, reply, signal, thread_gate, uri};
use crate::load::{events, like};
use crate::process::{
    Indexer, LIVE, add, assert_as_undisturbed, assert_no_dead_letters, count, dead_letters, length,
    wait_drained, wait_until,
};
use crate::support::Db;

/// The account whose rows are held.
const HOST: &str = "did:plc:heldhost";
/// Accounts that need a held row.
const NEEDY: usize = 20;
/// Entries of all the others.
const OTHERS: usize = 2500;

fn host_post() -> String {
    uri(HOST, POST, "p")
}

/// A row that an AppView may hold.
#[derive(Clone, Copy, Debug)]
enum Held {
    PostAgg,
    Post,
    Record,
    ProfileAgg,
    ActorSync,
    Actor,
}

impl Held {
    /// Which row it is.
    fn row(self) -> String {
        let (table, key, value) = match self {
            Self::PostAgg => ("post_agg", "uri", host_post()),
            Self::Post => ("post", "uri", host_post()),
            Self::Record => ("record", "uri", host_post()),
            Self::ProfileAgg => ("profile_agg", "did", HOST.to_owned()),
            Self::ActorSync => ("actor_sync", "did", HOST.to_owned()),
            Self::Actor => ("actor", "did", HOST.to_owned()),
        };
        format!("{table} WHERE {key} = '{value}'")
    }

    /// Entries that cannot be done without it, and entries that may have to wait for these.
    fn entries(self, scribe: &mut Scribe) -> (Vec<String>, Vec<String>) {
        let needy = || (0..NEEDY).map(|number| format!("did:plc:needy{number}"));
        let mut needs = Vec::new();
        let mut may_wait = Vec::new();
        match self {
            Self::PostAgg => {
                needs.extend(needy().map(|did| scribe.create(&did, LIKE, "l", signal(&host_post()))));
                // One of them thinks better of it.
                may_wait.push(scribe.delete("did:plc:needy0", LIKE, "l"));
            }
            Self::Post => {
                needs.push(scribe.create(HOST, THREAD_GATE, "p", thread_gate(&host_post(), &[])));
                let answer = |did: String| scribe.create(&did, POST, "a", reply(&host_post(), &host_post()));
                may_wait.extend(needy().map(answer));
            }
            Self::Record => {
                needs.push(scribe.update(HOST, POST, "p", post("second version")));
                needs.push(scribe.update(HOST, POST, "p", post("third version")));
            }
            Self::ProfileAgg => {
                needs.extend(needy().map(|did| scribe.create(&did, FOLLOW, "f", about(HOST))));
                may_wait.push(scribe.delete("did:plc:needy0", FOLLOW, "f"));
            }
            Self::ActorSync => {
                let like_some = |number| {
                    let liked = uri(&format!("did:plc:liked{number}"), POST, "p");
                    scribe.create(HOST, LIKE, &format!("l{number}"), signal(&liked))
                };
                needs.extend((0..NEEDY).map(like_some));
            }
            Self::Actor => needs.push(scribe.account(HOST, true)),
        }
        (needs, may_wait)
    }
}

/// A session of somebody else with a row in its hands.
pub struct Holder {
    runtime: Runtime,
    connection: PgConnection,
}

impl Holder {
    /// Locks a row, which has to be there, in a transaction that stays open.
    pub fn hold(db: &Db, row: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connection = runtime.block_on(async {
            let mut connection = PgConnection::connect(db.url()).await.unwrap();
            sqlx::raw_sql("BEGIN").execute(&mut connection).await.unwrap();
            let sql = format!("SELECT 1 FROM {row} FOR UPDATE");
            let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap();
            assert_eq!(rows.len(), 1, "{row}");
            connection
        });
        Self { runtime, connection }
    }

    /// Lets go of it.
    pub fn release(mut self) {
        self.runtime.block_on(sqlx::raw_sql("ROLLBACK").execute(&mut self.connection)).unwrap();
    }
}

/// What the host has before anybody holds anything: a row in each of the tables.
fn prelude(scribe: &mut Scribe) -> Vec<String> {
    vec![
        scribe.create(HOST, POST, "p", post("first version")),
        scribe.create("did:plc:friend", LIKE, "l", signal(&host_post())),
        scribe.create("did:plc:friend", FOLLOW, "f", about(HOST)),
        scribe.account(HOST, false),
    ]
}

/// Puts one after every `apart` of the others, and what is left at the end.
fn scattered(others: &[String], entries: &[String], apart: usize) -> Vec<String> {
    let mut entries = entries.iter();
    let mut all = Vec::new();
    for chunk in others.chunks(apart) {
        all.extend_from_slice(chunk);
        all.extend(entries.next().cloned());
    }
    all.extend(entries.cloned());
    all
}

/// The payloads that are still in the stream.
fn left(redis: &Redis) -> HashSet<String> {
    let page = redis.command(&["XRANGE", LIVE, "-", "+"]).unwrap();
    page.items().iter().map(|entry| entry.items()[1].items()[1].as_text().unwrap()).collect()
}

/// Whether nothing is in the stream but what may wait.
pub fn only_left(redis: &Redis, waiting: &HashSet<String>) -> bool {
    // The length first: it costs nothing to ask for.
    length(redis, LIVE) <= i64::try_from(waiting.len()).unwrap() && left(redis).is_subset(waiting)
}

/// The accounts whose records these are.
fn committers(entries: &[String]) -> HashSet<String> {
    let parsed = entries.iter().map(|entry| serde_json::from_str::<Value>(entry).unwrap());
    parsed
        .filter(|entry| entry["rev"].is_string())
        .map(|entry| entry["did"].as_str().unwrap().to_owned())
        .collect()
}

/// Readiness and metrics say who waits.
#[track_caller]
/// Readiness names the row that is waited for and since when, and the metric counts who waits.
fn assert_said(indexer: &Indexer, held: Held) {
    let row = held.row();
    let table = row.split(' ').next().unwrap();
    wait_until("the pages say who waits", || {
        let said = indexer.get("/readyz").1;
        said.contains("entries are set aside and tried again, the oldest since") && said.contains(table)
    });
    assert!(indexer.metric("indexer_entries_set_aside", &[]) > 0);
}

/// Holds a row while entries come, some of which need it and some of which Postgres refuses.
fn hold(held: Held, lanes: usize, poison: &[String]) {
    let (redis, db) = (Redis::start().unwrap(), Db::new("slow_row"));
    let mut scribe = Scribe::live();
    let before = prelude(&mut scribe);
    add(&redis, LIVE, &before);
    let lanes = lanes.to_string();
    let settings = [("INDEXER_CONCURRENCY", lanes.as_str()), ("INDEXER_BATCH_SIZE", "500")];
    let indexer = Indexer::start(&redis.url(), db.url(), &settings);
    wait_drained(&redis, LIVE);

    let holder = Holder::hold(&db, &held.row());
    let others = events(61, OTHERS);
    let (needs, may_wait) = held.entries(&mut scribe);
    let waiting = [needs.clone(), may_wait].concat();
    let all = scattered(&scattered(&others, &waiting, 40), poison, 300);
    add(&redis, LIVE, &all);
    let waiting: HashSet<String> = waiting.into_iter().collect();
    wait_until(&format!("{held:?} is held, {lanes} lanes: all others are written and gone"), || {
        only_left(&redis, &waiting)
    });
    let still = left(&redis);
    assert!(needs.iter().all(|entry| still.contains(entry)), "{held:?}: acknowledged and not written");
    assert_eq!(dead_letters(&redis, LIVE).len(), poison.len());
    let synced = db.sql("SELECT did FROM actor_sync");
    let synced: HashSet<&str> = synced.lines().collect();
    let dids = committers(&others);
    assert!(dids.iter().all(|did| synced.contains(did.as_str())), "{held:?}: acknowledged and not written");
    assert_said(&indexer, held);

    holder.release();
    wait_drained(&redis, LIVE);
    assert_eq!(counters::wrong(&db), Vec::<String>::new(), "{held:?}");
    let good: Vec<String> =
        before.iter().chain(&all).filter(|entry| !poison.contains(entry)).cloned().collect();
    assert_as_undisturbed(db.url(), &good);
    let shown = count(&db, &format!("{} AND \"upstreamStatus\" IS NULL", Held::Actor.row()));
    assert_eq!(shown, i64::from(matches!(held, Held::Actor)), "{held:?}");
    if poison.is_empty() {
        assert_no_dead_letters(&redis);
    }
}

fn hold_with_one_lane_and_three(held: Held) {
    for lanes in [1, 3] {
        hold(held, lanes, &[]);
    }
}

#[test]
fn a_posts_counters() {
    hold_with_one_lane_and_three(Held::PostAgg);
}

#[test]
fn a_post() {
    hold_with_one_lane_and_three(Held::Post);
}

#[test]
fn a_record() {
    hold_with_one_lane_and_three(Held::Record);
}

#[test]
fn an_accounts_counters() {
    hold_with_one_lane_and_three(Held::ProfileAgg);
}

#[test]
fn how_far_an_account_is_indexed() {
    hold_with_one_lane_and_three(Held::ActorSync);
}

#[test]
fn an_actor() {
    hold_with_one_lane_and_three(Held::Actor);
}

/// Entries that Postgres refuses are found and laid aside while others wait for a row.
#[test]
fn a_posts_counters_beside_poison() {
    let refused = |number: usize| {
        let rkey = format!("\"rkey\":\"r{number}\"");
        let payload = like(number);
        assert!(payload.contains(&rkey));
        payload.replace(&rkey, &format!("\"rkey\":\"r{number}\\u0000\""))
    };
    let poison: Vec<String> = (0..3).map(refused).collect();
    for lanes in [1, 3] {
        hold(Held::PostAgg, lanes, &poison);
    }
}

/// Every other entry of the stream needs the row: many wait, and stop neither the others nor themselves.
#[test]
fn many_who_need_it() {
    const LIKES: usize = 3000;
    let (redis, db) = (Redis::start().unwrap(), Db::new("slow_hot_row"));
    let mut scribe = Scribe::live();
    add(&redis, LIVE, &prelude(&mut scribe));
    let indexer = Indexer::start(&redis.url(), db.url(), &[("INDEXER_BATCH_SIZE", "500")]);
    wait_drained(&redis, LIVE);
    let holder = Holder::hold(&db, &Held::PostAgg.row());
    let likes: Vec<String> = (0..LIKES)
        .map(|number| scribe.create(&format!("did:plc:needy{number}"), LIKE, "l", signal(&host_post())))
        .collect();
    let others = events(62, OTHERS);
    add(&redis, LIVE, &scattered(&others, &likes, 1));
    let likes: HashSet<String> = likes.into_iter().collect();
    wait_until("all others are written and gone", || only_left(&redis, &likes));
    assert_eq!(left(&redis).len(), LIKES);
    assert_said(&indexer, Held::PostAgg);
    holder.release();
    wait_drained(&redis, LIVE);
    let of_post = format!("\"like\" WHERE subject = '{}'", host_post());
    assert_eq!(count(&db, &of_post), i64::try_from(LIKES).unwrap() + 1);
    assert_eq!(counters::wrong(&db), Vec::<String>::new());
    assert_no_dead_letters(&redis);
}

/// Who is to be told by what waits stands in the tables, above one that was on its way, above one in the tables; and goes.
#[test]
fn who_is_told_by_it_stays_until_then() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("slow_row_told"));
    let mut scribe = Scribe::live();
    let [root, c, e, b, d] =
        ["a", "c", "e", "b", "d"].map(|name| uri(&format!("did:plc:{name}"), POST, name));
    let before = [
        scribe.create("did:plc:a", POST, "a", post("root")),
        scribe.create("did:plc:c", POST, "c", reply(&root, &root)),
        scribe.create("did:plc:b", POST, "b", reply(&root, &e)),
        scribe.create("did:plc:friend", LIKE, "l", signal(&b)),
        scribe.create("did:plc:friend", LIKE, "m", signal(&c)),
    ];
    add(&redis, LIVE, &before);
    let settings = [("INDEXER_CONCURRENCY", "3"), ("INDEXER_NOTIFICATIONS", "live")];
    let mut indexer = Indexer::start(&redis.url(), db.url(), &settings);
    wait_drained(&redis, LIVE);
    let [holder_of_b, holder_of_c] =
        [&b, &c].map(|uri| Holder::hold(&db, &format!("post_agg WHERE uri = '{uri}'")));
    scribe.set_backfilled(true);
    let between = scribe.create("did:plc:e", POST, "e", reply(&root, &c));
    scribe.set_backfilled(false);
    let waiting =
        [scribe.create("did:plc:d", POST, "d", reply(&root, &b)), scribe.delete("did:plc:c", POST, "c")];
    assert_eq!(indexer.terminate(), Some(0), "{}", indexer.log());
    add(&redis, LIVE, &[&[between.clone()][..], &waiting].concat());
    indexer.restart();
    let others = events(64, OTHERS);
    let others_come_and_go = |number: usize, waiting: &[&str]| {
        let (from, to) = (number * OTHERS / 3, (number + 1) * OTHERS / 3);
        add(&redis, LIVE, &others[from..to]);
        let waiting = waiting.iter().map(|entry| (*entry).to_owned()).collect();
        wait_until("all others are gone", || only_left(&redis, &waiting));
        assert_eq!(left(&redis), waiting);
    };
    let [answer, deletion] = &waiting;
    others_come_and_go(0, &[&between, answer, deletion]);
    holder_of_c.release();
    others_come_and_go(1, &[answer, deletion]);
    wait_until("it waits", || indexer.get("/readyz").1.contains(&format!("post_agg {b}")));
    others_come_and_go(2, &[answer, deletion]);
    holder_of_b.release();
    wait_drained(&redis, LIVE);
    let told = db.sql(&format!("SELECT did FROM notification WHERE \"recordUri\" = '{d}' ORDER BY did"));
    assert_eq!(told.lines().collect::<Vec<_>>(), ["did:plc:a", "did:plc:b", "did:plc:c", "did:plc:e"]);
    assert_no_dead_letters(&redis);
}

/// Stopped, and then killed, while it waits: what waited is still there, and is done when the row is free.
#[test]
fn a_stop_and_a_kill_meanwhile() {
    let (redis, db) = (Redis::start().unwrap(), Db::new("slow_row_stop"));
    let mut scribe = Scribe::live();
    let before = prelude(&mut scribe);
    add(&redis, LIVE, &before);
    let mut indexer = Indexer::start(&redis.url(), db.url(), &[("INDEXER_BATCH_SIZE", "500")]);
    wait_drained(&redis, LIVE);
    let holder = Holder::hold(&db, &Held::PostAgg.row());
    let (needs, may_wait) = Held::PostAgg.entries(&mut scribe);
    let waiting = [needs, may_wait].concat();
    let others = events(63, OTHERS);
    let (now, later) = others.split_at(OTHERS / 2);
    let all = [scattered(now, &waiting, 20), later.to_vec()].concat();
    let waiting: HashSet<String> = waiting.into_iter().collect();
    let others_are_done = || wait_until("all others are gone", || only_left(&redis, &waiting));

    add(&redis, LIVE, &all[..now.len() + waiting.len()]);
    others_are_done();
    assert_eq!(indexer.terminate(), Some(0), "{}", indexer.log());
    assert!(left(&redis).len() >= NEEDY, "acknowledged and not written");
    indexer.restart();
    add(&redis, LIVE, later);
    others_are_done();
    indexer.restart();
    holder.release();
    wait_drained(&redis, LIVE);
    assert_eq!(counters::wrong(&db), Vec::<String>::new());
    assert_no_dead_letters(&redis);
    let all: Vec<String> = before.into_iter().chain(all).collect();
    assert_as_undisturbed(db.url(), &all);
}
