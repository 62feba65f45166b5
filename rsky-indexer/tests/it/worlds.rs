//! Random histories of small worlds: a few accounts who post, reply, quote, close their threads, change their minds and
//! delete. Worlds have nothing to do with each other.

use serde_json::{Value, json};

use crate::entries::{
    AT, BLOCK, CID, FOLLOW, LIKE, LIST, LIST_ITEM, POST, POST_GATE, REPOST, THREAD_GATE, about, list_item,
    mention, post, reply, signal, strong, uri,
};

/// Accounts of a world.
const ACCOUNTS: usize = 7;
/// Posts that each of them may have.
const POSTS: usize = 4;
/// Accounts whose first post most of the talk is about.
const ROOTS: usize = 2;
/// What happens in a world.
pub const STEPS: usize = 40;
/// The accounts of which one post has a name so long that it is written by itself, and so is what names it.
const WITH_LONG_NAMES: [usize; 2] = [1, 4];

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

/// Collection of starter packs.
const STARTER_PACK: &str = "app.bsky.graph.starterpack";

/// One thing that happens.
pub struct Step {
    pub did: String,
    pub collection: &'static str,
    pub rkey: String,
    pub action: Action,
    pub backfilled: bool,
    /// How much older its commit is than the newest.
    pub late: usize,
    /// How many milliseconds its own time is ahead, or behind.
    pub clock: isize,
}

impl Step {
    /// The same under another key.
    fn under(mut self, rkey: String) -> Self {
        let own = uri(&self.did, POST, &rkey);
        if let Action::Create(record) = &mut self.action {
            if record["post"].is_string() {
                record["post"] = json!(own);
            }
            // Nobody quotes himself.
            if record["embed"].to_string().contains(&format!("\"{own}\"")) {
                record["embed"] = json!({"$type": "app.bsky.embed.images", "images": []});
            }
        }
        self.rkey = rkey;
        self
    }
}

pub enum Action {
    Create(Value),
    Update(Value),
    Delete,
    Account { active: bool },
}

/// A world, by number: its accounts, and the dice that decide what they do.
pub struct World<'r> {
    pub number: usize,
    pub random: &'r mut Random,
}

impl World<'_> {
    fn did(&self, account: usize) -> String {
        format!("did:plc:w{}a{account}", self.number)
    }

    fn any_account(&mut self) -> String {
        let account = self.random.below(ACCOUNTS);
        self.did(account)
    }

    /// The key of a post of an account.
    fn post_key(account: usize, slot: usize) -> String {
        let is_long = slot == POSTS - 1 && WITH_LONG_NAMES.contains(&account);
        if is_long { format!("p{slot}").repeat(330) } else { format!("p{slot}") }
    }

    fn post_uri(&self, account: usize, slot: usize) -> String {
        uri(&self.did(account), POST, &Self::post_key(account, slot))
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

    pub fn steps(&mut self, content: Content) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::with_capacity(STEPS + ROOTS);
        while steps.len() < STEPS {
            let step = self.step(content);
            // What goes often comes again at once, as it was or as something else.
            let comes_again = match &step.action {
                Action::Delete if self.random.percent(35) => Some((step.did.clone(), step.rkey.clone())),
                _ => None,
            };
            let (collection, backfilled) = (step.collection, step.backfilled);
            steps.push(step);
            if let Some((did, rkey)) = comes_again
                && let Some(again) = self.step_of(content, collection, &did)
            {
                steps.push(Step { backfilled, late: 0, ..again.under(rkey) });
            }
        }
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

    /// A create of this collection by this account, if one comes to mind soon.
    fn step_of(&mut self, content: Content, collection: &str, did: &str) -> Option<Step> {
        let mut ideas = (0..60).map(|_| self.step(content));
        let fits = |step: &Step| {
            step.collection == collection && step.did == did && matches!(step.action, Action::Create(_))
        };
        ideas.find(fits)
    }

    fn step(&mut self, content: Content) -> Step {
        let account = self.random.below(ACCOUNTS);
        let did = self.did(account);
        let backfilled = self.random.percent(25);
        let (collection, rkey, record) = match self.random.below(104) {
            100..102 => {
                let record = json!({"subject": Self::list(&self.any_account()), "createdAt": AT});
                ("app.bsky.graph.listblock", self.key("b"), record)
            }
            102..104 => {
                let record = self.version(json!({"list": Self::list(&did)}), "name");
                (STARTER_PACK, self.key("s"), record)
            }
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
            91..93 => ("app.bsky.actor.profile", "self".to_owned(), self.profile()),
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

    fn profile(&mut self) -> Value {
        let mut record = self.version(json!({}), "displayName");
        if self.random.percent(50) {
            record["joinedViaStarterPack"] = strong(&uri(&self.any_account(), STARTER_PACK, "s0"));
        }
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
                    if self.random.percent(20) {
                        let image = json!({"image": blob("image/png"), "alt": "a"});
                        let media = json!({"$type": "app.bsky.embed.images", "images": [image]});
                        record["embed"] = json!({"$type": "app.bsky.embed.recordWithMedia",
                            "record": {"record": strong(&quoted)}, "media": media});
                    }
                }
                if record["reply"].is_null() && self.random.percent(40) {
                    let root = self.any_root();
                    record["reply"] = reply(&root, &root)["reply"].clone();
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
        (POST, Self::post_key(account, slot), record)
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

/// Whose record a uri is that of.
fn host(uri: &str) -> &str {
    uri.split('/').nth(2).unwrap()
}
