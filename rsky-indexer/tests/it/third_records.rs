//! Small histories of two entries that touch a third record in turn, or find what a fourth has left behind. Some entries have
//! names so long that they are written by themselves, after everything that has no claim in common with them.

use rsky_indexer::engine::Notifications;
use rsky_testnet::servers::Generation;
use serde_json::Value;

use crate::entries::{
    FOLLOW, LIKE, LIST_ITEM, POST, POST_GATE, REPOST, THREAD_GATE, list_item, mention, post, post_gate,
    quote, reply, signal, thread_gate_by_list,
};
use crate::narrow_claims::{Tale, Teller, check_tales};

/// A record key that makes its entry be written by itself.
fn long(rkey: &str) -> String {
    rkey.repeat(660)
}

/// A post that is written by itself: it mentions somebody with a long name.
fn alone(mut record: Value) -> Value {
    mention(&mut record, &[format!("did:web:{}", long("x"))]);
    record
}

/// Three say the same; the two in front go, and the third stands behind the first of them, which is not there.
fn likes_behind_one_that_is_gone(tale: &mut Tale<'_>) {
    let (p, q) = (tale.post_of('a', "p"), tale.post_of('a', "q"));
    for rkey in ["y", "z", "zz"] {
        tale.create('b', LIKE, rkey, signal(&p));
    }
    tale.delete('b', LIKE, "y");
    tale.delete('b', LIKE, "z");
    tale.then();
    tale.create('b', LIKE, "y", signal(&q));
    tale.delete('b', LIKE, "y");
    tale.create('b', LIKE, "w", signal(&p));
}

fn follows_behind_one_that_is_gone(tale: &mut Tale<'_>, steps: &[&str]) {
    tale.root();
    let gate = tale.gate(&["followingRule"]);
    tale.create('a', THREAD_GATE, "p", gate);
    for rkey in [&long("f"), "g", "h"] {
        tale.follow('a', rkey, 'b');
    }
    tale.delete('a', FOLLOW, &long("f"));
    tale.delete('a', FOLLOW, "g");
    tale.then();
    for step in steps {
        match *step {
            "r" => tale.answer('b', "r", ('a', "p")),
            "other" => tale.follow('a', &long("f"), 'c'),
            _ => tale.delete('a', FOLLOW, &long("f")),
        }
    }
}

fn an_answer_after_a_follow_is_left(tale: &mut Tale<'_>) {
    follows_behind_one_that_is_gone(tale, &["other", "delete", "r"]);
}

fn an_answer_before_a_follow_is_left(tale: &mut Tale<'_>) {
    follows_behind_one_that_is_gone(tale, &["other", "r", "delete"]);
}

fn an_answer_after_a_list_item_is_left(tale: &mut Tale<'_>) {
    tale.root();
    let gate = thread_gate_by_list(&tale.post_of('a', "p"), &tale.list());
    tale.create('a', THREAD_GATE, "p", gate);
    for rkey in [&long("f"), "g", "h"] {
        tale.put_on_list(rkey, 'b');
    }
    tale.delete('a', LIST_ITEM, &long("f"));
    tale.delete('a', LIST_ITEM, "g");
    tale.then();
    let other = list_item(&tale.list(), &tale.did('c'));
    tale.create('a', LIST_ITEM, &long("f"), other);
    tale.delete('a', LIST_ITEM, &long("f"));
    tale.answer('b', "r", ('a', "p"));
}

/// Somebody answers one post of an account and quotes another, and neither is there; quotes were forbidden then.
fn an_answer_that_quotes(tale: &mut Tale<'_>) {
    let (p, q) = (tale.post_of('a', "p"), tale.post_of('a', "q"));
    tale.create('a', POST_GATE, "q", post_gate(&q));
    let mut record = quote(&q);
    record["reply"] = reply(&p, &p)["reply"].clone();
    tale.create('b', POST, "r", record);
    tale.delete('a', POST_GATE, "q");
}

/// The account is told of the answer, and so not of the quote.
fn told_of_the_answer_first(tale: &mut Tale<'_>) {
    an_answer_that_quotes(tale);
    tale.then();
    tale.delete('a', POST, "p");
    tale.root();
    tale.create('a', POST, "q", post("quoted"));
}

fn told_of_the_answer_first_by_itself(tale: &mut Tale<'_>) {
    an_answer_that_quotes(tale);
    tale.then();
    tale.create('a', POST, "p", alone(post("root")));
    tale.create('a', POST, "q", post("quoted"));
}

/// The account is told of the quote, and so not of the answer.
fn told_of_the_quote_first(tale: &mut Tale<'_>) {
    an_answer_that_quotes(tale);
    tale.then();
    tale.delete('a', POST, "q");
    tale.create('a', POST, "q", post("quoted"));
    tale.root();
}

fn told_of_the_quote_first_by_itself(tale: &mut Tale<'_>) {
    an_answer_that_quotes(tale);
    tale.then();
    tale.create('a', POST, "q", alone(post("quoted")));
    tale.root();
}

/// All of it in one batch: the answer, too, is on its way.
fn told_of_the_quote_first_all_at_once(tale: &mut Tale<'_>) {
    tale.then();
    told_of_the_quote_first_by_itself(tale);
}

fn told_of_the_answer_first_all_at_once(tale: &mut Tale<'_>) {
    tale.then();
    told_of_the_answer_first_by_itself(tale);
}

/// The account has been told of the answer when the quote is found to be allowed, and then the answer is hidden.
fn the_answer_is_hidden_after_the_quote_is_allowed(tale: &mut Tale<'_>) {
    tale.root();
    tale.scribe.set_clock(60_000);
    an_answer_that_quotes(tale);
    tale.scribe.set_clock(0);
    tale.then();
    tale.create('a', POST, "q", alone(post("quoted")));
    let gate = tale.gate(&[]);
    tale.create('a', THREAD_GATE, "p", gate);
}

/// A post comes again after it was deleted, and with it go the items of its reposts.
fn a_repost_of_a_post_that_comes_again(tale: &mut Tale<'_>) {
    let p = tale.post_of('a', "p");
    tale.root();
    tale.delete('a', POST, "p");
    tale.then();
    tale.create('b', REPOST, &long("r"), signal(&p));
    tale.root();
}

const TALES: &[(&str, Teller)] = &[
    ("likes behind one that is gone", likes_behind_one_that_is_gone),
    ("an answer after a follow is left", an_answer_after_a_follow_is_left),
    ("an answer before a follow is left", an_answer_before_a_follow_is_left),
    ("an answer after a list item is left", an_answer_after_a_list_item_is_left),
    ("told of the answer first", told_of_the_answer_first),
    ("told of the answer first, by itself", told_of_the_answer_first_by_itself),
    ("told of the answer first, all at once", told_of_the_answer_first_all_at_once),
    ("told of the quote first", told_of_the_quote_first),
    ("told of the quote first, by itself", told_of_the_quote_first_by_itself),
    ("told of the quote first, all at once", told_of_the_quote_first_all_at_once),
    ("hidden after the quote is allowed", the_answer_is_hidden_after_the_quote_is_allowed),
    ("a repost of a post that comes again", a_repost_of_a_post_that_comes_again),
];

fn check(generation: Generation) {
    for notifications in [Notifications::Live, Notifications::Reference] {
        check_tales(generation, TALES, notifications);
    }
}

#[test]
fn what_two_do_to_a_third_is_done_in_order_in_generation_d() {
    check(Generation::D);
}

#[test]
fn what_two_do_to_a_third_is_done_in_order_in_generation_b() {
    check(Generation::B);
}

#[test]
fn what_two_do_to_a_third_is_done_in_order_in_generation_u() {
    check(Generation::U);
}
