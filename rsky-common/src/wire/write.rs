//! Writers of stream entries, in the reference's key order (PIPELINE 3.1 and 3.2).

use super::json_text::{push_integer, push_name, push_string, push_text_member};
use super::names::SEQ_BACKFILL;

/// Whether a record entry is a `create` or an `update`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordAction {
    /// A new record.
    Create,
    /// A new version of a record.
    Update,
}

/// What all entries of one live commit share.
#[derive(Debug, Clone, Copy)]
pub struct LiveCommit<'a> {
    /// Sequence number of the frame.
    pub seq: i64,
    /// The relay's time, verbatim.
    pub time: &'a str,
    /// The account.
    pub did: &'a str,
    /// CID of the commit, as text.
    pub commit: &'a str,
    /// Revision of the commit.
    pub rev: &'a str,
}

/// Writes the entries of one live commit.
#[derive(Debug)]
pub struct LiveCommitWriter {
    /// `"seq":…,"time":…,"did":…,"commit":…,"rev":…`, written once.
    shared: String,
}

impl LiveCommitWriter {
    /// Prepares what the entries share.
    pub fn new(commit: &LiveCommit<'_>) -> Self {
        let mut shared = String::with_capacity(224);
        shared.push_str("\"seq\":");
        push_integer(&mut shared, commit.seq);
        push_text_member(&mut shared, "time", commit.time);
        push_text_member(&mut shared, "did", commit.did);
        push_text_member(&mut shared, "commit", commit.commit);
        push_text_member(&mut shared, "rev", commit.rev);
        Self { shared }
    }

    /// Bytes that an entry takes beside its record, about.
    pub fn overhead(&self) -> usize {
        self.shared.len() + 192
    }

    /// Appends a `create` or `update`; `record` writes the record's JSON in its place.
    ///
    /// # Errors
    /// What `record` returns; `out` is then as it was.
    pub fn record<E>(
        &self,
        out: &mut String,
        action: RecordAction,
        collection: &str,
        rkey: &str,
        cid: &str,
        record: impl FnOnce(&mut String) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = out.len();
        out.push_str(match action {
            RecordAction::Create => "{\"type\":\"create\",\"record\":",
            RecordAction::Update => "{\"type\":\"update\",\"record\":",
        });
        if let Err(error) = record(out) {
            out.truncate(before);
            return Err(error);
        }
        push_text_member(out, "cid", cid);
        self.finish(out, collection, rkey);
        Ok(())
    }

    /// Appends a `delete`.
    pub fn delete(&self, out: &mut String, collection: &str, rkey: &str) {
        out.push_str("{\"type\":\"delete\"");
        self.finish(out, collection, rkey);
    }

    fn finish(&self, out: &mut String, collection: &str, rkey: &str) {
        out.push(',');
        out.push_str(&self.shared);
        push_text_member(out, "collection", collection);
        push_text_member(out, "rkey", rkey);
        out.push('}');
    }
}

/// Appends an `account` entry; `status` verbatim.
pub fn push_account(out: &mut String, seq: i64, time: &str, did: &str, active: bool, status: Option<&str>) {
    push_actor(out, "account", seq, time, did);
    out.push_str(if active { ",\"active\":true" } else { ",\"active\":false" });
    if let Some(status) = status {
        push_text_member(out, "status", status);
    }
    out.push('}');
}

/// Appends an `identity` entry; `handle` verbatim.
pub fn push_identity(out: &mut String, seq: i64, time: &str, did: &str, handle: Option<&str>) {
    push_actor(out, "identity", seq, time, did);
    if let Some(handle) = handle {
        push_text_member(out, "handle", handle);
    }
    out.push('}');
}

fn push_actor(out: &mut String, kind: &str, seq: i64, time: &str, did: &str) {
    out.push('{');
    push_text_member(out, "type", kind);
    push_name(out, "seq");
    push_integer(out, seq);
    push_text_member(out, "time", time);
    push_text_member(out, "did", did);
}

/// What all entries of one backfilled repository share.
#[derive(Debug, Clone, Copy)]
pub struct BackfilledRepo<'a> {
    /// The account.
    pub did: &'a str,
    /// CID of the commit, as text.
    pub commit: &'a str,
    /// Revision of the commit.
    pub rev: &'a str,
    /// When the repository was read: ISO 8601, UTC, milliseconds, `Z`; the same for all its entries.
    pub time: &'a str,
}

impl BackfilledRepo<'_> {
    /// Appends a `create` with `seq` -2; `record` writes the record's JSON in its place.
    ///
    /// # Errors
    /// What `record` returns; `out` is then as it was.
    pub fn push_create<E>(
        &self,
        out: &mut String,
        collection: &str,
        rkey: &str,
        cid: &str,
        record: impl FnOnce(&mut String) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = out.len();
        out.push_str("{\"type\":\"create\",\"did\":");
        push_string(out, self.did);
        push_text_member(out, "collection", collection);
        push_text_member(out, "rkey", rkey);
        push_text_member(out, "cid", cid);
        out.push_str(",\"record\":");
        if let Err(error) = record(out) {
            out.truncate(before);
            return Err(error);
        }
        push_text_member(out, "commit", self.commit);
        push_text_member(out, "rev", self.rev);
        push_name(out, "seq");
        push_integer(out, SEQ_BACKFILL);
        push_text_member(out, "time", self.time);
        out.push('}');
        Ok(())
    }

    /// Appends the `repo` entry that ends a repository. It has no `seq`.
    pub fn push_repo(&self, out: &mut String) {
        out.push_str("{\"type\":\"repo\",\"did\":");
        push_string(out, self.did);
        push_text_member(out, "rev", self.rev);
        push_text_member(out, "commit", self.commit);
        push_text_member(out, "time", self.time);
        out.push('}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: LiveCommit<'_> =
        LiveCommit { seq: 7, time: "T", did: "did:plc:a", commit: "bafyc", rev: "3k" };

    #[test]
    fn live_entries_have_the_keys_of_the_reference_in_order() {
        let writer = LiveCommitWriter::new(&COMMIT);
        let mut out = String::new();
        let record = |out: &mut String| -> Result<(), ()> {
            out.push_str("{\"a\":1}");
            Ok(())
        };
        writer.record(&mut out, RecordAction::Create, "a.b.c", "r\"1", "bafyr", record).unwrap();
        assert_eq!(
            out,
            r#"{"type":"create","record":{"a":1},"cid":"bafyr","seq":7,"time":"T","did":"did:plc:a","commit":"bafyc","rev":"3k","collection":"a.b.c","rkey":"r\"1"}"#
        );
        out.clear();
        writer.delete(&mut out, "a.b.c", "r");
        assert_eq!(
            out,
            r#"{"type":"delete","seq":7,"time":"T","did":"did:plc:a","commit":"bafyc","rev":"3k","collection":"a.b.c","rkey":"r"}"#
        );
    }

    #[test]
    fn what_is_foreseen_beside_a_record_suffices_and_is_little_more() {
        let (writer, mut out) = (LiveCommitWriter::new(&COMMIT), String::new());
        writer.record(&mut out, RecordAction::Update, "a.b.c", "r", "bafyr", |_| Ok::<(), ()>(())).unwrap();
        assert!(
            (out.len()..out.len() + 192).contains(&writer.overhead()),
            "{} {}",
            out.len(),
            writer.overhead()
        );
    }

    #[test]
    fn backfilled_entries_have_the_keys_of_the_reference_in_order() {
        let repo = BackfilledRepo { did: "did:plc:a", commit: "bafyc", rev: "3k", time: "T" };
        let mut out = String::new();
        let record = |out: &mut String| -> Result<(), ()> {
            out.push_str("{}");
            Ok(())
        };
        repo.push_create(&mut out, "a.b.c", "r", "bafyr", record).unwrap();
        repo.push_repo(&mut out);
        assert_eq!(
            out,
            concat!(
                r#"{"type":"create","did":"did:plc:a","collection":"a.b.c","rkey":"r","cid":"bafyr","record":{},"commit":"bafyc","rev":"3k","seq":-2,"time":"T"}"#,
                r#"{"type":"repo","did":"did:plc:a","rev":"3k","commit":"bafyc","time":"T"}"#
            )
        );
    }

    #[test]
    fn a_record_that_fails_leaves_nothing_behind() {
        let writer = LiveCommitWriter::new(&COMMIT);
        let mut out = String::from("before");
        let failing = |out: &mut String| {
            out.push_str("half");
            Err("no")
        };
        assert_eq!(writer.record(&mut out, RecordAction::Update, "a.b.c", "r", "bafyr", failing), Err("no"));
        let repo = BackfilledRepo { did: "did:plc:a", commit: "bafyc", rev: "3k", time: "T" };
        assert_eq!(repo.push_create(&mut out, "a.b.c", "r", "bafyr", failing), Err("no"));
        assert_eq!(out, "before");
    }

    #[test]
    fn optional_members_are_absent_not_null() {
        let mut out = String::new();
        push_account(&mut out, 1, "T", "did:plc:a", false, Some("deactivated"));
        push_account(&mut out, 2, "T", "did:plc:a", true, None);
        push_identity(&mut out, 3, "T", "did:plc:a", Some("a.test"));
        push_identity(&mut out, 4, "T", "did:plc:a", None);
        assert_eq!(
            out,
            concat!(
                r#"{"type":"account","seq":1,"time":"T","did":"did:plc:a","active":false,"status":"deactivated"}"#,
                r#"{"type":"account","seq":2,"time":"T","did":"did:plc:a","active":true}"#,
                r#"{"type":"identity","seq":3,"time":"T","did":"did:plc:a","handle":"a.test"}"#,
                r#"{"type":"identity","seq":4,"time":"T","did":"did:plc:a"}"#
            )
        );
    }
}
