//! Whose fault an error is: what a peer, a proxy, the disk or the database does is no reason to give repositories up.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use rsky_testnet::servers::{Postgres, Redis};

use crate::hosts::{Host, Hosts, counts, did, error};
use crate::support::{Backfiller, dead, entries, left, length, queue, queue_in, wait_until};
use crate::synthetic::{self, Tree, block_cid, block_section};

fn car(number: usize, records: usize) -> Bytes {
    synthetic::car(&did(number), records, 20, &synthetic::key(1)).into()
}

/// What a proxy or a captive portal says to everybody.
fn page(status: u16) -> Vec<u8> {
    let body = "<!DOCTYPE html><html><title>Please log in</title></html>";
    let head =
        format!("HTTP/1.1 {status} X\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n", body.len());
    format!("{head}{body}").into_bytes()
}

/// An answer that says nothing of its kind, and ends where it ends.
fn plain(body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}

/// What the host of an account says, by its number.
type Answer<'a> = &'a dyn Fn(usize) -> Vec<u8>;

/// The sections of a CAR: header and blocks.
fn sections(car: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut sections) = (car, Vec::new());
    while !rest.is_empty() {
        let (mut length, mut bytes) = (0_usize, 0);
        loop {
            length |= usize::from(rest[bytes] & 0x7f) << (7 * bytes);
            bytes += 1;
            if rest[bytes - 1] & 0x80 == 0 {
                break;
            }
        }
        let (section, others) = rest.split_at(bytes + length);
        sections.push(section);
        rest = others;
    }
    sections
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_answers_with_pages_is_waited_out() {
    for status in [200, 404, 403, 502] {
        println!("status {status}");
        let hosts = Hosts::start().await;
        let redis = Redis::start().unwrap();
        hosts.answer_instead("", Some(page(status)));
        let dids: Vec<String> =
            (0..20).map(|number| hosts.add(number, Host::Car(car(number, 3)), 1)).collect();
        queue(&redis, &hosts.url(), &dids);
        let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &[("MAX_ATTEMPTS", "1")]);
        wait_until("it has asked again and again", || backfiller.class("directory_down") >= 5.0);
        assert_eq!((left(&redis), dead(&redis), counts(&redis).len()), (20, BTreeMap::new(), 0));
        let (ready, said) = backfiller.get("/readyz");
        assert!(ready == 503 && said.contains("PLC_URL"), "{ready} {said}");
        hosts.answer_instead("", None);
        wait_until("all are queued", || left(&redis) == 0);
        assert_eq!((counts(&redis).len(), dead(&redis).len()), (20, 0));
        assert_eq!(backfiller.get("/readyz").0, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_the_directory_fails_for_is_not_asked_about_for_ever() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    // Alone, so that nothing is known of the directory but that it fails.
    let alone = hosts.add(1, Host::Car(car(1, 3)), 1);
    hosts.answer_instead(&alone, Some(error(500, "InternalServerError", "")));
    queue(&redis, &hosts.url(), [&alone]);
    let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &[("MAX_ATTEMPTS", "3")]);
    wait_until("it is given up", || left(&redis) == 0 && !dead(&redis).is_empty());
    assert_eq!(dead(&redis)[&alone], "document_withheld");
    backfiller.assert_class("document_withheld", 3.0);
    assert_eq!(backfiller.get("/readyz").0, 200, "it is one account only");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_second_answer_puts_right_is_done() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let whole = |number| car(number, 40);
    let cut = |number| {
        let whole = whole(number);
        let sections = sections(&whole);
        plain(&sections[..sections.len() / 2].concat())
    };
    let without_one = |number| {
        let whole = whole(number);
        let mut sections = sections(&whole);
        sections.remove(3);
        plain(&sections.concat())
    };
    let damaged = |number| {
        let mut bytes = whole(number).to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        plain(&bytes)
    };
    let inside = |number| plain(&whole(number)[..1000]);
    let answers: [(&str, Answer<'_>); 10] = [
        ("cut at the border of a block", &cut),
        ("a block that was replaced meanwhile", &without_one),
        ("cut inside a block", &inside),
        ("a damaged block", &damaged),
        ("nothing", &|_| plain(b"")),
        ("a page", &|_| page(200)),
        ("a page that does not say so", &|_| plain(b"<html>Please log in</html>")),
        ("a refusal that is a page", &|_| page(403)),
        ("the repository of another", &|number| plain(&whole(number + 1))),
        ("a redirect to nowhere", &|_| crate::hosts::redirect("http://169.254.169.254/")),
    ];
    let dids: Vec<String> = answers
        .iter()
        .enumerate()
        .map(|(number, (what, answer))| {
            println!("{}: {what}", did(number));
            hosts.add(number, Host::First(2, answer(number), whole(number)), 1)
        })
        .collect();
    queue(&redis, &hosts.url(), &dids);
    let _backfiller = Backfiller::start(&redis.url(), &hosts.url(), &[("MAX_ATTEMPTS", "9")]);
    wait_until("all are settled", || left(&redis) == 0);
    // Twice the same: only content that a second fetch confirms.
    let buried: Vec<String> = dead(&redis).into_values().collect();
    assert_eq!(buried, ["missing_block", "missing_block", "wrong_did"], "{:?}", dead(&redis));
    let once: Vec<String> = answers
        .iter()
        .enumerate()
        .map(|(number, (_, answer))| hosts.add(number, Host::First(1, answer(number), whole(number)), 1))
        .collect();
    redis.command(&["DEL", "repo_backfill_dlq", "firehose_backfill"]).unwrap();
    queue(&redis, &hosts.url(), &once);
    wait_until("all are settled", || left(&redis) == 0);
    assert_eq!(dead(&redis).len(), 0, "{:?}", dead(&redis));
    assert_eq!(counts(&redis).len(), answers.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_that_are_gone_are_done() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let said = |status: u16, name: &str, message: &str| {
        let body = format!(r#"{{"error":"{name}","message":"{message}"}}"#);
        format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    let words = "HTTP/1.1 404 X\r\ncontent-length: 14\r\n\r\nrepo not found";
    let answers = [
        said(404, "NotFound", ""),
        said(400, "NotFound", ""),
        said(400, "InvalidRequest", "Could not find repo for DID: did:plc:x"),
        said(404, "InvalidRequest", "Repo not found"),
        words.as_bytes().to_vec(),
    ];
    let dids: Vec<String> = answers
        .into_iter()
        .enumerate()
        .map(|(number, answer)| hosts.add(number, Host::Raw(answer), 1))
        .collect();
    queue(&redis, &hosts.url(), &dids);
    let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &[]);
    wait_until("all are settled", || left(&redis) == 0);
    backfiller.assert_class("gone", 5.0);
    assert_eq!(dead(&redis).len(), 0);
    assert!(dids.iter().all(|did| hosts.requests(did) == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_cannot_be_written_is_waited_out() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let large = hosts.add(1, Host::Car(synthetic::car(&did(1), 400, 1000, &synthetic::key(1)).into()), 1);
    let small = hosts.add(2, Host::Car(car(2, 3)), 1);
    queue(&redis, &hosts.url(), [&large, &small]);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("missing-{}", std::process::id()));
    let own = [
        ("BACKFILLER_TEMP_DIR", folder.to_str().unwrap()),
        ("BACKFILLER_MEMORY_PER_REPO", "64KiB"),
        ("MAX_ATTEMPTS", "1"),
    ];
    let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    wait_until("it has been tried again", || backfiller.class("local_failure") >= 3.0);
    wait_until("the small one is queued", || counts(&redis).contains_key(&small));
    assert_eq!((left(&redis), dead(&redis).len()), (1, 0));
    wait_until("readiness says so", || {
        let (ready, said) = backfiller.get("/readyz");
        ready == 503 && said.contains("BACKFILLER_TEMP_DIR")
    });
    std::fs::create_dir(&folder).unwrap();
    wait_until("it is queued", || left(&redis) == 0);
    assert_eq!((counts(&redis)[&large], dead(&redis).len()), ((400, 1), 0));
    wait_until("readiness says so", || backfiller.get("/readyz").0 == 200);
    std::fs::remove_dir(&folder).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resynchronisations_wait_for_the_database() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let database = Postgres::shared().unwrap().create_database("backfiller").unwrap();
    database.sql("ALTER TABLE record RENAME TO record_away").unwrap();
    let account = hosts.add(1, Host::Car(car(1, 3)), 1);
    queue_in("repo_backfill_priority", &redis, &hosts.url(), [&account]);
    let own = [("DATABASE_URL", database.url.as_str()), ("MAX_ATTEMPTS", "1")];
    let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    wait_until("it has been tried again", || backfiller.class("database") >= 3.0);
    assert_eq!((left(&redis), length(&redis, "repo_backfill_priority_dlq")), (1, 0));
    assert_eq!(hosts.requests(&account), 0, "nothing is fetched that cannot be compared");
    let (ready, said) = backfiller.get("/readyz");
    assert!(ready == 503 && said.contains("DATABASE_URL"), "{ready} {said}");
    database.sql("ALTER TABLE record_away RENAME TO record").unwrap();
    wait_until("it is queued", || left(&redis) == 0);
    assert_eq!(counts(&redis)[&account], (3, 1));
    assert_eq!(length(&redis, "repo_backfill_priority_dlq"), 0);
    wait_until("readiness says so", || backfiller.get("/readyz").0 == 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_grows_whatever_the_host_names() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let past = "retry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let dids = [
        hosts.add(1, Host::Raw(error(429, "", "retry-after: 0\r\n")), 1),
        hosts.add(2, Host::Raw(error(429, "", past)), 1),
        hosts.add(3, Host::Raw(error(503, "", "retry-after: 0\r\n")), 1),
    ];
    queue(&redis, &hosts.url(), &dids);
    let _backfiller = Backfiller::start(&redis.url(), &hosts.url(), &[("MAX_ATTEMPTS", "50")]);
    wait_until("all were asked four times", || dids.iter().all(|did| hosts.requests(did) >= 4));
    for did in &dids {
        let times = hosts.times(did);
        let pauses: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        // One, two and four seconds, each less a quarter at most.
        assert!(pauses[0] > 0.7 && pauses[1] > 1.4 && pauses[2] > 2.9, "{pauses:?}");
    }
    assert_eq!(left(&redis), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_listed_without_head_and_revision_is_fetched() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let account = hosts.add(1, Host::Car(car(1, 3)), 1);
    let entry = format!(r#"{{"did":"{account}","head":"","rev":"","active":true}}"#);
    redis.command(&["XADD", "repo_backfill", "*", "repo", &entry]).unwrap();
    let _backfiller = Backfiller::start(&redis.url(), &hosts.url(), &[]);
    wait_until("it is queued", || left(&redis) == 0);
    assert_eq!((counts(&redis)[&account], dead(&redis).len()), ((3, 1), 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_of_repositories_are_never_trimmed() {
    let redis = Redis::start().unwrap();
    let mut client = redis.client().unwrap();
    let wanted: Vec<String> = (0..500).map(|number| format!("did:key:z{number}")).collect();
    queue(&redis, "http://127.0.0.1:1", &wanted);
    let own = [("DLQ_MAX_LEN", "20"), ("BACKFILLER_QUEUE", "10")];
    let mut backfiller = Backfiller::start(&redis.url(), "http://127.0.0.1:1", &own);
    let mut dropped = Vec::new();
    while dropped.len() < wanted.len() {
        wait_until("letters come", || {
            length(&redis, "repo_backfill_dlq") >= 20.min(500 - dropped.len() as i64)
        });
        let letters = length(&redis, "repo_backfill_dlq");
        assert!(letters < 20 + 10, "{letters}");
        if dropped.is_empty() {
            wait_until("readiness says so", || {
                let (ready, said) = backfiller.get("/readyz");
                ready == 503 && said.contains("DLQ_MAX_LEN")
            });
        }
        // The operator deals with them.
        for (did, _) in dead(&redis) {
            dropped.push(did);
        }
        let ids = client.command(&["XRANGE", "repo_backfill_dlq", "-", "+"]).unwrap();
        let seen: usize = ids.items().len();
        for entry in ids.items() {
            let id = entry.items()[0].as_text().unwrap();
            client.command(&["XDEL", "repo_backfill_dlq", &id]).unwrap();
        }
        assert!(seen > 0);
        dropped.sort();
        dropped.dedup();
    }
    assert_eq!((dropped.len(), left(&redis)), (500, 0), "each repository was in a letter once");
    assert_eq!(backfiller.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_of_entries_are_trimmed_and_counted() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let mut letters = vec!["EVAL", "for i = 1, 1000 do redis.call('XADD', KEYS[1], '*', 'event', i) end"];
    letters.extend(["1", "firehose_backfill_dlq"]);
    redis.command(&letters).unwrap();
    let account = hosts.add(1, Host::Car(with_a_bad_record(1)), 1);
    queue(&redis, &hosts.url(), [&account]);
    let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &[("DLQ_MAX_LEN", "200")]);
    // The repository is acknowledged with its last entry, before letters are trimmed.
    wait_until("it is queued, and letters are trimmed", || {
        left(&redis) == 0
            && backfiller.metric("dead_letters_trimmed_total", "firehose_backfill_dlq") > Some(0.0)
    });
    let kept = length(&redis, "firehose_backfill_dlq");
    let trimmed = backfiller.metric("dead_letters_trimmed_total", "firehose_backfill_dlq");
    assert_eq!(trimmed, Some((1001 - kept) as f64));
    assert!((200..400).contains(&kept), "{kept}");
    let last = entries(&redis, "firehose_backfill_dlq").pop().unwrap();
    assert_eq!(last["reason"], "bad_record", "the oldest go");
    assert!(backfiller.log().contains("trimmed"), "{}", backfiller.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_of_entries_take_no_more_of_redis_than_they_may() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    // Oldest first: many small ones, some of a mebibyte, many small ones.
    const FILL: &str = "local large = string.rep('x', 1048576)
        for i = 1, 500 do redis.call('XADD', KEYS[1], '*', 'event', i) end
        for i = 1, 12 do redis.call('XADD', KEYS[1], '*', 'event', large) end
        for i = 1, 500 do redis.call('XADD', KEYS[1], '*', 'event', i) end";
    redis.command(&["EVAL", FILL, "1", "firehose_backfill_dlq"]).unwrap();
    let account = hosts.add(1, Host::Car(with_a_bad_record(1)), 1);
    queue(&redis, &hosts.url(), [&account]);
    let own = [("DLQ_MAX_BYTES", "4MiB"), ("DLQ_MAX_LEN", "100000")];
    let backfiller = Backfiller::start(&redis.url(), &hosts.url(), &own);
    let usage = ["MEMORY", "USAGE", "firehose_backfill_dlq", "SAMPLES", "0"];
    let taken = || redis.command(&usage).unwrap().as_int().unwrap();
    // The repository is acknowledged with its last entry, before letters are trimmed.
    wait_until("it is queued, and letters are trimmed", || left(&redis) == 0 && taken() < 4 << 20);
    let taken = taken();
    assert!((2 << 20..4 << 20).contains(&taken), "{taken}");
    let kept = length(&redis, "firehose_backfill_dlq");
    assert!(
        (501 + 2..501 + 4).contains(&kept),
        "all that came after the large ones, and some of these: {kept}"
    );
    let trimmed = backfiller.metric("dead_letters_trimmed_total", "firehose_backfill_dlq");
    assert_eq!(trimmed, Some((1013 - kept) as f64));
    assert!(backfiller.log().contains("DLQ_MAX_BYTES"), "{}", backfiller.log());
    // Not asked for again with each letter: the next one is a small part of what they may take.
    redis.command(&["EVAL", FILL, "1", "firehose_backfill_dlq"]).unwrap();
    let account = hosts.add(2, Host::Car(with_a_bad_record(2)), 1);
    queue(&redis, &hosts.url(), [&account]);
    wait_until("it is queued", || left(&redis) == 0);
    assert_eq!(length(&redis, "firehose_backfill_dlq"), kept + 1012 + 1);
}

/// A repository with a record that has a number beyond what JSON can tell.
fn with_a_bad_record(number: usize) -> Bytes {
    let (mut blocks, mut tree) = (Vec::new(), Tree::default());
    let record = b"\xa1\x61a\x1b\xff\xff\xff\xff\xff\xff\xff\xff".to_vec();
    let value = block_cid(&record);
    block_section(&value, &record, &mut blocks);
    let mut add = |cid: &[u8; 36], node: &[u8]| block_section(cid, node, &mut blocks);
    tree.add(synthetic::path(1), value, &mut add);
    let root = tree.finish(&mut add);
    let commit = synthetic::commit(&did(number), &root, &synthetic::key(1));
    let mut car = Vec::new();
    synthetic::header(&block_cid(&commit), &mut car);
    block_section(&block_cid(&commit), &commit, &mut car);
    car.extend(blocks);
    car.into()
}
