//! Repositories come one after the other in a backfill, so replies and quotes come before the posts they are about, and
//! posts before their gates. What is shown in the end is what is shown when the gate was there first (DECISIONS 13).

use std::fmt;

use rsky_testnet::servers::Redis;

use crate::counters;
use crate::entries::{
    FOLLOW, LIST_ITEM, POST, POST_GATE, Scribe, THREAD_GATE, about, list_item, mention, post, post_gate,
    quote, reply, thread_gate, thread_gate_by_list, uri,
};
use crate::process::{Indexer, LIVE, add, assert_no_dead_letters, count, wait_drained};
use crate::support::Db;

const BACKFILL: &str = "firehose_backfill";

/// What happens in a thread, in one order or another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Post,
    /// The thread's gate.
    Gate,
    /// By somebody, to the post.
    Reply,
    /// By somebody else, to the reply.
    Second,
    QuoteGate,
    Quote,
}

use Event::{Gate, Post, Quote, QuoteGate, Reply, Second};

impl Event {
    /// Of the account that wrote the post.
    fn is_of_author(self) -> bool {
        matches!(self, Post | Gate | QuoteGate)
    }
}

/// Whom the gate allows.
#[derive(Clone, Copy, Debug)]
enum Rule {
    Nobody,
    /// The post mentions the first who replies.
    Mentioned,
    /// The author follows the first who replies.
    Followed,
    /// The first who replies follows the author.
    Follower,
    /// The first who replies is on a list of the author's.
    Listed,
}

const RULES: [Rule; 5] = [Rule::Nobody, Rule::Mentioned, Rule::Followed, Rule::Follower, Rule::Listed];

/// An order, and the order with the gates first that it has to come out as.
type Orders = (Vec<Event>, Vec<Event>);

/// Every order of these.
fn permutations(events: &[Event]) -> Vec<Vec<Event>> {
    if events.len() < 2 {
        return vec![events.to_vec()];
    }
    let first = |at: usize| {
        let mut rest = events.to_vec();
        let event = rest.remove(at);
        permutations(&rest).into_iter().map(move |order| [vec![event], order].concat())
    };
    (0..events.len()).flat_map(first).collect()
}

/// Every order in which no answer comes between the post and its gate: such a one was allowed when it came, and stays.
fn orders(answers: &[Event], gate: Event) -> Vec<Orders> {
    let all = permutations(&[&[Post, gate], answers].concat());
    let with_gate_first = |order: Vec<Event>| {
        let place = |event| order.iter().position(|other| *other == event).unwrap();
        let (post, gate_at) = (place(Post), place(gate));
        let between = answers.iter().any(|answer| (post..gate_at).contains(&place(*answer)));
        let of_author = if post < gate_at { [Post, gate] } else { [gate, Post] };
        (!between).then(|| (order, [&of_author, answers].concat()))
    };
    all.into_iter().filter_map(with_gate_first).collect()
}

fn all_orders() -> Vec<Orders> {
    [orders(&[Reply, Second], Gate), orders(&[Quote], QuoteGate)].concat()
}

/// A thread: how its events are ordered, and whom its gate allows.
struct Thread {
    number: usize,
    order: Vec<Event>,
    rule: Rule,
}

impl Thread {
    fn did(&self, role: &str) -> String {
        format!("did:plc:{role}{}", self.number)
    }

    fn root(&self) -> String {
        uri(&self.did("author"), POST, "p")
    }

    fn list(&self) -> String {
        uri(&self.did("author"), "app.bsky.graph.list", "l")
    }

    /// What is known before any of the events.
    fn before(&self, scribe: &mut Scribe) -> Option<String> {
        let (author, first) = (self.did("author"), self.did("first"));
        Some(match self.rule {
            Rule::Nobody | Rule::Mentioned => return None,
            Rule::Followed => scribe.create(&author, FOLLOW, "f", about(&first)),
            Rule::Follower => scribe.create(&first, FOLLOW, "f", about(&author)),
            Rule::Listed => scribe.create(&author, LIST_ITEM, "i", list_item(&self.list(), &first)),
        })
    }

    fn entry(&self, scribe: &mut Scribe, event: Event) -> String {
        let (author, root) = (self.did("author"), self.root());
        let first = self.did("first");
        match event {
            Post => {
                let mut record = post("root");
                if matches!(self.rule, Rule::Mentioned) {
                    mention(&mut record, &[first]);
                }
                scribe.create(&author, POST, "p", record)
            }
            Gate => {
                let gate = match self.rule {
                    Rule::Nobody => thread_gate(&root, &[]),
                    Rule::Mentioned => thread_gate(&root, &["mentionRule"]),
                    Rule::Followed => thread_gate(&root, &["followingRule"]),
                    Rule::Follower => thread_gate(&root, &["followerRule"]),
                    Rule::Listed => thread_gate_by_list(&root, &self.list()),
                };
                scribe.create(&author, THREAD_GATE, "p", gate)
            }
            Reply => scribe.create(&first, POST, "r", reply(&root, &root)),
            Second => {
                let parent = uri(&first, POST, "r");
                scribe.create(&self.did("second"), POST, "r", reply(&root, &parent))
            }
            QuoteGate => scribe.create(&author, POST_GATE, "p", post_gate(&root)),
            Quote => scribe.create(&self.did("quoter"), POST, "q", quote(&root)),
        }
    }
}

/// Which entries are live; the others are backfilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Live {
    None,
    Answers,
    OfAuthor,
}

/// How a run is set up.
#[derive(Clone, Copy, Debug)]
struct Setup {
    live: Live,
    lanes: usize,
    batch: usize,
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { live, lanes, batch } = self;
        write!(f, "live: {live:?}, lanes {lanes}, batch {batch}")
    }
}

/// Each post with what is said of it.
const SHOWN: &str = r#"SELECT uri, "invalidReplyRoot", "violatesThreadGate", "violatesEmbeddingRules", "hasThreadGate",
        "hasPostGate", coalesce("replyCount", 0), coalesce("quoteCount", 0)
    FROM post LEFT JOIN post_agg USING (uri) ORDER BY uri"#;

/// The rows of threads whose events come in these orders: first the first of every thread, then the second.
fn run(setup: Setup, threads: &[Thread]) -> Vec<String> {
    let (redis, db) = (Redis::start().unwrap(), Db::new("backfill_order"));
    let (lanes, batch) = (setup.lanes.to_string(), setup.batch.to_string());
    let settings = [
        ("INDEXER_CONCURRENCY", lanes.as_str()),
        ("INDEXER_BATCH_SIZE", &batch),
        ("INDEXER_NOTIFICATIONS", "live"),
    ];
    let mut scribe = Scribe::backfilled();
    let before: Vec<String> = threads.iter().filter_map(|thread| thread.before(&mut scribe)).collect();
    add(&redis, BACKFILL, &before);
    let mut indexer = Indexer::start(&redis.url(), db.url(), &settings);
    wait_drained(&redis, BACKFILL);
    indexer.kill();

    let (mut live, mut backfilled) = (Vec::new(), Vec::new());
    let most = threads.iter().map(|thread| thread.order.len()).max().unwrap();
    for place in 0..most {
        for thread in threads {
            let Some(event) = thread.order.get(place).copied() else { continue };
            let is_live = match setup.live {
                Live::None => false,
                Live::Answers => !event.is_of_author(),
                Live::OfAuthor => event.is_of_author(),
            };
            scribe.set_backfilled(!is_live);
            let entry = thread.entry(&mut scribe, event);
            if is_live { live.push(entry) } else { backfilled.push(entry) }
        }
    }
    add(&redis, LIVE, &live);
    add(&redis, BACKFILL, &backfilled);
    indexer.restart();
    wait_drained(&redis, LIVE);
    wait_drained(&redis, BACKFILL);
    assert_no_dead_letters(&redis);
    assert_eq!(counters::wrong(&db), Vec::<String>::new(), "{setup}");
    let told_of_forbidden = r#"notification n JOIN post p ON p.uri = n."recordUri"
        WHERE n.reason = 'reply' AND p."violatesThreadGate" OR n.reason = 'quote' AND p."violatesEmbeddingRules""#;
    assert_eq!(count(&db, told_of_forbidden), 0, "{setup}: told of what is hidden");
    if setup.live == Live::None {
        assert_eq!(count(&db, "notification"), 0, "a backfill tells nobody");
    }
    db.sql(SHOWN).lines().map(str::to_owned).collect()
}

/// Compares every order under every rule with the one that has the gate first.
fn check(setup: Setup) {
    let threads = |which: fn(Orders) -> Vec<Event>| -> Vec<Thread> {
        let with_rules = all_orders().into_iter().flat_map(|orders| RULES.map(|rule| (orders.clone(), rule)));
        with_rules
            .enumerate()
            .map(|(number, (orders, rule))| Thread { number, order: which(orders), rule })
            .collect()
    };
    let (tested, gate_first) = (threads(|orders| orders.0), threads(|orders| orders.1));
    let found = run(setup, &tested);
    let expected = run(Setup { live: Live::None, lanes: 1, batch: 50 }, &gate_first);
    let violating = expected.iter().filter(|row| row.contains("|f|t|")).count();
    assert!(
        violating * 4 > expected.len(),
        "the gates forbid next to nothing: {violating} of {}",
        expected.len()
    );
    assert_eq!(found.len(), expected.len());
    let unlike: Vec<String> = found
        .iter()
        .zip(&expected)
        .filter(|(found, expected)| found != expected)
        .map(|(found, expected)| {
            let author = tested.iter().find(|thread| found.contains(&format!("{}/", thread.did("author"))));
            let of = |thread: &Thread| format!("{:?}, {:?}", thread.rule, thread.order);
            format!("\n{found} is to be {expected} {}", author.map(of).unwrap_or_default())
        })
        .collect();
    let shown = unlike.iter().take(12).cloned().collect::<String>();
    assert!(unlike.is_empty(), "{setup}: {} of {} posts:{shown}", unlike.len(), expected.len());
}

/// What was allowed when it came stays, as in the reference.
#[test]
fn a_gate_changes_nothing_about_the_answers_before_it() {
    for lanes in [1, 3] {
        let thread = |number| {
            let order =
                if number % 2 == 0 { vec![Post, Reply, Second, Gate] } else { vec![Post, Quote, QuoteGate] };
            Thread { number, order, rule: Rule::Nobody }
        };
        let threads: Vec<Thread> = (0..60).map(thread).collect();
        let rows = run(Setup { live: Live::None, lanes, batch: 50 }, &threads);
        let hidden: Vec<&String> =
            rows.iter().filter(|row| !row.contains("/p|") && !row.contains("||||||")).collect();
        assert!(hidden.is_empty(), "{lanes} lanes: {hidden:?}");
        let counted = |row: &&String| row.ends_with("|t||1|0") || row.ends_with("||t|0|1");
        assert_eq!(rows.iter().filter(counted).count(), threads.len(), "{lanes} lanes: {rows:?}");
    }
}

#[test]
fn one_lane() {
    check(Setup { live: Live::None, lanes: 1, batch: 50 });
}

#[test]
fn one_lane_and_one_batch() {
    check(Setup { live: Live::None, lanes: 1, batch: 4000 });
}

#[test]
fn three_lanes() {
    check(Setup { live: Live::None, lanes: 3, batch: 50 });
}

#[test]
fn answers_live_and_the_rest_backfilled() {
    for lanes in [1, 3] {
        check(Setup { live: Live::Answers, lanes, batch: 50 });
    }
}

#[test]
fn answers_backfilled_and_the_rest_live() {
    for lanes in [1, 3] {
        check(Setup { live: Live::OfAuthor, lanes, batch: 50 });
    }
}
