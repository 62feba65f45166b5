//! `indexer index-repo` and a PDS that stalls, and a repository that does not fit into memory.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rsky_testnet::network::repos;
use serde_json::json;

use crate::process::{Ran, count, run};
use crate::repositories::{DID, Records, World, assert_same, car, last, record, some};
use crate::support::Db;

/// How a PDS gives a repository.
#[derive(Clone, Copy)]
enum Manner {
    /// Whole.
    Well,
    /// It takes the question and says nothing.
    Silent,
    /// Half of it, and no more.
    Stalling,
    /// Byte by byte.
    Trickling,
    /// Half of it, and the connection is closed.
    BreakingOff,
}

/// A PDS that is its own directory, with one manner a request; the last one stays.
struct Host {
    url: String,
    requests: Arc<AtomicUsize>,
}

impl Host {
    fn new(manners: &'static [Manner]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let (pds, counted) = (url.clone(), Arc::clone(&requests));
        // They end with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (pds, counted) = (pds.clone(), Arc::clone(&counted));
                std::thread::spawn(move || drop(answer(stream.unwrap(), &pds, manners, &counted)));
            }
        });
        Self { url, requests }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    fn index(&self, db: &Db, arguments: &[&str]) -> Ran {
        let arguments = [&["index-repo", DID], arguments].concat();
        let environment =
            [("DATABASE_URL", db.url()), ("PLC_URL", &self.url), ("ALLOW_PRIVATE_ADDRESSES", "true")];
        run(&arguments, &environment, "")
    }

    /// Runs it; it must not go well. Why.
    fn fails(&self, db: &Db, arguments: &[&str]) -> String {
        let ran = self.index(db, arguments);
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{}", ran.err);
        let head = format!("indexer index-repo: the repository of {DID} at {}/: ", self.url);
        let said = ran.err.strip_prefix(&head).unwrap_or_else(|| panic!("{}", ran.err)).to_owned();
        assert_eq!(count(db, "record"), 0);
        said
    }
}

fn answer(
    mut stream: TcpStream,
    pds: &str,
    manners: &[Manner],
    counted: &AtomicUsize,
) -> std::io::Result<()> {
    let (mut first, mut lines) = (String::new(), BufReader::new(stream.try_clone()?).lines());
    while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
        if first.is_empty() {
            first = line;
        }
    }
    let (kind, body) = if first.contains("getRepo") {
        ("application/vnd.ipld.car", car(DID, &some(), 1))
    } else {
        ("application/json", repos::document(DID, &repos::key(1), pds).to_string().into_bytes())
    };
    let manner = if first.contains("getRepo") {
        manners[counted.fetch_add(1, Ordering::Relaxed).min(manners.len() - 1)]
    } else {
        Manner::Well
    };
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n");
    let stall = Duration::from_secs(3600);
    match manner {
        Manner::Well => {
            stream.write_all(head.as_bytes())?;
            stream.write_all(&body)
        }
        Manner::Silent => {
            std::thread::sleep(stall);
            Ok(())
        }
        Manner::Stalling | Manner::BreakingOff => {
            stream.write_all(head.as_bytes())?;
            stream.write_all(&body[..length / 2])?;
            if matches!(manner, Manner::Stalling) {
                std::thread::sleep(stall);
            }
            stream.shutdown(Shutdown::Both)
        }
        Manner::Trickling => {
            stream.write_all(head.as_bytes())?;
            for byte in body {
                stream.write_all(&[byte])?;
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        }
    }
}

#[test]
fn a_download_that_stalls_ends_with_a_clear_error() {
    for (manners, why) in [
        (&[Manner::Silent] as &[_], "no answer within 1s"),
        (&[Manner::Stalling], "less than 1024 bytes within 1s"),
        (&[Manner::Trickling], "less than 1024 bytes within 1s"),
        (&[Manner::BreakingOff], "the download broke off"),
    ] {
        let (host, db) = (Host::new(manners), Db::new("stalls"));
        let said = host.fails(&db, &["--patience", "1"]);
        assert!(said.starts_with(why), "{said}");
        assert_eq!(host.requests(), 3);
    }
}

#[test]
fn a_download_has_an_end() {
    let (host, db) = (Host::new(&[Manner::Trickling]), Db::new("trickles"));
    let said = host.fails(&db, &["--timeout", "1"]);
    assert!(said.starts_with("the download was not done within 1s"), "{said}");
    assert_eq!(host.requests(), 1, "no time is left for another");
}

#[test]
fn what_stalls_once_is_tried_again() {
    let host = Host::new(&[Manner::Stalling, Manner::BreakingOff, Manner::Well]);
    let (db, right) = (Db::new("stalls_once"), Db::new("right"));
    let ran = host.index(&db, &["--patience", "1"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(last(&ran.out).starts_with("created 10, "), "{}", ran.out);
    World::of(&some()).index(&right, &[]);
    assert_same(&db, &right);
}

/// Larger than what is held in memory (32 MiB), with the records that are indexed among the others.
fn large() -> Records {
    let filling = |number: usize| {
        record(
            &format!("com.example.thing/{number:03}"),
            json!({"number": number, "text": "x".repeat(1 << 20)}),
        )
    };
    let mut records = some();
    records.extend((0..40).map(filling));
    records
}

#[test]
fn a_large_repository_goes_through_a_temporary_file() {
    let world = World::of(&large());
    let (db, right) = (Db::new("spill"), Db::new("spill_right"));
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("spill-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let path = directory.to_str().unwrap();
    let out = world.index(&db, &["--temp-dir", path]);
    assert!(last(&out).starts_with("created 10, updated 0,"), "{out}");
    assert!(out.contains("41 of collections that are not indexed"), "{out}");
    // Nothing is left behind.
    std::fs::remove_dir(&directory).unwrap();

    // Of a small one nothing is written anywhere, of a large one it must be.
    let nowhere = directory.join("nowhere");
    let nowhere = nowhere.to_str().unwrap();
    let empty = Db::new("spill_nowhere");
    let ran = world.run(empty.url(), &[DID, "--temp-dir", nowhere]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("write a temporary file: No such file or directory"), "{}", ran.err);
    assert_eq!(count(&empty, "record"), 0);
    World::of(&some()).index(&right, &["--temp-dir", nowhere]);
    assert_same(&db, &right);
}
