//! What the page says, of made-up daemons.

use std::time::Instant;

use serde_json::{Map, json};

use super::render;
use crate::admin::board::{Board, Bound, HostTrouble, Hosts, Lag, Level, StreamNames};
use crate::admin::samples::{Kind, Reading, Samples};
use crate::admin::seen::{
    Backfillers, Ends, Example, Facts, Group, Letters, Persistence, RedisMemory, StreamFacts,
};
use crate::admin::view::View;
use crate::config::Shown;
use crate::redis::Shut;
use crate::redis::gate::GateStatus;

const HOSTILE: &str = "<script>alert('x')</script>\"&";

fn stream(length: u64, oldest_ms: Option<u64>) -> StreamFacts {
    StreamFacts {
        length: Ok(length),
        dead: Ok(0),
        groups: Ok(vec![Group {
            name: "group".into(),
            consumers: Some(1),
            pending: Some(3),
            lag: Some(length),
            oldest_pending_seconds: Ok(0.0),
        }]),
        ends: Ok(Ends { added: Some(length + 100), gone: Some(100), oldest_ms }),
        letters: Ok(Letters::default()),
    }
}

fn facts() -> Facts {
    let names = StreamNames::default();
    Facts {
        streams: names.all().map(|name| (name.to_owned(), stream(0, None))).to_vec(),
        put_off: Ok(0),
        backfillers: Ok(Backfillers { running: 1, done: 5 }),
        persistence: Ok(Persistence {
            append_only: Some(true),
            last_append_ok: Some(true),
            last_save_ok: Some(true),
        }),
        memory: Ok(RedisMemory { used: Some(1 << 20), most: Some(1 << 30) }),
    }
}

fn view(facts: Result<Facts, String>) -> View {
    View {
        name: "ingester",
        version: "1.2.3",
        uptime_seconds: 90,
        resident_bytes: Some(40 << 20),
        not_ready: Vec::new(),
        standing_still: Vec::new(),
        board: Board {
            lags: vec![Lag { of: "relay".into(), seconds: Some(0.4), note: None }],
            ..Board::default()
        },
        names: StreamNames::default(),
        seen: Some(facts),
        histories: Vec::new(),
        settings: Vec::new(),
        sections: Map::new(),
        now_ms: 0,
    }
    .bounded()
}

fn gate(stream: &str, shut: Option<Shut>) -> GateStatus {
    GateStatus {
        stream: stream.to_owned(),
        mark: 1000,
        length: Some(1000),
        shut,
        shut_for_seconds: shut.map(|_| 200.0),
        shut_seconds: 300.0,
        times_shut: 2,
    }
}

#[test]
fn when_all_is_well_that_is_the_first_thing_said() {
    let view = view(Ok(facts()));
    assert_eq!(view.verdict().level, Level::Fine);
    let page = render(&view);
    let (before, _) = page.split_once("ingester: all is well</h1>").unwrap_or_else(|| panic!("{page}"));
    assert!(!before.contains("<table"), "{before}");
    for said in ["1 min 30 s", "1.2.3", "0.4 s behind", "1.0 MiB <small>of 1.0 GiB", "nothing is left"] {
        assert!(page.contains(said), "{said}: {page}");
    }
}

#[test]
fn what_is_wrong_is_said_once_and_the_worst_first() {
    let mut view = view(Ok(facts()));
    let gone = "Connection refused".to_owned();
    view.not_ready = ["redis for a", "redis for b"].map(|part| (part.to_owned(), gone.clone())).to_vec();
    view.standing_still = vec![("writing".to_owned(), "nothing for 130 s".to_owned())];
    view.board.gates = vec![
        gate("firehose_live", Some(Shut::Length { len: 1000, mark: 1000 })),
        gate("repo_backfill", Some(Shut::Length { len: 1000, mark: 1000 })),
        gate("label_live", Some(Shut::Redis)),
    ];
    view.board.lags = vec![
        Lag { of: "near".into(), seconds: Some(119.0), note: None },
        Lag { of: "behind".into(), seconds: Some(500.0), note: None },
        Lag { of: "far".into(), seconds: Some(4000.0), note: None },
        Lag { of: "replay".into(), seconds: Some(3e7), note: None },
    ];
    let said: Vec<(Level, String)> =
        view.verdict().notes.iter().map(|note| (note.level, note.part.clone())).collect();
    let said: Vec<(Level, &str)> = said.iter().map(|(level, part)| (*level, part.as_str())).collect();
    assert_eq!(
        said,
        [
            (Level::Bad, "writing"),
            (Level::Bad, "redis for a and 1 more"),
            (Level::Bad, "far"),
            (Level::Look, "behind"),
            (Level::Look, "firehose_live"),
            (Level::Info, "replay"),
            (Level::Info, "repo_backfill"),
        ]
    );
    let page = render(&view);
    assert!(
        page.contains("ingester: not well</h1>")
            && page.contains("writing waits for 3 min 20 s: 1000 entries"),
        "{page}"
    );
}

#[test]
fn a_redis_that_is_away_or_says_little_is_shown_in_its_place() {
    let away = view(Err("Connection refused".to_owned()));
    assert_eq!(away.verdict().level, Level::Bad);
    assert!(render(&away).contains("Redis cannot be looked at: Connection refused"));
    let mut little = facts();
    little.memory = Err("NOPERM this user has no permissions".to_owned());
    for (_, stream) in &mut little.streams {
        stream.groups = Err("NOPERM xinfo".to_owned());
        stream.ends = Err("NOPERM eval".to_owned());
    }
    let view = view(Ok(little));
    assert_eq!(view.verdict().level, Level::Info);
    let page = render(&view);
    for said in ["NOPERM this user", "NOPERM xinfo", "NOPERM eval", "all is well"] {
        assert!(page.contains(said), "{said}: {page}");
    }
}

#[test]
fn entries_that_were_taken_and_put_off_are_no_reason_to_worry_and_unread_ones_are() {
    let mut view = view(Ok(facts()));
    let old = view.now_ms - 3_600_000;
    let set = |view: &mut View, lag| {
        let Some(Ok(facts)) = &mut view.seen else { panic!() };
        facts.streams[0].1 = stream(7, Some(old));
        facts.streams[0].1.groups.as_mut().unwrap()[0].lag = lag;
    };
    set(&mut view, Some(0));
    assert_eq!(view.verdict().level, Level::Fine);
    set(&mut view, Some(7));
    let verdict = view.verdict();
    assert_eq!(verdict.level, Level::Look);
    assert_eq!(verdict.notes[0].text, "7 entries wait to be read, the oldest for 1 h 0 min");
}

#[test]
fn dead_letters_are_news_only_while_many_more_come() {
    let mut facts = facts();
    facts.streams[0].1.dead = Ok(1030);
    facts.streams[0].1.letters = Ok(Letters {
        looked_at: 20,
        by_reason: vec![("invalid_record".into(), 19), ("not_utf8".into(), 1)],
        examples: vec![Example {
            id: "5-0".into(),
            reason: "invalid_record".into(),
            error: HOSTILE.into(),
            source: "7-1".into(),
        }],
    });
    let mut view = view(Ok(facts));
    assert_eq!(view.verdict().level, Level::Info);
    let page = render(&view);
    for said in ["1\u{202f}030 dead letters, mostly invalid record", "of the newest 20:", "(7-1)"] {
        assert!(page.contains(said), "{said}: {page}");
    }
    // Letters before, entries that were done with meanwhile.
    for (before, done, level) in [
        (1020.0, 0.0, Level::Info),
        (930.0, 0.0, Level::Info),
        (900.0, 0.0, Level::Look),
        (900.0, 10_000.0, Level::Info),
    ] {
        let (samples, start) = (Samples::default(), Instant::now());
        samples.figure("dead firehose_live", "", Kind::Gauge, move |at| Some(Reading { value: before, at }));
        let rate = done / 5.0;
        samples.figure("out firehose_live", "", Kind::Gauge, move |at| Some(Reading { value: rate, at }));
        samples.take(start);
        view.histories = samples.read();
        assert_eq!(view.verdict().level, level, "{before} {done}");
        let more = format!("; {} more within half an hour", 1030.0 - before);
        assert!(view.verdict().notes[0].text.ends_with(&more), "{:?}", view.verdict());
    }
}

#[test]
fn nothing_from_outside_is_markup() {
    let mut facts = facts();
    for (_, stream) in &mut facts.streams {
        stream.groups = Ok(vec![Group {
            name: HOSTILE.into(),
            consumers: None,
            pending: None,
            lag: None,
            oldest_pending_seconds: Err(HOSTILE.into()),
        }]);
        stream.dead = Err(HOSTILE.into());
        stream.ends = Err(HOSTILE.into());
    }
    let mut view = view(Ok(facts));
    view.not_ready = vec![(HOSTILE.into(), HOSTILE.into())];
    view.board.lags = vec![Lag { of: HOSTILE.into(), seconds: None, note: Some(HOSTILE.into()) }];
    view.board.bounds.push(Bound { of: HOSTILE.into(), used_bytes: None, most_bytes: Some(0) });
    view.board.gates = vec![gate(HOSTILE, Some(Shut::Redis))];
    let host = HostTrouble { host: HOSTILE.into(), state: HOSTILE.into(), waiting: 1, why: HOSTILE.into() };
    view.board.hosts = Some(Hosts { fine: 1, in_trouble: 1, worst: vec![host] });
    view.names.live = HOSTILE.into();
    view.settings = vec![Shown { name: "NAME", value: Some(HOSTILE.into()), set: true }];
    view.sections.insert(HOSTILE.into(), json!({ HOSTILE: [HOSTILE, 1.5, null, true] }));
    let page = render(&view);
    assert_eq!(page.matches("<script>").count(), 1, "our own alone");
    assert!(
        !page.contains("alert('x')")
            && page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;")
    );
}

#[test]
fn the_json_says_the_same() {
    let status = view(Ok(facts())).json();
    assert_eq!((&status["verdict"]["level"], &status["ready"]), (&json!("fine"), &json!(true)));
    assert_eq!(
        status["bounds"][0],
        json!({ "of": "this process", "used_bytes": 40 << 20, "most_bytes": null })
    );
    assert_eq!(status["backfill"]["queued"], json!(0));
    assert_eq!(status["lags"][0]["seconds"], json!(0.4));
}
