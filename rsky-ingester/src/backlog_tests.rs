use super::*;
use crate::host::Host;
use rsky_common::atproto::{Converted, convert};
use rsky_common::redis::{DeadLetter, Gate, GateConfig};
use rsky_common::runtime::memory::MemoryProbe;
use std::time::Duration;

const LIMITS: BatchLimits =
    BatchLimits { entries: 10, small: 2, bytes: 1000, timeout: Duration::from_secs(1) };

fn source(number: usize) -> std::sync::Arc<Source> {
    Source::new(Kind::Firehose, Host::parse("relay").unwrap(), "firehose_live", number)
}

/// A commit of `entries` entries of ten bytes.
fn commit(seq: i64, entries: usize) -> Decoded {
    let base = convert(b"", &rsky_common::atproto::CollectionFilter::all());
    let converted = Converted {
        kind: FrameKind::Commit,
        seq: Some(seq),
        did: Some("did:plc:a".to_owned()),
        rev: Some(format!("rev{seq}")),
        entries: vec!["0123456789".into(); entries],
        rejected: Vec::new(),
        counted: true,
        ..base
    };
    Decoded { converted: Some(converted), ..Decoded::default() }
}

fn rules(source: &Source) -> Rules<'_> {
    Rules { source, duplicates: None, resyncs: None }
}

fn resyncs() -> Resyncs {
    let config = GateConfig { mark: 10, batch: 10, small_batch: 10, memory: 1.0 };
    let gate = Gate::new("first", config, std::sync::Arc::new(MemoryProbe::detect()));
    Resyncs::new(
        "first",
        gate,
        crate::metrics::Metrics::register(&mut rsky_common::admin::Registry::default()),
    )
}

fn sync(seq: i64, rev: &str) -> Decoded {
    let mut sync = commit(seq, 0);
    let converted = sync.converted.as_mut().unwrap();
    (converted.kind, converted.counted, converted.resync) =
        (FrameKind::Sync, false, Some("did:plc:a".to_owned()));
    converted.rev = Some(rev.to_owned());
    sync
}

fn backlog(frames: impl IntoIterator<Item = Decoded>) -> Backlog {
    let mut backlog = Backlog::new(LIMITS);
    frames.into_iter().for_each(|frame| backlog.push(frame));
    backlog
}

#[test]
fn cuts_whole_frames_in_order_with_the_cursor_of_the_last() {
    let source = source(0);
    let mut backlog = backlog([commit(1, 2), commit(2, 2), commit(3, 2)]);
    let cut = backlog.cut(5, &rules(&source));
    assert_eq!((cut.batch.entries.len(), cut.cursor), (4, Some(2)));
    let cut = backlog.cut(5, &rules(&source));
    assert_eq!((cut.batch.entries.len(), cut.cursor), (2, Some(3)));
    assert!(backlog.is_empty() && !backlog.has_output() && !backlog.is_full());
}

#[test]
fn a_frame_larger_than_a_batch_goes_alone() {
    let source = source(0);
    let mut backlog = backlog([commit(1, 0), commit(2, 50), commit(3, 1)]);
    assert!(backlog.is_full());
    let cut = backlog.cut(10, &rules(&source));
    assert_eq!((cut.batch.entries.len(), cut.cursor), (50, Some(2)));
    assert_eq!(backlog.cut(10, &rules(&source)).cursor, Some(3));
}

#[test]
fn bytes_bound_a_batch_too() {
    let source = source(0);
    let mut backlog = Backlog::new(BatchLimits { bytes: 25, ..LIMITS });
    (1..=5).for_each(|seq| backlog.push(commit(seq, 1)));
    assert!(backlog.is_full());
    assert_eq!(backlog.cut(10, &rules(&source)).batch.entries.len(), 2);
    assert!(backlog.is_full());
    assert_eq!(backlog.cut(10, &rules(&source)).batch.entries.len(), 2);
    assert!(!backlog.is_full());
}

#[test]
fn entries_bound_a_batch_of_small_frames() {
    let source = source(0);
    let cut = backlog((1..=5).map(|seq| commit(seq, 1))).cut(3, &rules(&source));
    assert_eq!((cut.batch.entries.len(), cut.cursor), (3, Some(3)));
}

#[test]
fn a_frame_larger_than_a_batch_does_not_go_with_a_letter() {
    let source = source(0);
    let letter = Some(DeadLetter::new("event", "x", "bad_record", "why", "relay@1"));
    let mut backlog = backlog([Decoded { letter, ..Decoded::default() }, commit(2, 50)]);
    let cut = backlog.cut(10, &rules(&source));
    assert_eq!((cut.batch.dead_letters.len(), cut.batch.entries.len()), (1, 0));
    assert_eq!(backlog.cut(10, &rules(&source)).batch.entries.len(), 50);
}

#[test]
fn what_is_dropped_is_counted_and_the_rest_stays() {
    let source = source(0);
    // What has no number is none that another one has written.
    let mut backlog = backlog([commit(1, 1), commit(2, 1), Decoded::default(), commit(3, 1)]);
    assert_eq!(backlog.drop_through(2), 2);
    assert_eq!(backlog.drop_through(2), 0);
    let cut = backlog.cut(10, &rules(&source));
    assert_eq!((cut.frames, cut.batch.entries.len(), cut.cursor), (2, 1, Some(3)));
    (4..=6).for_each(|seq| backlog.push(commit(seq, 1)));
    assert_eq!((backlog.clear(), backlog.is_empty(), backlog.clear()), (3, true, 0));
}

#[test]
fn frames_without_entries_move_the_cursor_and_are_no_output() {
    let source = source(0);
    let mut backlog = backlog([commit(7, 0), commit(8, 0)]);
    assert!(!backlog.has_output() && !backlog.is_empty());
    let cut = backlog.cut(10, &rules(&source));
    assert_eq!((cut.cursor, cut.batch.is_empty(), cut.written.incoming), (Some(8), true, 2));
}

#[test]
fn what_does_not_count_does_not_move_the_cursor_but_is_seen() {
    let (source, resyncs) = (source(0), resyncs());
    let rules = Rules { resyncs: Some(&resyncs), ..rules(&source) };
    let mut backlog = backlog([commit(8, 1), sync(9, "rev9")]);
    assert!(backlog.has_output());
    let cut = backlog.cut(10, &rules);
    assert_eq!((cut.cursor, cut.seen, cut.written.incoming), (Some(8), Some(9), 1));
    let wish = Resync { did: "did:plc:a".to_owned(), rev: Some("rev9".to_owned()) };
    assert_eq!(cut.resyncs, [wish]);
}

#[test]
fn one_revision_of_a_repository_is_queued_once_whoever_says_it() {
    let (first, second, resyncs) = (source(0), source(1), resyncs());
    let with = |source| Rules { source, duplicates: None, resyncs: Some(&resyncs) };
    let cut = backlog([sync(1, "a"), sync(2, "a"), sync(3, "b"), sync(4, "a")]).cut(10, &with(&first));
    assert_eq!((cut.resyncs.len(), cut.written.resyncs, cut.written.resyncs_repeated), (2, 2, 2));
    let cut = backlog([sync(7, "a"), sync(8, "c")]).cut(10, &with(&second));
    assert_eq!((cut.resyncs.len(), cut.seen), (1, Some(8)));
    resyncs.forget();
    assert_eq!(backlog([sync(9, "a")]).cut(10, &with(&second)).resyncs.len(), 1);
}

#[test]
fn a_number_nobody_can_mean_moves_no_cursor() {
    let source = source(0);
    let cut = backlog([commit(1, 1), commit(i64::MAX, 1)]).cut(10, &rules(&source));
    assert_eq!((cut.batch.entries.len(), cut.cursor, cut.seen), (2, Some(1), Some(1)));
}

#[test]
fn what_another_relay_wrote_is_passed_over_but_moves_the_cursor() {
    let duplicates = Duplicates::new();
    let (first, second) = (source(0), source(1));
    let with = |source| Rules { source, duplicates: Some(&duplicates), resyncs: None };
    let cut = backlog([commit(1, 3)]).cut(10, &with(&first));
    assert_eq!((cut.batch.entries.len(), cut.commits.len()), (3, 1));
    cut.commits.iter().for_each(|(did, rev)| duplicates.remember(did, rev, 0));
    let cut = backlog([commit(1, 3), commit(2, 1)]).cut(10, &with(&second));
    assert_eq!((cut.batch.entries.len(), cut.cursor, cut.written.duplicates), (1, Some(2), 1));
}

#[test]
fn dead_letters_travel_with_the_batch_and_a_partly_bad_commit_is_not_remembered() {
    let duplicates = Duplicates::new();
    let source = source(0);
    let mut bad = commit(1, 1);
    bad.letter = Some(DeadLetter::new("event", "x", "bad_record", "why", "relay@1"));
    bad.converted.as_mut().unwrap().rejected =
        convert(b"", &rsky_common::atproto::CollectionFilter::all()).rejected;
    let rules = Rules { source: &source, duplicates: Some(&duplicates), resyncs: None };
    let cut = backlog([bad]).cut(10, &rules);
    assert_eq!((cut.batch.dead_letters.len(), cut.reasons.as_slice()), (1, &["bad_record".to_owned()][..]));
    assert!(cut.commits.is_empty());
}

#[test]
fn entries_letters_and_wishes_are_output_each_by_itself() {
    let letter = Some(DeadLetter::new("event", "x", "bad_record", "why", "relay@1"));
    for frame in [commit(1, 1), sync(1, "a"), Decoded { letter, ..Decoded::default() }] {
        let source = source(0);
        let mut backlog = backlog([frame]);
        assert!(backlog.has_output());
        backlog.cut(10, &rules(&source));
        assert!(!backlog.has_output());
    }
}

#[test]
fn frames_are_counted_by_kind_and_operations_by_what_becomes_of_them() {
    let source = source(0);
    let with = |mut frame: Decoded, first| {
        let ops = &mut frame.converted.as_mut().unwrap().ops;
        (ops.creates, ops.updates, ops.deletes) = (first, first + 1, first + 2);
        (ops.filtered, ops.missing, ops.unknown) = (first + 3, first + 4, first + 5);
        frame
    };
    let frames = [with(commit(1, 1), 10), sync(2, "a"), with(commit(3, 1), 20)];
    let cut = backlog(frames).cut(10, &rules(&source));
    assert_eq!(cut.kinds, [(FrameKind::Commit.label(), 2), (FrameKind::Sync.label(), 1)]);
    let ops = cut.written.ops;
    let sums = [ops.creates, ops.updates, ops.deletes, ops.filtered, ops.missing, ops.unknown];
    assert_eq!((sums, cut.written.entries), ([30, 32, 34, 36, 38, 40], 2));
}

#[test]
fn notices_of_labelers_count_as_incoming_and_those_of_relays_do_not() {
    let labeler = Source::new(Kind::Labels, Host::parse("labeler").unwrap(), "label_live", 0);
    let notice = || {
        let mut notice = commit(1, 0);
        let converted = notice.converted.as_mut().unwrap();
        converted.kind = FrameKind::Info { name: "OutdatedCursor".to_owned(), message: None };
        (converted.counted, converted.seq) = (false, None);
        notice
    };
    for (source, frame, incoming) in
        [(&labeler, notice(), 1), (&labeler, sync(1, "a"), 0), (&source(0), notice(), 0)]
    {
        assert_eq!(backlog([frame]).cut(10, &rules(source)).written.incoming, incoming);
    }
}
