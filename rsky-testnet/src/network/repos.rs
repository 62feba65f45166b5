//! Repositories made up on the fly, of any size: real trees, real signatures, the same bytes for the same parameters.

use k256::ecdsa::signature::Signer as _;
use k256::ecdsa::{Signature, SigningKey};
use rsky_common::repo::key_layer;

use sha2::{Digest as _, Sha256};

use super::cbor_out::cid_of;

pub type Cid = [u8; 36];

pub const REV: &str = "3migo7fijwi2k";

pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_slice(&[seed.max(1); 32]).unwrap()
}

/// The key as DID documents write it.
pub fn multikey(key: &SigningKey) -> String {
    let point = key.verifying_key().to_sec1_point(true);
    let bytes = [&[0xe7, 0x01], point.as_bytes()].concat();
    cid::multibase::encode(cid::multibase::Base::Base58Btc, bytes)
}

pub fn document(did: &str, key: &SigningKey, pds: &str) -> serde_json::Value {
    serde_json::json!({
        "id": did,
        "alsoKnownAs": [],
        "verificationMethod": [{"id": format!("{did}#atproto"), "type": "Multikey", "controller": did, "publicKeyMultibase": multikey(key)}],
        "service": [{"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": pds}],
    })
}

pub fn block_cid(block: &[u8]) -> Cid {
    cid_of(block).to_bytes().try_into().unwrap()
}

fn head(major: u8, value: usize, out: &mut Vec<u8>) {
    let major = major << 5;
    match value {
        0..=23 => out.push(major | value as u8),
        24..=0xff => out.extend([major | 24, value as u8]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend((value as u16).to_be_bytes());
        }
        _ => {
            out.push(major | 26);
            out.extend((value as u32).to_be_bytes());
        }
    }
}

fn text(text: &str, out: &mut Vec<u8>) {
    head(3, text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

fn link(cid: Option<&Cid>, out: &mut Vec<u8>) {
    match cid {
        Some(cid) => {
            out.extend([0xd8, 42, 0x58, 37, 0]);
            out.extend_from_slice(cid);
        }
        None => out.push(0xf6),
    }
}

pub fn record(number: usize, padding: usize) -> Vec<u8> {
    let mut out = vec![0xa3];
    text("text", &mut out);
    text(&format!("post {number} {}", "x".repeat(padding)), &mut out);
    text("$type", &mut out);
    text("app.bsky.feed.post", &mut out);
    text("createdAt", &mut out);
    text("2025-10-01T00:00:00.000Z", &mut out);
    out
}

pub fn path(number: usize) -> String {
    format!("app.bsky.feed.post/{number:013}")
}

/// A node that is being filled.
#[derive(Default)]
struct Node {
    left: Option<Cid>,
    entries: Vec<(String, Cid, Option<Cid>)>,
}

impl Node {
    fn attach(&mut self, below: Option<Cid>) {
        match self.entries.last_mut() {
            Some(entry) => entry.2 = below,
            None => self.left = below,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![0xa2, 0x61, b'e'];
        head(4, self.entries.len(), &mut out);
        let mut previous = "";
        for (key, value, right) in &self.entries {
            let shared = key.bytes().zip(previous.bytes()).take_while(|(a, b)| a == b).count();
            out.extend([0xa4, 0x61, b'k']);
            head(2, key.len() - shared, &mut out);
            out.extend_from_slice(&key.as_bytes()[shared..]);
            out.extend([0x61, b'p']);
            head(0, shared, &mut out);
            out.extend([0x61, b't']);
            link(right.as_ref(), &mut out);
            out.extend([0x61, b'v']);
            link(Some(value), &mut out);
            previous = key;
        }
        out.extend([0x61, b'l']);
        link(self.left.as_ref(), &mut out);
        out
    }
}

/// A tree that is built from ascending keys; nodes leave it as soon as they are complete.
#[derive(Default)]
pub struct Tree {
    layers: Vec<Node>,
}

impl Tree {
    pub fn add(&mut self, key: String, value: Cid, each: &mut dyn FnMut(&Cid, &[u8])) {
        let layer = key_layer(key.as_bytes());
        while self.layers.len() <= layer {
            self.layers.push(Node::default());
        }
        let below = self.close_below(layer, each);
        self.layers[layer].attach(below);
        self.layers[layer].entries.push((key, value, None));
    }

    fn close_below(&mut self, layer: usize, each: &mut dyn FnMut(&Cid, &[u8])) -> Option<Cid> {
        let mut below = None;
        for node in &mut self.layers[..layer] {
            if below.is_some() {
                node.attach(below.take());
            }
            if node.left.is_some() || !node.entries.is_empty() {
                let block = std::mem::take(node).encode();
                let cid = block_cid(&block);
                each(&cid, &block);
                below = Some(cid);
            }
        }
        below
    }

    /// The root.
    pub fn finish(mut self, each: &mut dyn FnMut(&Cid, &[u8])) -> Cid {
        if self.layers.is_empty() {
            self.layers.push(Node::default());
        }
        let layers = self.layers.len();
        if let Some(root) = self.close_below(layers, each) {
            return root;
        }
        let block = Node::default().encode();
        let cid = block_cid(&block);
        each(&cid, &block);
        cid
    }
}

pub fn commit(did: &str, data: &Cid, key: &SigningKey) -> Vec<u8> {
    commit_at(REV, did, data, key)
}

/// A commit with a revision of any form.
pub fn commit_at(rev: &str, did: &str, data: &Cid, key: &SigningKey) -> Vec<u8> {
    let body = |signature: Option<&[u8]>| {
        let mut out = vec![if signature.is_some() { 0xa6 } else { 0xa5 }];
        text("did", &mut out);
        text(did, &mut out);
        text("rev", &mut out);
        text(rev, &mut out);
        if let Some(signature) = signature {
            text("sig", &mut out);
            head(2, signature.len(), &mut out);
            out.extend_from_slice(signature);
        }
        text("data", &mut out);
        link(Some(data), &mut out);
        text("prev", &mut out);
        link(None, &mut out);
        text("version", &mut out);
        out.push(3);
        out
    };
    let signature: Signature = key.sign(&body(None));
    body(Some(&signature.normalize_s().to_bytes()))
}

fn section(parts: &[&[u8]], out: &mut Vec<u8>) {
    let mut length: usize = parts.iter().map(|part| part.len()).sum();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

pub fn header(root: &Cid, out: &mut Vec<u8>) {
    let mut body = b"\xa2eroots\x81".to_vec();
    link(Some(root), &mut body);
    body.extend_from_slice(b"gversion\x01");
    section(&[&body], out);
}

pub fn block_section(cid: &Cid, block: &[u8], out: &mut Vec<u8>) {
    section(&[cid, block], out);
}

/// Every block of a tree of so many records; the root.
fn blocks(records: usize, padding: usize, each: &mut dyn FnMut(&Cid, &[u8])) -> Cid {
    let mut tree = Tree::default();
    for number in 0..records {
        let block = record(number, padding);
        let cid = block_cid(&block);
        each(&cid, &block);
        tree.add(path(number), cid, each);
    }
    tree.finish(each)
}

/// Writes a CAR piece by piece: built once for its root and once more for its bytes, so that it is never in memory.
pub fn write_car(did: &str, records: usize, padding: usize, key: &SigningKey, write: &mut dyn FnMut(&[u8])) {
    let data = blocks(records, padding, &mut |_, _| {});
    let commit = commit(did, &data, key);
    let mut out = Vec::new();
    header(&block_cid(&commit), &mut out);
    block_section(&block_cid(&commit), &commit, &mut out);
    blocks(records, padding, &mut |cid, block| {
        block_section(cid, block, &mut out);
        if out.len() > 64 << 10 {
            write(&out);
            out.clear();
        }
    });
    write(&out);
}

pub fn car(did: &str, records: usize, padding: usize, key: &SigningKey) -> Vec<u8> {
    let mut out = Vec::new();
    write_car(did, records, padding, key, &mut |piece| out.extend_from_slice(piece));
    out
}

/// Repositories for the benchmark: sizes in geometric steps from 10 to 50 000 records, one key for all.
pub struct Library {
    /// DID and CAR of each.
    pub repos: Vec<(String, Vec<u8>)>,
    /// Records in all.
    pub records: usize,
}

/// The smallest and the largest repository of a [`Library`], in records.
const SIZES: (f64, f64) = (10.0, 50_000.0);

impl Library {
    /// Builds `count` repositories with records of about 250 bytes.
    pub fn build(count: usize) -> Self {
        let key = key(1);
        let steps = count.saturating_sub(1).max(1) as f64;
        let mut library = Self { repos: Vec::with_capacity(count), records: 0 };
        for number in 0..count {
            let size = SIZES.0 * (SIZES.1 / SIZES.0).powf(number as f64 / steps);
            let did = format!("did:plc:{number:024}");
            let records = size.round() as usize;
            library.records += records;
            library.repos.push((did.clone(), car(&did, records, 150, &key)));
        }
        library
    }

    /// The DID document of one of them.
    pub fn document(did: &str, pds: &str) -> serde_json::Value {
        document(did, &key(1), pds)
    }

    /// Hashes every byte of the CARs, as a limit of what can be verified; the seconds it took.
    pub fn hash_seconds(&self) -> f64 {
        let started = std::time::Instant::now();
        for (_, car) in &self.repos {
            std::hint::black_box(Sha256::digest(car));
        }
        started.elapsed().as_secs_f64()
    }
}
