//! Every frame of the recorded corpus becomes exactly the entries that the reference wrote for it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rsky_common::atproto::{CollectionFilter, Converted, FrameKind, OpCounts, convert, convert_labels};
use rsky_common::wire::{
    self, BackfilledRepo, Entry, LabelEntry, LiveCommit, LiveCommitWriter, RecordAction, StreamEvent,
    parse_backfill, parse_labels,
};

use crate::support::{frames, golden_stream, testdata};

fn convert_corpus(names: [&str; 2], convert: impl Fn(&[u8]) -> Converted) -> Vec<Converted> {
    let recordings = names.map(|name| testdata(&format!("corpus/{name}.frames")));
    recordings.iter().flat_map(|recording| frames(recording)).map(convert).collect()
}

fn kinds(converted: &[Converted]) -> BTreeMap<&'static str, usize> {
    let mut kinds = BTreeMap::new();
    for one in converted {
        *kinds.entry(one.kind.label()).or_default() += 1;
    }
    kinds
}

#[test]
fn live_entries_equal_those_of_the_reference() {
    let all = CollectionFilter::all();
    let converted = convert_corpus(["firehose", "firehose-extra"], |frame| convert(frame, &all));
    let expected = golden_stream("firehose_live", "event");
    let written: Vec<&Entry> = converted.iter().flat_map(|one| &one.entries).collect();
    for (at, (written, expected)) in written.iter().zip(&expected).enumerate() {
        assert_eq!(*written, expected, "entry {at}");
    }
    assert_eq!((written.len(), expected.len()), (1655, 1655));
    assert!(converted.iter().all(|one| one.rejected.is_empty()));

    let kinds = kinds(&converted);
    assert_eq!(
        (kinds["identity"], kinds["account"], kinds["sync"], kinds["info"], kinds["other"]),
        (105, 97, 82, 1, 1)
    );
    let mut ops = OpCounts::default();
    for one in &converted {
        ops.creates += one.ops.creates;
        ops.updates += one.ops.updates;
        ops.deletes += one.ops.deletes;
        ops.missing += one.ops.missing;
    }
    assert_eq!((ops.creates, ops.updates, ops.deletes), (1331, 55, 67));
    assert_eq!(ops.missing, 2, "one operation without CID and one without block, both hand-made");
}

#[test]
fn the_cursor_moves_only_with_what_the_reference_counts() {
    let all = CollectionFilter::all();
    let converted = convert_corpus(["firehose", "firehose-extra"], |frame| convert(frame, &all));
    for one in &converted {
        let counts = matches!(one.kind, FrameKind::Commit | FrameKind::Account | FrameKind::Identity);
        assert_eq!(one.counted, counts, "{:?}", one.kind);
        let has_no_seq = matches!(one.kind, FrameKind::Info { .. } | FrameKind::Other { .. });
        assert_eq!(one.seq.is_none(), has_no_seq, "{:?}", one.kind);
    }
    let last = converted.iter().rev().find(|one| one.counted).and_then(|one| one.seq);
    assert_eq!(last, Some(1804), "the cursor that the reference ended with");
    let resyncs = converted.iter().filter(|one| one.resync.is_some()).count();
    let syncs = converted.iter().filter(|one| one.kind == FrameKind::Sync).count();
    assert_eq!(resyncs, syncs + 1, "every #sync, and the commit that was too big");
}

#[test]
fn a_filter_holds_back_operations_and_counts_them() {
    let likes = CollectionFilter::parse("app.bsky.feed.like").unwrap();
    let converted = convert_corpus(["firehose", "firehose-extra"], |frame| convert(frame, &likes));
    let expected: Vec<String> = golden_stream("firehose_live", "event")
        .into_iter()
        .filter(|entry| match wire::parse(entry).unwrap() {
            StreamEvent::Create(event) | StreamEvent::Update(event) => {
                event.collection == "app.bsky.feed.like"
            }
            StreamEvent::Delete(event) => event.collection == "app.bsky.feed.like",
            _ => true,
        })
        .collect();
    let written: Vec<Entry> = converted.iter().flat_map(|one| one.entries.clone()).collect();
    assert_eq!(written, expected);
    let filtered: u32 = converted.iter().map(|one| one.ops.filtered).sum();
    assert!(filtered > 1_000, "{filtered}");
}

/// DECISIONS 4: the reference writes `sig` as a Buffer object, this pipeline as `{"$bytes":…}`.
#[test]
fn labels_equal_those_of_the_reference_but_for_sig() {
    let converted = convert_corpus(["labels", "labels-extra"], convert_labels);
    let written: Vec<&Entry> = converted.iter().flat_map(|one| &one.entries).collect();
    let expected: Vec<String> =
        golden_stream("label_live", "event").iter().map(|entry| with_sig_as_bytes(entry)).collect();
    assert_eq!(written, expected.iter().collect::<Vec<_>>());
    assert_eq!(written.len(), 36);
    assert!(converted.iter().all(|one| one.rejected.is_empty()));
    let last = converted.iter().rev().find(|one| one.counted).and_then(|one| one.seq);
    assert_eq!(last, Some(39));
    for entry in written {
        let entry = entry.to_string();
        let LabelEntry::Labels(labels) = parse_labels(&entry).unwrap() else { panic!("{entry}") };
        assert_eq!(labels.len(), 1);
    }
}

fn with_sig_as_bytes(entry: &str) -> String {
    const OPEN: &str = r#"{"type":"Buffer","data":["#;
    let Some((before, rest)) = entry.split_once(OPEN) else { return entry.to_owned() };
    let (numbers, after) = rest.split_once("]}").unwrap();
    let bytes: Vec<u8> = numbers.split(',').map(|number| number.parse().unwrap()).collect();
    format!(r#"{before}{{"$bytes":"{}"}}{after}"#, STANDARD_NO_PAD.encode(bytes))
}

/// What the reference wrote is read, and written again from what was read, without a difference.
#[test]
fn golden_entries_survive_reading_and_writing() {
    let live = golden_stream("firehose_live", "event");
    let backfill = golden_stream("firehose_backfill", "event");
    assert_eq!((live.len(), backfill.len()), (1655, 2935));
    for entry in live.iter().chain(&backfill) {
        assert_eq!(&written_again(&wire::parse(entry).unwrap()), entry);
    }
    let repos = golden_stream("repo_backfill", "repo");
    assert_eq!(repos.len(), 88);
    for entry in repos {
        assert_eq!(parse_backfill(&entry).unwrap().to_json(), entry);
    }
}

fn written_again(event: &StreamEvent<'_>) -> String {
    let mut out = String::new();
    match event {
        StreamEvent::Create(event) if event.is_backfill() => {
            let repo =
                BackfilledRepo { did: &event.did, commit: &event.commit, rev: &event.rev, time: &event.time };
            repo.push_create::<()>(&mut out, &event.collection, &event.rkey, &event.cid, |out| {
                out.push_str(event.record.get());
                Ok(())
            })
            .unwrap();
        }
        StreamEvent::Create(record) | StreamEvent::Update(record) => {
            let update = matches!(event, StreamEvent::Update(_));
            let action = if update { RecordAction::Update } else { RecordAction::Create };
            let writer = LiveCommitWriter::new(&LiveCommit {
                seq: record.seq.unwrap(),
                time: &record.time,
                did: &record.did,
                commit: &record.commit,
                rev: &record.rev,
            });
            writer
                .record::<()>(&mut out, action, &record.collection, &record.rkey, &record.cid, |out| {
                    out.push_str(record.record.get());
                    Ok(())
                })
                .unwrap();
        }
        StreamEvent::Delete(event) => {
            let writer = LiveCommitWriter::new(&LiveCommit {
                seq: event.seq.unwrap(),
                time: &event.time,
                did: &event.did,
                commit: &event.commit,
                rev: &event.rev,
            });
            writer.delete(&mut out, &event.collection, &event.rkey);
        }
        StreamEvent::Repo(event) => BackfilledRepo {
            did: &event.did,
            commit: &event.commit,
            rev: &event.rev,
            time: event.time.as_deref().unwrap(),
        }
        .push_repo(&mut out),
        StreamEvent::Account(event) => wire::push_account(
            &mut out,
            event.seq.unwrap(),
            &event.time,
            &event.did,
            event.active,
            event.status.as_deref(),
        ),
        StreamEvent::Identity(event) => wire::push_identity(
            &mut out,
            event.seq.unwrap(),
            &event.time,
            &event.did,
            event.handle.as_deref(),
        ),
        StreamEvent::Unknown(kind) => panic!("unknown type {kind}"),
    }
    out
}
