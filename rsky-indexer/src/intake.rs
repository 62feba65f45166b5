//! A stream entry becomes work for the engine, or the reason why it does not.
//!
//! Everything that needs no database happens here: parsing, the lexicon, ownership, the typed row.

use rsky_common::wire::{self, DeleteEvent, RecordEvent, StreamEvent};

use crate::collections::{self, Collection, Parts, build_row, check_ownership};
use crate::engine::{AccountNews, Action, Change, Content, News, SeenCommit, Work, may_be_refused};
use crate::lexicon::{self, Edition};
use crate::metrics::{EventType, Place};
use crate::text::json::Json;

const PROFILE: &str = "app.bsky.actor.profile";

/// What an entry turned out to be.
#[derive(Debug)]
pub enum Intake<T> {
    /// It changes the database.
    Work(T),
    /// There is nothing to do for it; the label says why, for the counter.
    Nothing(&'static str),
    /// It cannot be indexed: to be acknowledged, counted by reason and kept as a dead letter (DECISIONS 8).
    Rejected {
        /// One of a closed set, for the counter.
        reason: &'static str,
        /// For a person.
        error: String,
    },
}

/// Reads one `event` payload as the reference would.
pub fn read(payload: &str) -> Intake<Work> {
    read_in(Edition::Reference, payload)
}

/// Reads one `event` payload as an AppView with the collections and lexicons of an edition would.
pub fn read_in(edition: Edition, payload: &str) -> Intake<Work> {
    let mut intake = read_event(edition, payload);
    if let Intake::Work(work) = &mut intake {
        work.is_doubtful = may_be_refused(payload, work);
    }
    intake
}

fn read_event(edition: Edition, payload: &str) -> Intake<Work> {
    let event = match wire::parse(payload) {
        Ok(event) => event,
        Err(error) => return rejected("malformed_entry", error),
    };
    match event {
        StreamEvent::Create(write) => read_write(edition, &write, false),
        StreamEvent::Update(write) => read_write(edition, &write, true),
        StreamEvent::Delete(delete) => read_delete(edition, &delete),
        StreamEvent::Repo(repo) => {
            let seen = SeenCommit { did: repo.did.into(), commit: repo.commit.into(), rev: repo.rev.into() };
            Intake::Work(Work { seen: Some(seen), event: EventType::Repo, ..Work::default() })
        }
        StreamEvent::Account(account) => match News::of_status(account.active, account.status.as_deref()) {
            Some(what) => about_account(&account.did, &account.time, what, EventType::Account),
            // Nobody is hidden or shown for it (DECISIONS 17).
            None => Intake::Nothing("account_status_without_effect"),
        },
        StreamEvent::Identity(identity) => {
            about_account(&identity.did, &identity.time, News::Identity, EventType::Identity)
        }
        StreamEvent::Unknown(kind) => {
            rejected("unknown_type", format!("events of type {kind} are not known"))
        }
    }
}

fn read_write(edition: Edition, write: &RecordEvent<'_>, update: bool) -> Intake<Work> {
    let seen = seen_commit(write.seq, &write.did, &write.commit, &write.rev);
    let place = Place::of(&write.collection);
    let event = if update { EventType::Update(place) } else { EventType::Create(place) };
    let Some(collection) = declaration_in(edition, &write.collection) else {
        return work(edition, &write.time, None, seen, event);
    };
    let json = write.record.get();
    let record = match Json::parse(json) {
        Ok(record) => record,
        Err(error) => return rejected("malformed_record", error),
    };
    let verdict = if collection.is_validated_in(edition) {
        lexicon::validate_in(edition, collection.nsid, &record)
    } else {
        lexicon::check_decodable(&record).map_err(lexicon::Invalid::from)
    };
    if let Err(invalid) = verdict {
        return rejected("invalid_record", invalid);
    }
    if let Err(error) = check_ownership(collection, &write.did, &write.rkey, &record) {
        return rejected("not_the_owner", error);
    }
    let row = build_row(collection, &write.rkey, &record);
    let parts = Parts::of(collection, &record);
    let content = Content { cid: write.cid.as_ref().into(), json: json.into(), row, parts };
    let change = Change {
        uri: uri(&write.did, &write.collection, &write.rkey),
        did: write.did.as_ref().into(),
        collection,
        rkey: write.rkey.as_ref().into(),
        rev: write.rev.as_ref().into(),
        live: seen.is_some(),
        time: write.time.as_ref().into(),
        action: if update { Action::Update(content) } else { Action::Create(content) },
    };
    work(edition, &write.time, Some(change), seen, event)
}

fn read_delete(edition: Edition, delete: &DeleteEvent<'_>) -> Intake<Work> {
    let seen = seen_commit(delete.seq, &delete.did, &delete.commit, &delete.rev);
    let event = EventType::Delete(Place::of(&delete.collection));
    let Some(collection) = declaration_in(edition, &delete.collection) else {
        return work(edition, &delete.time, None, seen, event);
    };
    let change = Change {
        uri: uri(&delete.did, &delete.collection, &delete.rkey),
        did: delete.did.as_ref().into(),
        collection,
        rkey: delete.rkey.as_ref().into(),
        rev: delete.rev.as_ref().into(),
        live: seen.is_some(),
        time: delete.time.as_ref().into(),
        action: Action::Delete,
    };
    work(edition, &delete.time, Some(change), seen, event)
}

fn declaration_in(edition: Edition, nsid: &str) -> Option<&'static Collection> {
    collections::declaration_of(nsid).filter(|collection| collection.is_in(edition))
}

/// A live event notes its commit; in a backfill only the closing `repo` event does (PIPELINE §6.6).
fn seen_commit(seq: Option<i64>, did: &str, commit: &str, rev: &str) -> Option<SeenCommit> {
    let live = seq.is_some_and(|seq| seq >= 0);
    live.then(|| SeenCommit { did: did.into(), commit: commit.into(), rev: rev.into() })
}

fn uri(did: &str, collection: &str, rkey: &str) -> String {
    ["at://", did, "/", collection, "/", rkey].concat()
}

fn work(
    edition: Edition,
    time: &str,
    change: Option<Change>,
    seen: Option<SeenCommit>,
    event: EventType,
) -> Intake<Work> {
    let news = |did: &str, what| AccountNews { did: did.to_owned(), time: time.to_owned(), what };
    // Whoever has, changes or deletes a profile has a handle (IDENTITY 1).
    let profile = change.as_ref().filter(|change| change.collection.nsid == PROFILE);
    let commit = seen.as_ref().filter(|_| edition.looks_at_handles_with_commits());
    let account = match (profile, commit) {
        (Some(change), _) => Some(news(&change.did, News::Profile)),
        (None, Some(commit)) => Some(news(&commit.did, News::Commit)),
        (None, None) => None,
    };
    Intake::Work(Work { change, seen, account, event, ..Work::default() })
}

fn about_account(did: &str, time: &str, what: News, event: EventType) -> Intake<Work> {
    let account = AccountNews { did: did.to_owned(), time: time.to_owned(), what };
    Intake::Work(Work { account: Some(account), event, ..Work::default() })
}

fn rejected(reason: &'static str, error: impl ToString) -> Intake<Work> {
    Intake::Rejected { reason, error: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, collection: &str, record: &str) -> String {
        format!(
            r#"{{"type":"{kind}","record":{record},"cid":"c","seq":5,"time":"t","did":"did:plc:a","commit":"k","rev":"r","collection":"{collection}","rkey":"1"}}"#
        )
    }

    const BLOCK: &str =
        r#"{"$type":"app.bsky.graph.block","subject":"did:plc:b","createdAt":"2024-01-01T00:00:00Z"}"#;

    #[test]
    fn an_invalid_record_is_rejected() {
        let invalid = read(&event("create", "app.bsky.feed.post", r#"{"$type":"app.bsky.feed.post"}"#));
        assert!(matches!(invalid, Intake::Rejected { reason: "invalid_record", .. }), "{invalid:?}");
    }

    #[test]
    fn a_backfilled_record_does_not_move_the_sync_state() {
        let live = event("create", "app.bsky.graph.block", BLOCK);
        let Intake::Work(work) = read(&live) else { panic!() };
        assert!(work.change.is_some() && work.seen.is_some());
        let Intake::Work(work) = read(&live.replace("\"seq\":5", "\"seq\":-2")) else { panic!() };
        assert!(work.change.is_some() && work.seen.is_none());
    }

    #[test]
    fn a_commit_has_its_account_looked_at_in_later_editions() {
        let news = |edition, payload: &str| match read_in(edition, payload) {
            Intake::Work(work) => work.account.map(|news| (news.did, news.time, news.what)),
            other => panic!("{other:?}"),
        };
        let commit = Some(("did:plc:a".to_owned(), "t".to_owned(), News::Commit));
        let delete = event("delete", "app.bsky.graph.block", "null");
        let unknown = event("create", "com.example.x", "{}");
        for payload in [event("create", "app.bsky.graph.block", BLOCK), delete, unknown] {
            assert_eq!(news(Edition::Reference, &payload), None);
            assert_eq!(news(Edition::Fork, &payload), commit);
            assert_eq!(news(Edition::Upstream, &payload), commit);
            assert_eq!(news(Edition::Upstream, &payload.replace("\"seq\":5", "\"seq\":-2")), None);
        }
        let profile = event("create", PROFILE, r#"{"$type":"app.bsky.actor.profile"}"#);
        for edition in [Edition::Reference, Edition::Fork] {
            assert!(matches!(news(edition, &profile), Some((_, _, News::Profile))));
        }
        let repo = r#"{"type":"repo","seq":-2,"time":"t","did":"did:plc:a","commit":"k","rev":"r"}"#;
        assert_eq!(news(Edition::Fork, repo), None);
    }

    #[test]
    fn a_collection_without_a_rule_moves_the_sync_state_alone() {
        let Intake::Work(work) = read(&event("create", "com.example.x", "{}")) else { panic!() };
        assert!(work.change.is_none() && work.seen.is_some());
    }
}
