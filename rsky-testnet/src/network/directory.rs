//! The PLC directory, the handle servers and the repositories of a network.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use super::wrong::{Asked, Asker, Wrong};

/// DIDs whose look-ups are counted one by one.
const COUNTED: usize = 100_000;

/// What getRepo answers for a DID.
#[derive(Clone, Debug, PartialEq)]
pub enum RepoAnswer {
    /// A CAR file, right or wrong.
    Car(Bytes),
    /// An XRPC error.
    Error {
        /// HTTP status.
        status: u16,
        /// JSON body.
        body: Value,
    },
    /// A CAR file, and what becomes of it on the way.
    Wrong(Bytes, Wrong),
}

/// Where a directory looks for what it has not been told itself. Answers may change while the network runs.
pub trait Source: Send + Sync + std::fmt::Debug {
    /// The DID document, as it is to be served.
    fn document(&self, did: &str) -> Option<Value>;
    /// The DID of a handle.
    fn handle(&self, handle: &str) -> Option<String>;
    /// What getRepo answers.
    fn repo(&self, did: &str) -> Option<RepoAnswer>;
    /// What goes wrong with an answer about something else than a repository. Asked once for each answer.
    fn wrong(&self, _asked: Asked<'_>, _by: Asker) -> Option<Wrong> {
        None
    }
}

/// Who is known: DID documents, handles and repositories.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) documents: HashMap<String, Value>,
    pub(super) handles: HashMap<String, String>,
    pub(super) repos: HashMap<String, RepoAnswer>,
    /// By `at://` uri.
    pub(super) records: HashMap<String, (String, Value)>,
}

#[derive(Default)]
struct State {
    known: Known,
    failing: Option<u16>,
    lookups: BTreeMap<String, u64>,
    total: u64,
}

/// The directory of a running network; clones are the same directory.
#[derive(Clone, Default)]
pub struct Directory {
    state: Arc<RwLock<State>>,
    source: Option<Arc<dyn Source>>,
    hanging: Arc<watch::Sender<bool>>,
}

impl Directory {
    pub(super) fn new(known: Known, source: Option<Arc<dyn Source>>) -> Self {
        let state = Arc::new(RwLock::new(State { known, ..State::default() }));
        Self { state, source, hanging: Arc::default() }
    }

    /// Adds or replaces a DID document, under its `id`.
    pub fn set_document(&self, document: Value) {
        let id = document.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        self.write(|state| drop(state.known.documents.insert(id, document)));
    }

    /// Removes a DID document: the directory answers 404.
    pub fn remove_document(&self, did: &str) {
        self.write(|state| drop(state.known.documents.remove(did)));
    }

    /// Makes a handle resolve to `did`; `None` makes it not resolve.
    pub fn set_handle(&self, handle: &str, did: Option<&str>) {
        self.write(|state| match did {
            Some(did) => drop(state.known.handles.insert(handle.to_owned(), did.to_owned())),
            None => drop(state.known.handles.remove(handle)),
        });
    }

    /// Sets what getRepo answers for `did`.
    pub fn set_repo(&self, did: &str, answer: RepoAnswer) {
        self.write(|state| drop(state.known.repos.insert(did.to_owned(), answer)));
    }

    /// Sets what getRecord answers for a uri: the record's CID and value; `None`: that it is not there.
    pub fn set_record(&self, uri: &str, record: Option<(String, Value)>) {
        self.write(|state| match record {
            Some(record) => drop(state.known.records.insert(uri.to_owned(), record)),
            None => drop(state.known.records.remove(uri)),
        });
    }

    /// Answers every look-up of a document or a handle with this HTTP status; `None` ends that.
    pub fn fail_with(&self, status: Option<u16>) {
        self.write(|state| state.failing = status);
    }

    /// Answers no look-up of a document or a handle while it hangs; the questions are answered afterwards, if anybody
    /// still waits for them.
    pub fn hang(&self, hanging: bool) {
        self.hanging.send_replace(hanging);
    }

    /// Waits for the end of [`Directory::hang`].
    pub(super) async fn awake(&self) {
        // The sender is ours: it is not gone.
        drop(self.hanging.subscribe().wait_for(|hanging| !hanging).await);
    }

    /// How often the document of `did` was asked for.
    pub fn lookups(&self, did: &str) -> u64 {
        self.read(|state| state.lookups.get(did).copied().unwrap_or(0))
    }

    /// How often any document was asked for.
    pub fn total_lookups(&self) -> u64 {
        self.read(|state| state.total)
    }

    /// The DIDs with a document, sorted.
    pub fn dids(&self) -> Vec<String> {
        let mut dids: Vec<String> = self.read(|state| state.known.documents.keys().cloned().collect());
        dids.sort();
        dids
    }

    pub(super) fn failing(&self) -> Option<u16> {
        self.read(|state| state.failing)
    }

    /// Notes a look-up through PLC.
    pub(super) fn note(&self, did: &str) {
        self.write(|state| {
            state.total += 1;
            if state.lookups.len() < COUNTED || state.lookups.contains_key(did) {
                *state.lookups.entry(did.to_owned()).or_default() += 1;
            }
        });
    }

    /// The document of `did`, its PDS being at `pds`.
    pub(super) fn document(&self, did: &str, pds: &str) -> Option<Value> {
        let Some(mut document) = self.read(|state| state.known.documents.get(did).cloned()) else {
            return self.source.as_ref()?.document(did);
        };
        let services = document.get_mut("service").and_then(Value::as_array_mut);
        for service in services.into_iter().flatten() {
            let id = service.get("id").and_then(Value::as_str).unwrap_or_default();
            if id.ends_with("#atproto_pds")
                && let Some(endpoint) = service.get_mut("serviceEndpoint")
            {
                *endpoint = Value::from(pds);
            }
        }
        Some(document)
    }

    /// The DID of a handle, written exactly as recorded.
    pub(super) fn handle(&self, handle: &str) -> Option<String> {
        let told = self.read(|state| state.known.handles.get(handle).cloned());
        told.or_else(|| self.source.as_ref()?.handle(handle))
    }

    pub(super) fn repo(&self, did: &str) -> Option<RepoAnswer> {
        let told = self.read(|state| state.known.repos.get(did).cloned());
        told.or_else(|| self.source.as_ref()?.repo(did))
    }

    /// What goes wrong with an answer.
    pub(super) fn wrong(&self, asked: Asked<'_>, by: Asker) -> Option<Wrong> {
        self.source.as_ref()?.wrong(asked, by)
    }

    pub(super) fn record(&self, uri: &str) -> Option<(String, Value)> {
        self.read(|state| state.known.records.get(uri).cloned())
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_pds_is_rewritten() {
        let directory = Directory::default();
        directory.set_document(json!({"id": "did:plc:a", "service": [
            {"id": "#atproto_pds", "serviceEndpoint": "http://localhost:1"},
            {"id": "#atproto_labeler", "serviceEndpoint": "http://localhost:2"},
            {"id": "did:plc:a#atproto_pds", "serviceEndpoint": "http://localhost:3"},
        ]}));
        let document = directory.document("did:plc:a", "http://127.0.0.1:9").unwrap();
        let endpoints: Vec<_> =
            document["service"].as_array().unwrap().iter().map(|s| &s["serviceEndpoint"]).collect();
        assert_eq!(endpoints, ["http://127.0.0.1:9", "http://localhost:2", "http://127.0.0.1:9"]);
        assert!(directory.document("did:plc:b", "x").is_none());
    }

    #[test]
    fn handles_are_matched_as_written() {
        let directory = Directory::default();
        directory.set_handle("A.test", Some("did:plc:upper"));
        directory.set_handle("a.test", Some("did:plc:lower"));
        assert_eq!(directory.handle("A.test").as_deref(), Some("did:plc:upper"));
        assert_eq!(directory.handle("a.test").as_deref(), Some("did:plc:lower"));
        directory.set_handle("a.test", None);
        assert_eq!(directory.handle("a.test"), None);
    }
}
