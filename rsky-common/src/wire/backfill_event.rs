//! Entries of `repo_backfill` and `repo_backfill_priority` (PIPELINE 3.3).

use std::borrow::Cow;

use serde::Deserialize;

use super::error::WireError;
use super::json_text::push_text_member;
use super::text::{Text, lenient, read_object, require};

/// A repository to be backfilled. Only the account is needed to fetch it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackfillEvent<'a> {
    /// The account.
    pub did: Cow<'a, str>,
    /// The host that listed it, as configured, with its scheme; empty if it is not known.
    pub host: Cow<'a, str>,
    /// The revision that was listed; empty if it is not known.
    pub rev: Cow<'a, str>,
    /// Why the account is not active, if the listing said so.
    pub status: Option<Cow<'a, str>>,
    /// Whether the account is active, if the listing said so.
    pub active: Option<bool>,
}

impl BackfillEvent<'_> {
    /// Appends the entry's value, absent members absent.
    pub fn push(&self, out: &mut String) {
        out.push('{');
        push_text_member(out, "did", &self.did);
        push_text_member(out, "host", &self.host);
        push_text_member(out, "rev", &self.rev);
        if let Some(status) = &self.status {
            push_text_member(out, "status", status);
        }
        if let Some(active) = self.active {
            out.push_str(if active { ",\"active\":true" } else { ",\"active\":false" });
        }
        out.push('}');
    }

    /// The entry's value.
    pub fn to_json(&self) -> String {
        let mut out = String::with_capacity(160);
        self.push(&mut out);
        out
    }
}

#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    did: Option<Text<'a>>,
    // What nobody needs may be missing, or of any shape.
    #[serde(default, deserialize_with = "lenient")]
    host: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    rev: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    status: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    active: Option<bool>,
}

/// Reads the value of an entry of a repository stream; unknown members are ignored, `null` is absent (old rsky writes
/// `"status":null`). An account is enough: what a relay lists without head and revision is a letter of the listing, and
/// can be fetched all the same.
///
/// # Errors
/// What cannot be this kind of entry: to be acknowledged and dead-lettered.
pub fn parse_backfill(json: &str) -> Result<BackfillEvent<'_>, WireError> {
    let members: Members<'_> = read_object(json)?;
    Ok(BackfillEvent {
        did: require("backfill", "did", members.did)?,
        host: members.host.unwrap_or_default().into(),
        rev: members.rev.unwrap_or_default().into(),
        status: members.status.map(Cow::Owned),
        active: members.active,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let entries = [
            r#"{"did":"did:plc:a","host":"http://127.0.0.1:5590","rev":"3k","active":true}"#,
            r#"{"did":"did:plc:a","host":"https://bsky.network","rev":"3k","status":"takendown","active":false}"#,
            r#"{"did":"did:plc:a","host":"https://x","rev":"3k"}"#,
        ];
        for entry in entries {
            assert_eq!(parse_backfill(entry).unwrap().to_json(), entry);
        }
    }

    #[test]
    fn old_rsky_writes_null_for_absent() {
        let event = parse_backfill(r#"{"did":"d","host":"https://h","rev":"r","status":null,"active":true}"#)
            .unwrap();
        assert_eq!((event.status, event.active), (None, Some(true)));
    }

    #[test]
    fn entries_that_name_no_account_are_errors() {
        for entry in
            ["", "null", "[]", "{}", r#"{"host":"h","rev":"r"}"#, r#"{"did":1,"host":"h","rev":"r"}"#]
        {
            assert!(parse_backfill(entry).is_err(), "{entry}");
        }
    }

    #[test]
    fn what_nobody_needs_is_no_reason() {
        for entry in [
            r#"{"did":"did:plc:a"}"#,
            r#"{"did":"did:plc:a","head":"","rev":"","active":true}"#,
            r#"{"did":"did:plc:a","host":7,"rev":[],"status":{},"active":"yes"}"#,
        ] {
            let event = parse_backfill(entry).unwrap();
            assert_eq!((&*event.did, &*event.host, &*event.rev), ("did:plc:a", "", ""), "{entry}");
        }
    }
}
