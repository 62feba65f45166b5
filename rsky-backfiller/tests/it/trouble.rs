//! Hosts with every kind of trouble, all at once: the healthy ones are queued completely, every bad one lands in its class.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rsky_testnet::servers::Redis;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Backfiller, dead, events, left, queue, wait_until};
use crate::synthetic;

/// What a host does with a request for a repository.
#[derive(Clone)]
pub enum Host {
    Car(Bytes),
    /// An answer as it stands.
    Raw(Vec<u8>),
    /// The first few requests are answered with this, then with the repository.
    First(u32, Vec<u8>, Bytes),
    /// Accepts, and says nothing.
    Hangs,
    /// Begins, then a byte a second.
    Trickles,
    /// Begins, and breaks off.
    Breaks(Bytes),
    /// Never ends.
    Endless,
    /// Compressed, and never ends.
    Bomb,
}

/// Everything is served at one port of 127.0.0.0/8: each repository's PDS has an address of its own there, so each is a
/// host of its own.
pub struct Hosts {
    pub port: u16,
    hosts: std::sync::RwLock<BTreeMap<String, (Host, serde_json::Value, AtomicU32)>>,
}

pub fn address(number: usize) -> String {
    format!("127.1.{}.{}", number / 250, number % 250 + 1)
}

pub fn did(number: usize) -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
    let (a, b, c) = (LETTERS[number / 676 % 26], LETTERS[number / 26 % 26], LETTERS[number % 26]);
    format!("did:plc:aaaaaaaaaaaaaaaaaaaaa{}{}{}", a as char, b as char, c as char)
}

impl Hosts {
    pub async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let hosts = Arc::new(Self { port: listener.local_addr().unwrap().port(), hosts: Default::default() });
        let serving = Arc::clone(&hosts);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let hosts = Arc::clone(&serving);
                tokio::spawn(async move { drop(hosts.serve(stream).await) });
            }
        });
        hosts
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn add(&self, number: usize, host: Host, key: u8) -> String {
        let pds = format!("http://{}:{}", address(number), self.port);
        self.add_at(number, host, key, &pds)
    }

    pub fn add_at(&self, number: usize, host: Host, key: u8, pds: &str) -> String {
        let did = did(number);
        let document = synthetic::document(&did, &synthetic::key(key), pds);
        self.hosts.write().unwrap().insert(did.clone(), (host, document, AtomicU32::new(0)));
        did
    }

    /// Requests for a repository so far.
    pub fn requests(&self, did: &str) -> u32 {
        self.hosts.read().unwrap()[did].2.load(Ordering::SeqCst)
    }

    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut request = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            request.extend_from_slice(&buffer[..read]);
            if !request.ends_with(b"\r\n\r\n") {
                continue;
            }
            let line =
                String::from_utf8_lossy(&request).lines().next().unwrap_or_default().replace("%3A", ":");
            request.clear();
            let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
            match target.strip_prefix("/xrpc/com.atproto.sync.getRepo?did=") {
                Some(did) => self.repository(&mut stream, did).await?,
                None => self.document(&mut stream, target.trim_start_matches('/')).await?,
            }
        }
    }

    async fn document(&self, stream: &mut TcpStream, did: &str) -> std::io::Result<()> {
        let document = self.hosts.read().unwrap().get(did).map(|(_, document, _)| document.to_string());
        let (status, body) = document.map_or(("404 Not Found", String::new()), |body| ("200 OK", body));
        stream
            .write_all(
                format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes(),
            )
            .await
    }

    async fn repository(&self, stream: &mut TcpStream, did: &str) -> std::io::Result<()> {
        let found = self
            .hosts
            .read()
            .unwrap()
            .get(did)
            .map(|(host, _, count)| (host.clone(), count.fetch_add(1, Ordering::SeqCst)));
        let Some((host, count)) = found else {
            return stream.write_all(&error(400, "RepoNotFound", "")).await;
        };
        match host {
            Host::Car(car) => send_car(stream, &car).await,
            Host::Raw(answer) => stream.write_all(&answer).await,
            Host::First(times, answer, _) if count < times => stream.write_all(&answer).await,
            Host::First(_, _, car) => send_car(stream, &car).await,
            Host::Hangs => {
                tokio::time::sleep(Duration::from_secs(600)).await;
                Ok(())
            }
            Host::Trickles => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
                loop {
                    stream.write_all(b"1\r\nx\r\n").await?;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
            Host::Breaks(car) => {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", car.len());
                stream.write_all(head.as_bytes()).await?;
                stream.write_all(&car[..car.len() / 2]).await?;
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            Host::Endless => {
                let mut start = Vec::new();
                synthetic::header(&synthetic::block_cid(b""), &mut start);
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                stream.write_all(&start).await?;
                let mut block = Vec::new();
                synthetic::block_section(&synthetic::block_cid(&[7; 1000]), &[7; 1000], &mut block);
                let many = block.repeat(64);
                loop {
                    stream.write_all(&many).await?;
                }
            }
            Host::Bomb => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n").await?;
                let bomb = tokio::task::spawn_blocking(bomb).await?;
                stream.write_all(&bomb).await?;
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
        }
    }
}

/// 256 MiB of valid blocks in some hundred kilobytes.
fn bomb() -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut start = Vec::new();
    synthetic::header(&synthetic::block_cid(b""), &mut start);
    encoder.write_all(&start).unwrap();
    let block = vec![0; 1 << 20];
    let mut section = Vec::new();
    synthetic::block_section(&synthetic::block_cid(&block), &block, &mut section);
    for _ in 0..64 {
        encoder.write_all(&section).unwrap();
    }
    encoder.finish().unwrap()
}

async fn send_car(stream: &mut TcpStream, car: &[u8]) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.ipld.car\r\ncontent-length: {}\r\n\r\n",
        car.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(car).await
}

pub fn error(status: u16, name: &str, headers: &str) -> Vec<u8> {
    let body = format!(r#"{{"error":"{name}","message":"said by the test"}}"#);
    format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

pub fn redirect(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes()
}

/// Records and `repo` events of every account in the output.
pub fn counts(redis: &Redis) -> BTreeMap<String, (usize, usize)> {
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for event in events(redis) {
        let count = counts.entry(event["did"].as_str().unwrap().to_owned()).or_default();
        if event["type"] == "repo" { count.1 += 1 } else { count.0 += 1 }
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bad_host_is_classed_and_the_others_are_whole() {
    const HEALTHY: usize = 60;
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let key = synthetic::key(1);
    let car = |number: usize, records: usize| Bytes::from(synthetic::car(&did(number), records, 20, &key));
    let mut dids = Vec::new();
    for number in 0..HEALTHY {
        // Three repositories a host.
        let pds = format!("http://{}:{}", address(number / 3), hosts.port);
        dids.push(hosts.add_at(number, Host::Car(car(number, number * 7)), 1, &pds));
    }
    let mut expected: BTreeMap<String, &str> = BTreeMap::new();
    let mut finished: Vec<(usize, usize)> = (0..HEALTHY).map(|number| (number, number * 7)).collect();
    let mut next = 100;
    let mut bad = |host: Host, key: u8, reason: &'static str| {
        next += 1;
        let did = hosts.add(next, host, key);
        if !reason.is_empty() {
            expected.insert(did.clone(), reason);
        }
        dids.push(did);
        next
    };
    bad(Host::Hangs, 1, "timeout");
    bad(Host::Trickles, 1, "timeout");
    bad(Host::Raw(error(500, "InternalServerError", "")), 1, "server_error");
    bad(Host::Raw(error(502, "", "")), 1, "server_error");
    bad(Host::Raw(error(404, "NotFound", "")), 1, "client_error");
    bad(Host::Breaks(car(106, 500)), 1, "interrupted");
    bad(
        Host::Raw(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 5\r\n\r\nhello".to_vec()),
        1,
        "content_type",
    );
    bad(Host::Endless, 1, "too_large");
    bad(Host::Bomb, 1, "too_large");
    let looping = redirect(&format!(
        "http://{}:{}/xrpc/com.atproto.sync.getRepo?did={}",
        address(110),
        hosts.port,
        did(110)
    ));
    bad(Host::Raw(looping), 1, "refused_address");
    bad(Host::Raw(redirect("file:///etc/passwd")), 1, "refused_address");
    bad(Host::Raw(redirect("http://user:pw@127.0.0.1/")), 1, "refused_address");
    bad(Host::Car(car(113, 5)), 2, "bad_signature");
    // Somebody else's repository.
    bad(Host::Car(car(1, 5)), 1, "wrong_did");
    bad(Host::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\ngarbage".to_vec()), 1, "bad_car");
    bad(Host::Car(empty_nodes(116)), 1, "bad_tree");
    for name in ["RepoNotFound", "RepoDeactivated", "RepoTakendown", "RepoSuspended"] {
        bad(Host::Raw(error(400, name, "")), 1, "");
    }
    // Patience is rewarded: by the second with a header, without one, and after a 503.
    for (answer, records) in [
        (error(429, "RateLimitExceeded", "retry-after: 1\r\n"), 3),
        (error(429, "", ""), 4),
        (error(503, "", "retry-after: 1\r\n"), 5),
    ] {
        let number = 121 + records - 3;
        let given = bad(Host::First(2, answer, car(number, records)), 1, "");
        assert_eq!(given, number);
        finished.push((number, records));
    }
    queue(&redis, &hosts.url(), &dids);
    let backfiller = Backfiller::start(
        &redis.url(),
        &hosts.url(),
        &[
            ("BACKFILLER_HTTP_TIMEOUT_SECS", "1"),
            ("BACKFILLER_STALL_TIMEOUT_SECS", "1"),
            ("BACKFILLER_MAX_REPO_BYTES", "16MiB"),
            ("MAX_ATTEMPTS", "3"),
        ],
    );
    wait_until("all repositories are settled", || left(&redis) == 0);
    assert_eq!(
        dead(&redis).into_iter().collect::<Vec<_>>(),
        expected.into_iter().map(|(did, reason)| (did, reason.to_owned())).collect::<Vec<_>>()
    );
    let counts = counts(&redis);
    for (number, records) in &finished {
        assert_eq!(counts.get(&did(*number)), Some(&(*records, 1)), "{}", did(*number));
    }
    assert_eq!(counts.len(), finished.len(), "nothing of the others is in the output");
    for class in ["gone", "deactivated", "takendown", "suspended"] {
        assert_eq!(backfiller.class(class), 1.0, "{class}");
    }
    // Being told to wait is no failure: three hosts said so twice each.
    assert_eq!(backfiller.class("rate_limited"), 4.0);
    let bound = backfiller.metric("backfiller_memory_bound_bytes", "").unwrap();
    println!("peak {} MiB of {} MiB", backfiller.peak_memory() >> 20, bound as u64 >> 20);
    assert!((backfiller.peak_memory() as f64) < bound);
}

/// A tree with very many empty nodes.
fn empty_nodes(number: usize) -> Bytes {
    let empty = b"\xa2\x61e\x80\x61l\xf6".to_vec();
    let mut below = synthetic::block_cid(&empty);
    let mut blocks = vec![(below, empty)];
    for _ in 0..50_000 {
        let mut node = b"\xa2\x61e\x80\x61l\xd8\x2a\x58\x25\0".to_vec();
        node.extend_from_slice(&below);
        below = synthetic::block_cid(&node);
        blocks.push((below, node));
    }
    let commit = synthetic::commit(&did(number), &below, &synthetic::key(1));
    let mut out = Vec::new();
    synthetic::header(&synthetic::block_cid(&commit), &mut out);
    synthetic::block_section(&synthetic::block_cid(&commit), &commit, &mut out);
    blocks.iter().for_each(|(cid, block)| synthetic::block_section(cid, block, &mut out));
    out.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_addresses_are_not_contacted_unless_allowed() {
    let hosts = Hosts::start().await;
    let redis = Redis::start().unwrap();
    let car = Bytes::from(synthetic::car(&did(1), 1, 1, &synthetic::key(1)));
    let mut dids = vec![hosts.add(1, Host::Car(car.clone()), 1)];
    for (number, pds) in [
        (2, "https://127.0.0.1"),
        (3, "https://169.254.169.254"),
        (4, "https://[::1]"),
        (5, "https://[::ffff:127.0.0.1]"),
        (6, "https://10.0.0.1"),
        (7, "https://localhost"),
        (8, "http://pds.example"),
        (9, "https://u:p@pds.example"),
        (10, "https://0x7f000001"),
    ] {
        dids.push(hosts.add_at(number, Host::Car(car.clone()), 1, pds));
    }
    queue(&redis, &hosts.url(), &dids);
    let _backfiller = Backfiller::start(&redis.url(), &hosts.url(), &[("ALLOW_PRIVATE_ADDRESSES", "false")]);
    wait_until("all repositories are settled", || left(&redis) == 0);
    let dead = dead(&redis);
    for did in &dids {
        assert_eq!(dead.get(did).map(String::as_str), Some("refused_address"), "{did}");
        assert_eq!(hosts.requests(did), 0);
    }
}
