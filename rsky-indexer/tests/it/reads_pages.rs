//! A page of a stream is bounded in bytes before it is read, however large what comes next is.

use rsky_common::admin::Readiness;
use rsky_common::config::Secret;
use rsky_common::redis::RedisServer;
use rsky_common::redis::consumer::{Consumer, Entry};
use rsky_common::redis::page::{Most, Pages, STEP};
use rsky_testnet::servers::Redis;
use tokio_util::sync::CancellationToken;

use crate::process::{LIVE, add, block_on, pending};

const MOST: Most = Most { entries: 100, bytes: 1 << 20 };

fn sizes(entries: &[Entry]) -> usize {
    entries.iter().map(Entry::size).sum()
}

/// Reads everything, page by page; how many entries each page had.
async fn read_all(redis: &Redis, user: &str, after: &str) -> Vec<usize> {
    let url = redis.url().replacen("redis://", &format!("redis://{user}"), 1);
    let server = RedisServer::new(&Secret::new(url)).unwrap();
    let mut link = server.link("test", Readiness::unheard(), &CancellationToken::new());
    let consumer =
        Consumer { stream: LIVE.to_owned(), group: "firehose_group".to_owned(), name: "a".to_owned() };
    let mut pages = Pages::new(consumer, MOST);
    let (mut after, mut counts) = (after.to_owned(), Vec::new());
    loop {
        let page = pages.read(&mut link, &after).await.unwrap();
        let Some(last) = page.entries.last() else { return counts };
        assert!(sizes(&page.entries) <= MOST.bytes + STEP * (1 << 20), "{} bytes", sizes(&page.entries));
        if after != ">" {
            last.id.clone_into(&mut after);
        }
        counts.push(page.entries.len());
    }
}

fn fill(redis: &Redis) {
    add(redis, LIVE, &vec!["x".to_owned(); 150]);
    add(redis, LIVE, &vec!["x".repeat(1 << 20); 10]);
    add(redis, LIVE, &vec!["x".to_owned(); 3]);
}

#[test]
fn a_page_ends_with_the_bytes_it_may_have() {
    let redis = Redis::start().unwrap();
    fill(&redis);
    redis.command(&["XGROUP", "CREATE", LIVE, "firehose_group", "0"]).unwrap();
    // The second page reaches the large ones, and all of what is read with the first of them is there.
    let expected = [100, 52, STEP, STEP, 3];
    assert_eq!(block_on(read_all(&redis, "", ">")), expected);
    assert_eq!(pending(&redis, LIVE), Some(163));
    assert_eq!(block_on(read_all(&redis, "", "0")), expected);
    // What was deleted while it was pending is read as nothing.
    redis.command(&["XTRIM", LIVE, "MAXLEN", "0"]).unwrap();
    assert_eq!(block_on(read_all(&redis, "", "0")), [100, 63]);
}

/// Entries of other writers: a field beside, another name, two of one name, and names and values that are no text.
#[test]
fn entries_of_every_form_are_read_as_they_are() {
    let redis = Redis::start().unwrap();
    let forms: [&[&str]; 6] = [
        &["event", "{}"],
        &["event", "{}", "note", "n"],
        &["other", "1"],
        &["event", "a", "event", "b"],
        &["", ""],
        &["event", "\u{0}\r\n$3"],
    ];
    for first in 0..forms.len() {
        let stream = format!("s{first}");
        redis.command(&["XGROUP", "CREATE", &stream, "g", "0", "MKSTREAM"]).unwrap();
        // Whichever is the first of a page.
        let (before, from) = forms.split_at(first);
        for form in from.iter().chain(before) {
            let mut command = vec!["XADD", &stream, "*"];
            command.extend(*form);
            redis.command(&command).unwrap();
        }
        let read = |after: &str| {
            let after = after.to_owned();
            let server = RedisServer::new(&Secret::new(redis.url())).unwrap();
            let consumer = Consumer { stream: stream.clone(), group: "g".to_owned(), name: "a".to_owned() };
            block_on(async move {
                let mut link = server.link("test", Readiness::unheard(), &CancellationToken::new());
                Pages::new(consumer, MOST).read(&mut link, &after).await.unwrap().entries
            })
        };
        let expected: Vec<Vec<(Vec<u8>, Vec<u8>)>> = (from.iter().chain(before))
            .map(|form| form.chunks(2).map(|pair| (pair[0].into(), pair[1].into())).collect())
            .collect();
        let new = read(">");
        assert_eq!(new.iter().map(|entry| entry.fields.clone()).collect::<Vec<_>>(), expected);
        assert_eq!(read("0"), new);
    }
}

#[test]
fn a_user_who_may_run_no_scripts_reads_small_pages() {
    let redis = Redis::start().unwrap();
    fill(&redis);
    redis.command(&["XGROUP", "CREATE", LIVE, "firehose_group", "0"]).unwrap();
    redis.command(&["ACL", "SETUSER", "reader", "on", ">secret", "~*", "+@all", "-@scripting"]).unwrap();
    let counts = block_on(read_all(&redis, "reader:secret@", ">"));
    assert!(counts.iter().all(|count| *count <= STEP));
    assert_eq!(counts.iter().sum::<usize>(), 163);
}
