//! Random histories of small worlds: a few accounts who post, reply, quote, close their threads, change their minds and
//! delete. Worlds have nothing to do with each other, so that many of them can be told in one stream.

use std::collections::{BTreeMap, HashMap};

use rsky_indexer::engine::{self, Notifications};
use rsky_indexer::intake::{self, Intake};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::entries::{
    AT, BLOCK, CID, FOLLOW, LIKE, LIST, LIST_ITEM, POST, POST_GATE, REPOST, Scribe, THREAD_GATE, about,
    list_item, mention, post, reply, signal, strong, uri,
};
use crate::support::{Db, dump_without_clocks, statements};

/// Accounts of a world.
const ACCOUNTS: usize = 7;
/// Posts that each of them may have.
const POSTS: usize = 4;
/// Accounts whose first post most of the talk is about.
const ROOTS: usize = 2;
/// What happens in a world.
const STEPS: usize = 40;
/// Worlds that are told at the same time, at most: with fewer, what depends on each other stands closer together.
const MOST_OPEN: usize = 12;

/// Seeded numbers (splitmix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(limit).unwrap()).unwrap()
    }

    /// True so many times out of a hundred.
    pub fn percent(&mut self, of_hundred: usize) -> bool {
        self.below(100) < of_hundred
    }
}

/// What a history may hold.
#[derive(Clone, Copy)]
pub struct Content {
    /// Entries of commits that are older than what is known of their account. Where records have no revs, a batch
    /// cannot tell them from others as well as one entry at a time can.
    pub late: bool,
}

/// One thing that happens.
struct Step {
    did: String,
    collection: &'static str,
    rkey: String,
    action: Action,
    backfilled: bool,
    /// How much older its commit is than the newest.
    late: usize,
    /// How many milliseconds its own time is ahead, or behind.
    clock: isize,
}

enum Action {
    Create(Value),
    Update(Value),
    Delete,
    Account { active: bool },
}

/// A world, by number: its accounts, and the dice that decide what they do.
struct World<'r> {
    number: usize,
    random: &'r mut Random,
}

impl World<'_> {
    fn did(&self, account: usize) -> String {
        format!("did:plc:w{}a{account}", self.number)
    }

    fn any_account(&mut self) -> String {
        let account = self.random.below(ACCOUNTS);
        self.did(account)
    }

    fn post_uri(&self, account: usize, slot: usize) -> String {
        uri(&self.did(account), POST, &format!("p{slot}"))
    }

    fn any_post(&mut self) -> String {
        let (account, slot) = (self.random.below(ACCOUNTS), self.random.below(POSTS));
        self.post_uri(account, slot)
    }

    /// One of the few posts that most of the talk is about.
    fn any_root(&mut self) -> String {
        let account = self.random.below(ROOTS);
        self.post_uri(account, 0)
    }

    fn list(did: &str) -> String {
        uri(did, LIST, "l")
    }

    fn steps(&mut self, content: Content) -> Vec<Step> {
        let mut steps: Vec<Step> = (0..STEPS).map(|_| self.step(content)).collect();
        // What the talk is about comes early, and often later than the first answer.
        for account in 0..ROOTS {
            if self.random.percent(85) {
                let record = post("root");
                let action = Action::Create(record);
                let backfilled = self.random.percent(25);
                let (did, rkey) = (self.did(account), "p0".to_owned());
                let root = Step { did, collection: POST, rkey, action, backfilled, late: 0, clock: 0 };
                steps.insert(self.random.below(8), root);
            }
        }
        steps
    }

    fn step(&mut self, content: Content) -> Step {
        let account = self.random.below(ACCOUNTS);
        let did = self.did(account);
        let backfilled = self.random.percent(25);
        let (collection, rkey, record) = match self.random.below(100) {
            0..42 => self.post(account),
            42..54 => self.thread_gate(),
            54..60 => self.post_gate(),
            60..68 => (FOLLOW, self.key("f"), about(&self.any_account())),
            68..74 => {
                let record = list_item(&Self::list(&did), &self.any_account());
                (LIST_ITEM, self.key("i"), record)
            }
            74..76 => (LIST, "l".to_owned(), self.version(json!({"purpose": "p"}), "name")),
            76..78 => (BLOCK, self.key("b"), about(&self.any_account())),
            78..86 => (LIKE, self.key("l"), self.signal()),
            86..91 => (REPOST, self.key("r"), self.signal()),
            91..93 => ("app.bsky.actor.profile", "self".to_owned(), self.version(json!({}), "displayName")),
            93..97 => {
                let record = json!({"subject": self.any_account(), "handle": "a.test"});
                ("app.bsky.graph.verification", self.key("v"), self.version(record, "displayName"))
            }
            _ => {
                let action = Action::Account { active: self.random.percent(50) };
                return Step {
                    did,
                    collection: "",
                    rkey: String::new(),
                    action,
                    backfilled: false,
                    late: 0,
                    clock: 0,
                };
            }
        };
        // A gate is its post's author's.
        let did = record["post"].as_str().map_or(did, |of| host(of).to_owned());
        let action = match self.random.below(100) {
            0..70 => Action::Create(record),
            70..84 => Action::Update(record),
            _ => Action::Delete,
        };
        let late = if content.late && backfilled && self.random.percent(30) {
            // A few entries of its account, or all of them.
            let oldest = if self.random.percent(80) { 60 } else { 4000 };
            1 + self.random.below(oldest)
        } else {
            0
        };
        // Times are those of hosts' clocks.
        let ahead = if self.random.percent(15) { self.random.below(4000) } else { 2000 };
        let clock = isize::try_from(ahead).unwrap() - 2000;
        Step { did, collection, rkey, action, backfilled, late, clock }
    }

    /// One of few keys, so that things are replaced, and said twice under different keys.
    fn key(&mut self, prefix: &str) -> String {
        format!("{prefix}{}", self.random.below(3))
    }

    /// One of two contents.
    fn version(&mut self, mut record: Value, field: &str) -> Value {
        record[field] = json!(format!("v{}", self.random.below(2)));
        record["createdAt"] = json!(AT);
        record
    }

    fn signal(&mut self) -> Value {
        let subject = if self.random.percent(50) { self.any_root() } else { self.any_post() };
        let mut record = signal(&subject);
        if self.random.percent(20) {
            record["via"] = strong(&uri(&self.any_account(), REPOST, "r0"));
        }
        record
    }

    fn post(&mut self, account: usize) -> (&'static str, String, Value) {
        let slot = self.random.below(POSTS);
        let own = self.post_uri(account, slot);
        let answers = if account < ROOTS && slot == 0 { 15 } else { 80 };
        let mut record = if self.random.percent(answers) {
            let root = self.any_root();
            let parent = match self.random.below(10) {
                0..4 => root.clone(),
                _ => self.any_post(),
            };
            reply(&root, &parent)
        } else {
            post("v")
        };
        record["text"] = json!(format!("v{}", self.random.below(2)));
        if self.random.percent(30) {
            let dids = [self.any_account(), self.any_account()];
            mention(&mut record, &dids);
        }
        let blob = |kind: &str| json!({"cid": CID, "mimeType": kind});
        match self.random.below(100) {
            0..25 => {
                let quoted = self.any_post();
                if quoted != own {
                    record["embed"] = json!({"$type": "app.bsky.embed.record", "record": strong(&quoted)});
                }
            }
            25..32 => {
                record["embed"] = json!({"$type": "app.bsky.embed.video", "video": blob("image/png")});
            }
            32..40 => {
                let image = json!({"image": blob("image/png"), "alt": "a"});
                record["embed"] = json!({"$type": "app.bsky.embed.images", "images": [image.clone(), image]});
            }
            _ => {}
        }
        (POST, format!("p{slot}"), record)
    }

    /// Whose post a gate closes: mostly one of those that the talk is about.
    fn gated(&mut self) -> (String, String) {
        let of = if self.random.percent(65) { self.any_root() } else { self.any_post() };
        let (_, rkey) = of.rsplit_once('/').unwrap();
        (rkey.to_owned(), of)
    }

    fn thread_gate(&mut self) -> (&'static str, String, Value) {
        let (rkey, of) = self.gated();
        let list = Self::list(host(&of));
        let own = format!("{}/p{}", of.rsplit_once('/').unwrap().0, 1 + self.random.below(POSTS - 1));
        let mut gate = json!({"post": of, "createdAt": AT});
        let rule = |name: &str| {
            let kind = format!("app.bsky.feed.threadgate#{name}");
            if name == "listRule" { json!({"$type": kind, "list": list}) } else { json!({"$type": kind}) }
        };
        let rules = ["mentionRule", "followingRule", "followerRule", "listRule"];
        match self.random.below(8) {
            0 => {}
            1 | 2 => gate["allow"] = json!([]),
            number @ 3..7 => gate["allow"] = json!([rule(rules[number - 3])]),
            _ => gate["allow"] = json!([rule(rules[0]), rule(rules[1 + self.random.below(3)])]),
        }
        if self.random.percent(40) {
            gate["hiddenReplies"] = json!([self.any_post(), own, self.any_post()]);
        }
        (THREAD_GATE, rkey, gate)
    }

    fn post_gate(&mut self) -> (&'static str, String, Value) {
        let (rkey, of) = self.gated();
        let mut gate = json!({"post": of, "createdAt": AT});
        if self.random.percent(60) {
            gate["embeddingRules"] = json!([{"$type": "app.bsky.feed.postgate#disableRule"}]);
        }
        (POST_GATE, rkey, gate)
    }
}

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
            entries.extend(several.into_iter().map(|step| (*world, write(&mut scribe, step))));
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

/// Whose record a uri is that of.
fn host(uri: &str) -> &str {
    uri.split('/').nth(2).unwrap()
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
