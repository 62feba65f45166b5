//! Accounts that move to another host between the look at their DID document and the question for their repository.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use rsky_testnet::network::repos::Library;
use rsky_testnet::network::{Network, RepoAnswer, Source};
use rsky_testnet::servers::Redis;
use serde_json::{Value, json};

use crate::support::{Backfiller, dead, events, left, queue, wait_until};

/// An account that has just left its host whenever that is asked for it, so many times.
#[derive(Debug)]
struct Moving {
    moves: usize,
    /// What the host that it has left says.
    says: &'static str,
    car: Vec<u8>,
    asked: AtomicUsize,
    port: OnceLock<u16>,
}

impl Source for Moving {
    fn document(&self, did: &str) -> Option<Value> {
        let moved = self.asked.load(Ordering::SeqCst).min(self.moves);
        // One host under several names.
        Some(Library::document(did, &format!("http://127.0.0.{}:{}", 1 + moved, self.port.get()?)))
    }

    fn handle(&self, _handle: &str) -> Option<String> {
        None
    }

    fn repo(&self, _did: &str) -> Option<RepoAnswer> {
        if self.asked.fetch_add(1, Ordering::SeqCst) < self.moves {
            let body = json!({"error": self.says, "message": "it was here a moment ago"});
            return Some(RepoAnswer::Error { status: 400, body });
        }
        Some(RepoAnswer::Car(self.car.clone().into()))
    }
}

/// How often its hosts were asked, and what became of it.
fn run(moves: usize, says: &'static str) -> (usize, usize, f64) {
    let (did, car) = Library::build(1).repos.remove(0);
    let moving = Arc::new(Moving { moves, says, car, asked: AtomicUsize::new(0), port: OnceLock::new() });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // On all addresses of this machine.
    let any = std::net::Ipv4Addr::UNSPECIFIED.into();
    let network = Network::builder().address(any).source(Arc::clone(&moving) as Arc<dyn Source>);
    let network = runtime.block_on(network.start()).unwrap();
    moving.port.set(network.addr().port()).unwrap();
    let directory = format!("http://127.0.0.1:{}", network.addr().port());
    let redis = Redis::start().unwrap();
    let backfiller = Backfiller::start(&redis.url(), &directory, &[]);
    queue(&redis, &directory, [did.as_str()]);
    wait_until("it is fetched", || left(&redis) == 0);
    // What is acknowledged is counted a moment later.
    let ended = || ["queued", "gone", "deactivated"].map(|class| backfiller.class(class)).iter().sum::<f64>();
    wait_until("it is counted", || ended() == 1.0);
    assert_eq!(dead(&redis).len(), 0);
    let queued = events(&redis).iter().filter(|event| event["type"] == "create").count();
    (moving.asked.load(Ordering::SeqCst), queued, backfiller.class("gone") + backfiller.class("deactivated"))
}

/// A host says that the account is gone; the document says by now where it is.
#[test]
fn an_account_that_moves_meanwhile_is_found_where_it_is() {
    for says in ["RepoNotFound", "RepoDeactivated"] {
        let (asked, queued, gone) = run(1, says);
        assert_eq!((asked, gone), (2, 0.0), "{says}");
        assert!(queued > 0, "{says}");
    }
}

/// Nobody is followed for ever.
#[test]
fn an_account_that_moves_whenever_it_is_asked_for_is_gone() {
    let (asked, queued, gone) = run(200, "RepoNotFound");
    assert_eq!((queued, gone), (0, 1.0));
    assert!((2..10).contains(&asked), "asked {asked} times");
}
