//! One account: its names, its keys, where it lives.

use serde_json::{Value, json};

use super::super::load::draw::Rng;
use super::keys::SigningKey;
use super::repository::Repository;

/// An account of the world.
pub(super) struct Account {
    pub(super) did: String,
    pub(super) handle: String,
    /// Whether the handle leads back to the account.
    pub(super) proven: bool,
    pub(super) key: SigningKey,
    /// Number of its host.
    pub(super) host: usize,
    pub(super) repository: Repository,
    /// Whether it has signed up.
    pub(super) joined: bool,
    /// Whether its identity has changed since the history.
    pub(super) moved: bool,
    /// Whether its key has changed and nothing was signed since.
    pub(super) rotated: bool,
    /// Whether it is gone for good.
    pub(super) gone: bool,
}

impl Account {
    /// `web`: the host of its document, if it is a did:web.
    pub(super) fn new(number: usize, hosts: usize, web: Option<&str>, rng: &mut Rng) -> Self {
        let plc = did(rng);
        let did = web.map_or(plc, |host| format!("did:web:{}", host.replace(':', "%3A")));
        let name: String = (0..5).map(|_| char::from(b'a' + rng.below(26) as u8)).collect();
        Self {
            did,
            handle: format!("{name}{number}.world.test"),
            proven: rng.below(12) > 0,
            key: SigningKey::from_bytes(rng.bytes()),
            host: rng.below(hosts),
            repository: Repository::default(),
            joined: false,
            moved: false,
            rotated: false,
            gone: false,
        }
    }

    /// The DID document, its host at this address.
    pub(super) fn document(&self, endpoint: &str) -> Value {
        let did = &self.did;
        json!({
            "@context": ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"],
            "id": did,
            "alsoKnownAs": [format!("at://{}", self.handle)],
            "verificationMethod": [{
                "id": format!("{did}#atproto"),
                "type": "Multikey",
                "controller": did,
                "publicKeyMultibase": self.key.multikey(),
            }],
            "service": [{
                "id": "#atproto_pds",
                "type": "AtprotoPersonalDataServer",
                "serviceEndpoint": endpoint,
            }],
        })
    }
}

fn did(rng: &mut Rng) -> String {
    const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut did = "did:plc:".to_owned();
    did.extend(rng.bytes::<24>().map(|byte| char::from(BASE32[usize::from(byte & 31)])));
    did
}
