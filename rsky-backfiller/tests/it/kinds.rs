//! Every kind of trouble a host can make, and what is to become of its repository.

use bytes::Bytes;

use crate::hosts::{Host, Hosts, did, error, redirect};
use crate::synthetic::{self, Cid};

/// What becomes of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A dead letter with this reason.
    Dead(&'static str),
    /// Done, counted in this class.
    Done(&'static str),
    /// Queued in the end, with so many records.
    Queued(usize),
    /// Still to be fetched.
    Kept,
}

fn car(number: usize, records: usize, key: u8) -> Bytes {
    synthetic::car(&did(number), records, 20, &synthetic::key(key)).into()
}

/// Adds an account of each kind, each with a host of its own, numbered from `first`.
pub fn add_each(hosts: &Hosts, first: usize) -> Vec<(String, Fate)> {
    let mut number = first;
    let mut added = Vec::new();
    let mut add = |make: &dyn Fn(usize) -> Host, fate: Fate| {
        added.push((hosts.add(number, make(number), 1), fate));
        number += 1;
    };
    let raw = |answer: Vec<u8>| move |_: usize| Host::Raw(answer.clone());
    add(&|_| Host::Hangs, Fate::Dead("timeout"));
    add(&|_| Host::Trickles, Fate::Dead("timeout"));
    add(&raw(error(500, "InternalServerError", "")), Fate::Dead("server_error"));
    add(&raw(error(502, "", "")), Fate::Dead("server_error"));
    add(&raw(error(404, "MethodNotImplemented", "")), Fate::Dead("client_error"));
    add(&raw(error(404, "", "")), Fate::Dead("not_xrpc"));
    add(&raw(error(404, "NotFound", "")), Fate::Done("gone"));
    add(&|number| Host::Breaks(car(number, 500, 1)), Fate::Dead("interrupted"));
    add(&|number| Host::Resets(car(number, 500, 1)), Fate::Dead("interrupted"));
    let html = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 5\r\n\r\nhello";
    add(&raw(html.to_vec()), Fate::Dead("content_type"));
    add(&|_| Host::Endless, Fate::Dead("too_large"));
    add(&|_| Host::Bomb, Fate::Dead("too_large"));
    let repo =
        |host: &str, number| redirect(&format!("{host}/xrpc/com.atproto.sync.getRepo?did={}", did(number)));
    let looping = |number| Host::Raw(repo(&hosts.own_pds(number), number));
    add(&looping, Fate::Dead("refused_address"));
    for to in ["file:///etc/passwd", "http://user:pw@127.0.0.1/", "http://169.254.169.254/latest/meta-data"] {
        add(&raw(redirect(to)), Fate::Dead("refused_address"));
    }
    add(&|number| Host::Car(car(number, 5, 2)), Fate::Dead("bad_signature"));
    add(&|number| Host::Car(car(number + 1, 5, 1)), Fate::Dead("wrong_did"));
    add(&raw(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\ngarbage".to_vec()), Fate::Dead("bad_car"));
    add(&raw(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()), Fate::Dead("bad_car"));
    add(&|number| Host::Car(empty_nodes(number, 20_000)), Fate::Dead("bad_tree"));
    add(&|number| Host::Car(cycle(number)), Fate::Dead("bad_car"));
    add(&|number| Host::Car(twice(number)), Fate::Dead("bad_tree"));
    // Every entry would repeat it.
    for rev in ["3migo7fijwi2", &"z".repeat(1 << 20)] {
        add(&|number| Host::Car(empty_at(number, rev)), Fate::Dead("bad_commit"));
    }
    for (name, class) in [
        ("RepoNotFound", "gone"),
        ("RepoDeactivated", "deactivated"),
        ("RepoTakendown", "takendown"),
        ("RepoSuspended", "suspended"),
    ] {
        add(&raw(error(400, name, "")), Fate::Done(class));
    }
    // Patience is rewarded: by the second with a header, without one, and after a 503.
    for (status, headers, records) in [
        (429, "retry-after: 1\r\n", 3),
        (429, "ratelimit-remaining: 0\r\nratelimit-reset: 1\r\n", 4),
        (429, "", 5),
        (503, "retry-after: 1\r\n", 6),
    ] {
        let first = |number| Host::First(2, error(status, "", headers), car(number, records, 1));
        add(&first, Fate::Queued(records));
    }
    add(&raw(error(429, "RateLimitExceeded", "retry-after: 3600\r\n")), Fate::Kept);
    // There the link is out of bounds; among public hosts, everything that is not public.
    let mut forbidden = vec!["http://169.254.169.254".to_owned()];
    if hosts.is_public() {
        let names = [
            "127.0.0.1",
            "169.254.169.254",
            "10.0.0.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "localhost",
            "2130706433",
        ];
        forbidden.extend(names.map(|name| format!("https://{name}:{}", hosts.port)));
        forbidden.push(hosts.own_pds(first).replace("https", "http"));
        for to in &forbidden {
            add(&|number| Host::Raw(repo(to, number)), Fate::Dead("refused_address"));
        }
    }
    for pds in &forbidden {
        let whole = Host::Car(car(number, 3, 1));
        added.push((hosts.add_at(number, whole, 1, pds), Fate::Dead("refused_address")));
        number += 1;
    }
    added
}

/// A tree as its blocks say it is, whatever their CIDs.
fn tree(number: usize, root: &Cid, blocks: &[(Cid, Vec<u8>)]) -> Bytes {
    tree_at(number, synthetic::REV, root, blocks)
}

/// A repository without records at a revision of any form.
fn empty_at(number: usize, rev: &str) -> Bytes {
    let node = b"\xa2\x61e\x80\x61l\xf6".to_vec();
    let root = synthetic::block_cid(&node);
    tree_at(number, rev, &root, &[(root, node)])
}

fn tree_at(number: usize, rev: &str, root: &Cid, blocks: &[(Cid, Vec<u8>)]) -> Bytes {
    let commit = synthetic::commit_at(rev, &did(number), root, &synthetic::key(1));
    let mut out = Vec::new();
    synthetic::header(&synthetic::block_cid(&commit), &mut out);
    synthetic::block_section(&synthetic::block_cid(&commit), &commit, &mut out);
    blocks.iter().for_each(|(cid, block)| synthetic::block_section(cid, block, &mut out));
    out.into()
}

/// A node without entries, with a subtree on its left.
fn above(below: &Cid) -> Vec<u8> {
    [&b"\xa2\x61e\x80\x61l\xd8\x2a\x58\x25\0"[..], below].concat()
}

/// A tree with very many empty nodes, one below the other.
pub fn empty_nodes(number: usize, nodes: usize) -> Bytes {
    let empty = b"\xa2\x61e\x80\x61l\xf6".to_vec();
    let mut below = synthetic::block_cid(&empty);
    let mut blocks = vec![(below, empty)];
    for _ in 0..nodes {
        let node = above(&below);
        below = synthetic::block_cid(&node);
        blocks.push((below, node));
    }
    tree(number, &below, &blocks)
}

/// Two nodes, each below the other. Nobody can find two blocks that name each other by their hashes, so one lies.
fn cycle(number: usize) -> Bytes {
    let claimed = synthetic::block_cid(b"claimed");
    let upper = above(&claimed);
    let root = synthetic::block_cid(&upper);
    tree(number, &root, &[(root, upper), (claimed, above(&root))])
}

/// A node with a record that is both left and right of the same entry: keys come again.
fn twice(number: usize) -> Bytes {
    let record = synthetic::record(0, 1);
    let value = synthetic::block_cid(&record);
    let node = |key: &str, left: Option<&Cid>, right: Option<&Cid>| {
        let link = |cid: Option<&Cid>| match cid {
            Some(cid) => [&b"\xd8\x2a\x58\x25\0"[..], cid].concat(),
            None => vec![0xf6],
        };
        let mut out = b"\xa2\x61e\x81\xa4\x61k\x58".to_vec();
        out.push(key.len().try_into().unwrap());
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\x61p\0\x61t");
        out.extend(link(right));
        out.extend_from_slice(b"\x61v");
        out.extend(link(Some(&value)));
        out.extend_from_slice(b"\x61l");
        out.extend(link(left));
        out
    };
    let keys: Vec<String> = (0..1000).map(synthetic::path).collect();
    let layer = |wanted: usize| {
        keys.iter().find(|key| rsky_common::repo::key_layer(key.as_bytes()) == wanted).unwrap()
    };
    let below = node(layer(0), None, None);
    let below_cid = synthetic::block_cid(&below);
    let root = node(layer(1), Some(&below_cid), Some(&below_cid));
    let root_cid = synthetic::block_cid(&root);
    tree(number, &root_cid, &[(root_cid, root), (below_cid, below), (value, record)])
}
