//! The cache of DID documents that the AppView's processes share in Redis (IDENTITY 3).

use redis::Cmd;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::clock::now_ms;

/// How long an entry stays, in milliseconds: seven days.
const EXPIRES_MS: u64 = 604_800_000;
/// Age from which a document is to be refreshed.
const STALE_MS: u64 = 6 * 3600 * 1000;

/// A cached document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    /// The document's JSON.
    pub json: String,
    /// Older than six hours: usable, and due for a refresh.
    pub stale: bool,
}

/// The key of an account's document.
pub fn key(did: &str) -> String {
    format!("identity:{did}")
}

/// The command that stores a document.
pub fn put(did: &str, json: &str) -> Cmd {
    let mut command = redis::cmd("SET");
    command
        .arg(key(did))
        .arg(format!("{{\"doc\":{json},\"updatedAt\":{}}}", now_ms()))
        .arg("PX")
        .arg(EXPIRES_MS);
    command
}

/// The command that forgets one.
pub fn remove(did: &str) -> Cmd {
    let mut command = redis::cmd("DEL");
    command.arg(key(did));
    command
}

/// Reads a stored value; `None` if it is none or has expired (the key is to be deleted then).
pub fn read(value: &str) -> Option<Cached> {
    #[derive(Deserialize)]
    struct Stored<'a> {
        #[serde(borrow)]
        doc: &'a RawValue,
        #[serde(rename = "updatedAt")]
        updated_at: u64,
    }
    let stored: Stored<'_> = serde_json::from_str(value).ok()?;
    let age = now_ms().saturating_sub(stored.updated_at);
    (age <= EXPIRES_MS).then(|| Cached { json: stored.doc.get().to_owned(), stale: age > STALE_MS })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_form_of_the_reference() {
        let packed =
            String::from_utf8(put("did:plc:a", r#"{"id":"did:plc:a"}"#).get_packed_command()).unwrap();
        assert!(packed.contains("identity:did:plc:a") && packed.contains("604800000"), "{packed}");
        let value = packed.lines().find(|line| line.contains("\"doc\"")).unwrap();
        let cached = read(value).unwrap();
        assert_eq!(cached, Cached { json: r#"{"id":"did:plc:a"}"#.to_owned(), stale: false });
    }

    #[test]
    fn age_decides() {
        let aged = |ms: u64| read(&format!(r#"{{"doc":{{}},"updatedAt":{}}}"#, now_ms() - ms));
        assert!(!aged(STALE_MS - 1000).unwrap().stale);
        assert!(aged(STALE_MS + 1000).unwrap().stale);
        assert_eq!(aged(EXPIRES_MS + 1000), None);
        assert_eq!(read("nonsense"), None);
    }
}
