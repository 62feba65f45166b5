//! A simulated directory with accounts, and the events that tell of them.

use rsky_testnet::network::{Directory, Network, RunningNetwork, repos};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::process::Indexer;

pub const T0: &str = "2026-01-02T00:00:00.000Z";

/// A network with a runtime of its own: the tests block.
pub struct World {
    pub directory: Directory,
    network: RunningNetwork,
    _runtime: Runtime,
}

impl World {
    pub fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let network = runtime.block_on(Network::builder().start()).unwrap();
        Self { directory: network.directory(), network, _runtime: runtime }
    }

    /// Starts an indexer that asks this network.
    pub fn indexer(&self, redis_url: &str, database_url: &str, more: &[(&str, &str)]) -> Indexer {
        let url = self.network.url();
        let mut settings = vec![
            ("PLC_URL", url.as_str()),
            ("HANDLE_RESOLVER_URL", url.as_str()),
            ("ALLOW_PRIVATE_ADDRESSES", "true"),
            ("INDEXER_HANDLE_CONCURRENCY", "16"),
        ];
        settings.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
        settings.extend_from_slice(more);
        Indexer::start(redis_url, database_url, &settings)
    }

    /// An account whose document names this handle, which leads back to it.
    pub fn account(&self, did: &str, handle: &str) {
        self.directory.set_document(document(did, handle));
        self.directory.set_handle(handle, Some(did));
    }
}

pub fn document(did: &str, handle: &str) -> Value {
    let mut document = repos::document(did, &repos::key(1), "http://localhost:1");
    document["alsoKnownAs"] = json!([format!("at://{handle}")]);
    document
}

pub fn identity(did: &str, time: &str) -> String {
    json!({"type": "identity", "seq": 1, "time": time, "did": did, "handle": "never.trusted"}).to_string()
}

pub fn account(did: &str, time: &str, status: Option<&str>) -> String {
    match status {
        None => json!({"type": "account", "seq": 1, "time": time, "did": did, "active": true}),
        Some(status) => {
            json!({"type": "account", "seq": 1, "time": time, "did": did, "active": false, "status": status})
        }
    }
    .to_string()
}

pub fn record(did: &str, collection: &str, rkey: &str, record: &Value) -> String {
    let cid = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq";
    let mut record = record.clone();
    record["$type"] = collection.into();
    json!({"type": "create", "record": record, "cid": cid, "seq": 1, "time": T0, "did": did, "commit": cid,
        "rev": "3l2222222222a", "collection": collection, "rkey": rkey})
    .to_string()
}

pub fn profile(did: &str) -> String {
    record(did, "app.bsky.actor.profile", "self", &json!({"displayName": "x"}))
}
