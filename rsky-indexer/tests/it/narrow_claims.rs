//! Small histories in which one entry depends on another by way of a third: what they end in does not depend on how many
//! lanes there are, nor on which entries share a batch.

use rsky_indexer::engine::Notifications;
use rsky_testnet::servers::{Generation, Redis};
use serde_json::{Value, json};

use crate::entries::{
    AT, FOLLOW, LIST, LIST_ITEM, POST, POST_GATE, REPOST, Scribe, THREAD_GATE, about, list_item, post,
    post_gate, quote, reply, signal, thread_gate, thread_gate_by_list, uri,
};
use crate::histories::{Stream, all_rows, apply_one_by_one, differences, mute_threads, world_of};
use crate::process::{Indexer, LIVE, add, assert_no_dead_letters, block_on, wait_drained};
use crate::support::Db;

/// How often each history is told: half of them in one go, half entry by entry beside the others.
const COPIES: usize = 2;

/// A history, told of accounts of its own. What comes first is indexed before the rest is in the stream.
pub struct Tale<'s> {
    pub scribe: &'s mut Scribe,
    world: usize,
    first: Vec<String>,
    then: Vec<String>,
    is_first: bool,
}

impl Tale<'_> {
    pub fn did(&self, account: char) -> String {
        format!("did:plc:w{}a{account}", self.world)
    }

    pub fn post_of(&self, account: char, rkey: &str) -> String {
        uri(&self.did(account), POST, rkey)
    }

    pub fn list(&self) -> String {
        uri(&self.did('a'), LIST, "l")
    }

    pub fn push(&mut self, entry: String) {
        let part = if self.is_first { &mut self.first } else { &mut self.then };
        part.push(entry);
    }

    /// All that was told so far is indexed before what follows is in the stream.
    pub fn then(&mut self) {
        self.is_first = false;
    }

    pub fn create(&mut self, account: char, collection: &str, rkey: &str, record: Value) {
        let entry = self.scribe.create(&self.did(account), collection, rkey, record);
        self.push(entry);
    }

    pub fn update(&mut self, account: char, collection: &str, rkey: &str, record: Value) {
        let entry = self.scribe.update(&self.did(account), collection, rkey, record);
        self.push(entry);
    }

    pub fn delete(&mut self, account: char, collection: &str, rkey: &str) {
        let entry = self.scribe.delete(&self.did(account), collection, rkey);
        self.push(entry);
    }

    /// A record of an older commit than what is known, from a backfill.
    pub fn create_late(&mut self, account: char, collection: &str, rkey: &str, record: Value) {
        self.scribe.set_backfilled(true);
        self.scribe.set_late(100_000);
        self.create(account, collection, rkey, record);
        self.scribe.set_late(0);
        self.scribe.set_backfilled(false);
    }

    /// The post that it is about.
    pub fn root(&mut self) {
        self.create('a', POST, "p", post("root"));
    }

    pub fn gate(&self, rules: &[&str]) -> Value {
        thread_gate(&self.post_of('a', "p"), rules)
    }

    /// Somebody answers a post in the thread.
    pub fn answer(&mut self, account: char, rkey: &str, parent: (char, &str)) {
        let record = reply(&self.post_of('a', "p"), &self.post_of(parent.0, parent.1));
        self.create(account, POST, rkey, record);
    }

    pub fn follow(&mut self, account: char, rkey: &str, whom: char) {
        let record = about(&self.did(whom));
        self.create(account, FOLLOW, rkey, record);
    }

    pub fn refollow(&mut self, account: char, rkey: &str, whom: char) {
        let record = about(&self.did(whom));
        self.update(account, FOLLOW, rkey, record);
    }

    pub fn put_on_list(&mut self, rkey: &str, whom: char) {
        let record = list_item(&self.list(), &self.did(whom));
        self.create('a', LIST_ITEM, rkey, record);
    }
}

/// The owner answers, which makes another's reply sound, and then opens the thread.
fn the_owner_answers_and_the_gate_goes(tale: &mut Tale<'_>) {
    tale.root();
    let gate = tale.gate(&[]);
    tale.create('a', THREAD_GATE, "p", gate);
    tale.answer('b', "r", ('a', "q"));
    tale.then();
    tale.answer('a', "q", ('a', "p"));
    tale.delete('a', THREAD_GATE, "p");
}

/// Who is told of the owner's answer is said by the hidden replies.
fn the_owner_tells_and_the_gate_goes(tale: &mut Tale<'_>) {
    tale.root();
    tale.answer('c', "c", ('a', "p"));
    tale.answer('b', "b", ('c', "c"));
    let gate =
        json!({"post": tale.post_of('a', "p"), "createdAt": AT, "hiddenReplies": [tale.post_of('b', "b")]});
    tale.create('a', THREAD_GATE, "p", gate);
    tale.then();
    tale.answer('a', "q", ('b', "b"));
    tale.delete('a', THREAD_GATE, "p");
}

/// A follow that was a duplicate of one that went elsewhere is delivered again, which changes nothing.
fn a_follow_that_does_not_count(tale: &mut Tale<'_>) {
    tale.root();
    let gate = tale.gate(&["followingRule"]);
    tale.create('a', THREAD_GATE, "p", gate);
    tale.follow('a', "f", 'b');
    tale.follow('a', "g", 'b');
    tale.refollow('a', "f", 'c');
    tale.then();
    let record = about(&tale.did('b'));
    tale.create_late('a', FOLLOW, "g", record);
    tale.answer('b', "r", ('a', "p"));
}

/// A gate that was deleted comes once more, late, beside the post.
fn a_late_gate_and_its_post(tale: &mut Tale<'_>) {
    let gate = tale.gate(&[]);
    tale.create('a', THREAD_GATE, "p", gate.clone());
    tale.delete('a', THREAD_GATE, "p");
    tale.answer('b', "r", ('a', "p"));
    tale.then();
    tale.create_late('a', THREAD_GATE, "p", gate);
    tale.root();
}

/// The same, with the reply in the same batch.
fn a_late_gate_after_reply_and_post(tale: &mut Tale<'_>) {
    let gate = tale.gate(&[]);
    tale.create('a', THREAD_GATE, "p", gate.clone());
    tale.delete('a', THREAD_GATE, "p");
    tale.then();
    tale.answer('b', "r", ('a', "p"));
    tale.root();
    tale.create_late('a', THREAD_GATE, "p", gate);
}

/// An earlier version of a gate comes late, beside the post.
fn a_late_version_of_a_gate_and_its_post(tale: &mut Tale<'_>) {
    let (closed, open) = (tale.gate(&[]), tale.gate(&["followerRule"]));
    tale.create('a', THREAD_GATE, "p", closed.clone());
    tale.follow('b', "f", 'a');
    tale.update('a', THREAD_GATE, "p", open);
    tale.answer('b', "r", ('a', "p"));
    tale.then();
    tale.create_late('a', THREAD_GATE, "p", closed);
    tale.root();
}

/// A late post gate beside the post that is quoted.
fn a_late_post_gate_and_its_post(tale: &mut Tale<'_>) {
    let p = tale.post_of('a', "p");
    tale.create('a', POST_GATE, "p", post_gate(&p));
    tale.delete('a', POST_GATE, "p");
    tale.create('b', POST, "q", quote(&p));
    tale.then();
    tale.create_late('a', POST_GATE, "p", post_gate(&p));
    tale.root();
}

/// A follow that waits behind another for what the other says no longer.
fn a_follow_in_waiting(tale: &mut Tale<'_>) {
    tale.root();
    let gate = tale.gate(&["followingRule"]);
    tale.create('a', THREAD_GATE, "p", gate);
    tale.follow('a', "f", 'b');
    tale.follow('a', "g", 'b');
    tale.refollow('a', "f", 'c');
}

fn an_answer_before_a_follow_moves_up(tale: &mut Tale<'_>) {
    a_follow_in_waiting(tale);
    tale.then();
    tale.answer('b', "r", ('a', "p"));
    tale.delete('a', FOLLOW, "f");
}

fn an_answer_after_a_follow_moves_up(tale: &mut Tale<'_>) {
    a_follow_in_waiting(tale);
    tale.then();
    tale.delete('a', FOLLOW, "f");
    tale.answer('b', "r", ('a', "p"));
}

/// Two are in waiting: one moves up for the other, and goes itself.
fn who_moves_up_goes(tale: &mut Tale<'_>, steps: [&str; 3]) {
    a_follow_in_waiting(tale);
    tale.then();
    for step in steps {
        match step {
            "r" => tale.answer('b', "r", ('a', "p")),
            follow => tale.delete('a', FOLLOW, follow),
        }
    }
}

fn an_answer_before_who_moved_up_goes(tale: &mut Tale<'_>) {
    who_moves_up_goes(tale, ["f", "r", "g"]);
}

fn an_answer_after_who_moved_up_goes(tale: &mut Tale<'_>) {
    who_moves_up_goes(tale, ["f", "g", "r"]);
}

/// What is judged when the post comes that it answers.
fn a_post_before_a_follow_moves_up(tale: &mut Tale<'_>) {
    a_follow_in_waiting(tale);
    tale.answer('b', "r", ('c', "q"));
    tale.then();
    tale.answer('c', "q", ('a', "p"));
    tale.delete('a', FOLLOW, "f");
}

fn a_list_item_moves_up(tale: &mut Tale<'_>, answers_first: bool) {
    tale.root();
    let gate = thread_gate_by_list(&tale.post_of('a', "p"), &tale.list());
    tale.create('a', THREAD_GATE, "p", gate);
    tale.put_on_list("i", 'b');
    tale.put_on_list("j", 'b');
    let other = list_item(&tale.list(), &tale.did('c'));
    tale.update('a', LIST_ITEM, "i", other);
    tale.then();
    if answers_first {
        tale.answer('b', "r", ('a', "p"));
    }
    tale.delete('a', LIST_ITEM, "i");
    tale.answer('b', "s", ('a', "p"));
}

fn an_answer_after_a_list_item_moves_up(tale: &mut Tale<'_>) {
    a_list_item_moves_up(tale, false);
}

fn an_answer_before_a_list_item_moves_up(tale: &mut Tale<'_>) {
    a_list_item_moves_up(tale, true);
}

/// A repost that waits behind another, of a post that goes.
fn a_repost_moves_up_and_its_post_goes(tale: &mut Tale<'_>) {
    let (p, q) = (tale.post_of('a', "p"), tale.post_of('a', "q"));
    tale.root();
    tale.create('a', POST, "q", post("other"));
    tale.create('b', REPOST, "r", signal(&p));
    tale.create('b', REPOST, "s", signal(&p));
    tale.update('b', REPOST, "r", signal(&q));
    tale.then();
    tale.delete('b', REPOST, "r");
    tale.delete('a', POST, "p");
}

fn a_post_goes_and_its_repost_moves_up(tale: &mut Tale<'_>) {
    let (p, q) = (tale.post_of('a', "p"), tale.post_of('a', "q"));
    tale.root();
    tale.create('a', POST, "q", post("other"));
    tale.create('b', REPOST, "r", signal(&p));
    tale.create('b', REPOST, "s", signal(&p));
    tale.update('b', REPOST, "r", signal(&q));
    tale.then();
    tale.delete('a', POST, "p");
    tale.delete('b', REPOST, "r");
}

/// A quote that claims to be later than the post it is of, and earlier than the gate.
fn a_quote_between_a_post_and_its_gate_by_their_times(tale: &mut Tale<'_>) {
    let p = tale.post_of('a', "p");
    tale.create('b', POST, "q", quote(&p));
    tale.then();
    tale.create('a', POST_GATE, "p", post_gate(&p));
    tale.scribe.set_clock(-3000);
    tale.root();
    tale.scribe.set_clock(0);
}

/// A reply that claims to be later than the gate of its thread.
fn a_reply_ahead_of_its_time(tale: &mut Tale<'_>) {
    tale.root();
    tale.scribe.set_clock(3000);
    tale.answer('b', "r", ('a', "p"));
    tale.scribe.set_clock(0);
    tale.then();
    tale.scribe.set_clock(3000);
    tale.answer('c', "s", ('b', "r"));
    tale.answer('c', "t", ('b', "none"));
    tale.scribe.set_clock(0);
    let gate = tale.gate(&["followerRule"]);
    tale.create('a', THREAD_GATE, "p", gate);
    tale.follow('c', "f", 'a');
    tale.answer('b', "none", ('b', "r"));
}

/// A gate that goes and comes back as it was, with the list changed before and after.
fn the_same_gate_again(tale: &mut Tale<'_>) {
    let gate = thread_gate_by_list(&tale.post_of('a', "p"), &tale.list());
    tale.answer('b', "r", ('a', "p"));
    tale.answer('c', "s", ('a', "p"));
    tale.put_on_list("i", 'b');
    tale.put_on_list("j", 'c');
    tale.root();
    tale.create('a', THREAD_GATE, "p", gate.clone());
    tale.then();
    tale.delete('a', LIST_ITEM, "i");
    tale.delete('a', THREAD_GATE, "p");
    tale.create('a', THREAD_GATE, "p", gate);
    tale.put_on_list("k", 'b');
}

/// A reply that comes again tells those above it, of whom one goes right after it.
fn a_reply_comes_again_and_tells(tale: &mut Tale<'_>) {
    tale.root();
    tale.answer('b', "b", ('a', "p"));
    tale.answer('c', "c", ('b', "b"));
    tale.answer('d', "d", ('c', "c"));
    tale.then();
    tale.delete('d', POST, "d");
    tale.answer('d', "d", ('c', "c"));
    tale.delete('b', POST, "b");
}

/// Followed and not, again and again, while the replies wait for the root.
fn followed_and_not(tale: &mut Tale<'_>) {
    tale.answer('b', "r", ('a', "p"));
    tale.answer('c', "s", ('b', "r"));
    let gate = tale.gate(&["followerRule", "followingRule"]);
    tale.create('a', THREAD_GATE, "p", gate);
    tale.follow('b', "f", 'a');
    tale.then();
    tale.follow('a', "h", 'c');
    tale.delete('b', FOLLOW, "f");
    tale.root();
    tale.delete('a', FOLLOW, "h");
    tale.follow('b', "f", 'a');
    tale.answer('d', "t", ('c', "s"));
    tale.follow('d', "f", 'a');
    tale.answer('d', "u", ('c', "s"));
}

/// On the list and not, while the replies wait for the root, and for the gate.
fn listed_and_not(tale: &mut Tale<'_>) {
    tale.answer('b', "r", ('a', "p"));
    tale.answer('c', "s", ('a', "p"));
    tale.put_on_list("i", 'b');
    tale.then();
    tale.put_on_list("j", 'c');
    tale.delete('a', LIST_ITEM, "i");
    tale.root();
    let gate = thread_gate_by_list(&tale.post_of('a', "p"), &tale.list());
    tale.create('a', THREAD_GATE, "p", gate.clone());
    tale.put_on_list("i", 'b');
    tale.delete('a', LIST_ITEM, "j");
    tale.delete('a', THREAD_GATE, "p");
    tale.create('a', THREAD_GATE, "p", gate);
    tale.put_on_list("k", 'c');
}

/// A gate of a post that is a reply, and a root later.
fn a_reply_with_a_gate_becomes_a_root(tale: &mut Tale<'_>) {
    let record = reply(&tale.post_of('b', "o"), &tale.post_of('b', "o"));
    tale.create('b', POST, "o", post("other"));
    tale.create('a', POST, "p", record);
    tale.answer('c', "r", ('a', "p"));
    tale.answer('d', "s", ('c', "r"));
    tale.then();
    let gate = tale.gate(&["followerRule"]);
    tale.create('a', THREAD_GATE, "p", gate);
    tale.follow('d', "f", 'a');
    tale.update('a', POST, "p", post("a root now"));
    tale.delete('d', FOLLOW, "f");
    tale.delete('a', THREAD_GATE, "p");
}

/// The post between goes, and comes in another thread, and comes back.
fn a_post_changes_its_thread(tale: &mut Tale<'_>) {
    tale.root();
    tale.create('b', POST, "o", post("other"));
    tale.answer('c', "m", ('a', "p"));
    tale.answer('d', "r", ('c', "m"));
    tale.then();
    let gate = tale.gate(&[]);
    let elsewhere = reply(&tale.post_of('b', "o"), &tale.post_of('b', "o"));
    let here = reply(&tale.post_of('a', "p"), &tale.post_of('a', "p"));
    tale.update('c', POST, "m", elsewhere);
    tale.answer('d', "s", ('c', "m"));
    tale.create('a', THREAD_GATE, "p", gate);
    tale.update('c', POST, "m", here);
    tale.delete('a', THREAD_GATE, "p");
    tale.answer('d', "t", ('c', "m"));
    tale.delete('c', POST, "m");
}

/// The owner of a post answers himself, with quotes of posts that are not there yet.
fn quotes_by_and_of_the_owner(tale: &mut Tale<'_>) {
    let q = tale.post_of('a', "q");
    tale.create('b', POST, "k", quote(&q));
    tale.root();
    tale.then();
    tale.create('a', POST_GATE, "q", post_gate(&q));
    tale.create('c', POST, "k", quote(&q));
    tale.answer('a', "q", ('a', "p"));
    tale.delete('a', POST_GATE, "q");
    tale.create('d', POST, "k", quote(&q));
    tale.delete('a', POST, "q");
    tale.create('a', POST_GATE, "q", post_gate(&q));
    tale.create('b', POST, "l", quote(&q));
    tale.answer('a', "q", ('a', "p"));
}

/// Somebody answers and quotes a post that is not there yet: its author is told of the quote when it comes, and so not of
/// the answer when the post comes; then quotes are forbidden, and the word of the quote is taken back.
fn who_was_told_of_a_quote_is_not_told_of_the_answer(tale: &mut Tale<'_>) {
    let root = tale.post_of('a', "p");
    let mut record = quote(&root);
    record["reply"] = reply(&root, &root)["reply"].clone();
    tale.create('b', POST, "k", record);
    tale.then();
    tale.root();
    tale.create('a', POST_GATE, "p", post_gate(&root));
}

/// As before, but the thread of the quoted post is muted by its author, who is told of the answer for this.
fn who_muted_the_quoted_thread_is_told_of_the_answer(tale: &mut Tale<'_>) {
    let (muted, root) = (tale.post_of('0', "p0"), tale.post_of('1', "p"));
    tale.create('0', POST, "p0", post("muted"));
    tale.create('1', POST, "q", reply(&muted, &muted));
    tale.then();
    let mut record = quote(&tale.post_of('1', "q"));
    record["reply"] = reply(&root, &root)["reply"].clone();
    tale.create('2', POST, "k", record);
    tale.create('1', POST, "p", post("root"));
}

/// A reply to itself claims to have come after the gate that comes after it: nobody finds it below the root.
fn a_reply_to_itself_ahead_of_its_time(tale: &mut Tale<'_>) {
    tale.root();
    tale.then();
    tale.scribe.set_clock(60_000);
    tale.answer('b', "r", ('b', "r"));
    tale.answer('c', "r", ('a', "p"));
    tale.scribe.set_clock(0);
    let gate = tale.gate(&[]);
    tale.create('a', THREAD_GATE, "p", gate);
}

/// A reply tells those above it, who are by turns in the tables and in its own batch.
fn those_above_are_old_and_new_by_turns(tale: &mut Tale<'_>) {
    tale.root();
    tale.answer('b', "b", ('c', "c"));
    tale.then();
    // A backfill tells nobody itself.
    tale.scribe.set_backfilled(true);
    tale.answer('c', "c", ('a', "p"));
    tale.scribe.set_backfilled(false);
    tale.answer('d', "d", ('b', "b"));
}

/// The one to be told stands in the tables, above one that is on its way, above one that stands in the tables; and goes.
fn one_above_goes_behind_one_on_its_way(tale: &mut Tale<'_>) {
    tale.root();
    tale.answer('c', "c", ('a', "p"));
    tale.answer('b', "b", ('e', "e"));
    tale.then();
    tale.scribe.set_backfilled(true);
    tale.answer('e', "e", ('c', "c"));
    tale.scribe.set_backfilled(false);
    tale.answer('d', "d", ('b', "b"));
    tale.delete('c', POST, "c");
}

pub type Teller = fn(&mut Tale<'_>);

const TALES: &[(&str, Teller)] = &[
    ("the owner answers and the gate goes", the_owner_answers_and_the_gate_goes),
    ("the owner tells and the gate goes", the_owner_tells_and_the_gate_goes),
    ("a follow that does not count", a_follow_that_does_not_count),
    ("a late gate and its post", a_late_gate_and_its_post),
    ("a late gate after reply and post", a_late_gate_after_reply_and_post),
    ("a late version of a gate and its post", a_late_version_of_a_gate_and_its_post),
    ("a late post gate and its post", a_late_post_gate_and_its_post),
    ("an answer before a follow moves up", an_answer_before_a_follow_moves_up),
    ("an answer after a follow moves up", an_answer_after_a_follow_moves_up),
    ("a post before a follow moves up", a_post_before_a_follow_moves_up),
    ("an answer before who moved up goes", an_answer_before_who_moved_up_goes),
    ("an answer after who moved up goes", an_answer_after_who_moved_up_goes),
    ("an answer before a list item moves up", an_answer_before_a_list_item_moves_up),
    ("an answer after a list item moves up", an_answer_after_a_list_item_moves_up),
    ("a repost moves up and its post goes", a_repost_moves_up_and_its_post_goes),
    ("a post goes and its repost moves up", a_post_goes_and_its_repost_moves_up),
    ("a quote between a post and its gate", a_quote_between_a_post_and_its_gate_by_their_times),
    ("a reply ahead of its time", a_reply_ahead_of_its_time),
    ("the same gate again", the_same_gate_again),
    ("a reply comes again and tells", a_reply_comes_again_and_tells),
    ("followed and not", followed_and_not),
    ("listed and not", listed_and_not),
    ("a reply with a gate becomes a root", a_reply_with_a_gate_becomes_a_root),
    ("a post changes its thread", a_post_changes_its_thread),
    ("quotes by and of the owner", quotes_by_and_of_the_owner),
    ("a reply to itself ahead of its time", a_reply_to_itself_ahead_of_its_time),
    ("those above are old and new by turns", those_above_are_old_and_new_by_turns),
    ("one above goes behind one on its way", one_above_goes_behind_one_on_its_way),
    ("told of a quote and not of the answer", who_was_told_of_a_quote_is_not_told_of_the_answer),
    ("muted the quoted thread and told", who_muted_the_quoted_thread_is_told_of_the_answer),
];

/// The entries of all tales, by world: what comes first, and the rest.
fn tell_all(tales: &[(&str, Teller)]) -> [Vec<(usize, String)>; 2] {
    let mut scribe = Scribe::live();
    scribe.skip(200_000);
    let (mut first, mut then) = (Vec::new(), Vec::new());
    let mut side_by_side: Vec<(usize, std::vec::IntoIter<String>)> = Vec::new();
    for (world, (_, tell)) in (0..COPIES).flat_map(|_| tales).enumerate() {
        let mut tale =
            Tale { scribe: &mut scribe, world, first: Vec::new(), then: Vec::new(), is_first: true };
        tell(&mut tale);
        first.extend(tale.first.into_iter().map(|entry| (world, entry)));
        if world < tales.len() * (COPIES / 2) {
            then.extend(tale.then.into_iter().map(|entry| (world, entry)));
        } else {
            side_by_side.push((world, tale.then.into_iter()));
        }
    }
    while !side_by_side.is_empty() {
        for (world, entries) in &mut side_by_side {
            then.extend(entries.next().map(|entry| (*world, entry)));
        }
        side_by_side.retain(|(_, entries)| entries.len() > 0);
    }
    [first, then]
}

/// Tells everything to a process with so many lanes and so many entries in a batch: in two parts, or at once.
fn tell_to_process(
    generation: Generation,
    parts: &[Vec<(usize, String)>],
    (lanes, batch): (usize, usize),
    notifications: Notifications,
) -> Db {
    let (redis, db) = (Redis::start().unwrap(), Db::of(generation, "narrow_claims"));
    mute_threads(&db, worlds_of(parts));
    let (lanes, batch) = (lanes.to_string(), batch.to_string());
    let settings = [
        ("INDEXER_CONCURRENCY", lanes.as_str()),
        ("INDEXER_BATCH_SIZE", &batch),
        ("INDEXER_NOTIFICATIONS", if notifications == Notifications::Live { "live" } else { "reference" }),
    ];
    let mut indexer = None;
    for part in parts {
        add(&redis, LIVE, &part.iter().map(|(_, payload)| payload).collect::<Vec<_>>());
        indexer.get_or_insert_with(|| Indexer::start(&redis.url(), db.url(), &settings));
        wait_drained(&redis, LIVE);
    }
    assert_no_dead_letters(&redis);
    db
}

/// How many worlds the entries are of.
fn worlds_of(parts: &[Vec<(usize, String)>]) -> usize {
    parts.iter().flatten().map(|(world, _)| world + 1).max().unwrap_or(0)
}

fn check(generation: Generation) {
    check_tales(generation, TALES, Notifications::Live);
}

/// Tells tales to processes that are set up in several ways, and holds what comes out to one entry at a time.
pub fn check_tales(generation: Generation, tales: &[(&str, Teller)], notifications: Notifications) {
    let parts = tell_all(tales);
    let stream = Stream { entries: parts.iter().flatten().cloned().collect() };
    let reference = Db::of(generation, "narrow_claims_one_by_one");
    mute_threads(&reference, worlds_of(&parts));
    let expected = block_on(async {
        apply_one_by_one(&reference, &stream, notifications).await;
        all_rows(&reference).await
    });
    let whole = [stream.entries.clone()];
    let mut findings = String::new();
    for (setting, parts) in [
        ((1, 4000), &parts[..]),
        ((1, 4000), &whole[..]),
        ((3, 50), &parts[..]),
        ((9, 7), &parts[..]),
        ((9, 7), &whole[..]),
    ] {
        let db = tell_to_process(generation, parts, setting, notifications);
        let unlike = differences(&expected, &block_on(all_rows(&db)));
        for (number, (name, _)) in tales.iter().enumerate() {
            let of_tale = |row: &&String| world_of(row).is_some_and(|world| world % tales.len() == number);
            let rows: Vec<&String> = unlike.iter().filter(of_tale).collect();
            if let Some(first) = rows.first() {
                let world = world_of(first);
                let rows: String = rows
                    .iter()
                    .filter(|row| world_of(row) == world)
                    .map(|row| format!("\n    {row}"))
                    .collect();
                findings.push_str(&format!("\n{setting:?}, {} parts: {name}{rows}", parts.len()));
            }
        }
    }
    assert!(findings.is_empty(), "{generation:?}: rows are missing (-) or surplus (+):{findings}");
}

#[test]
fn what_depends_on_a_third_is_seen_in_generation_d() {
    check(Generation::D);
}

#[test]
fn what_depends_on_a_third_is_seen_in_generation_b() {
    check(Generation::B);
}

#[test]
fn what_depends_on_a_third_is_seen_in_generation_u() {
    check(Generation::U);
}
