//! Whether all is well, and if not what: the first thing on the page.

use std::collections::BTreeMap;

use serde::Serialize;

use super::STARTING;
use super::board::{Bound, Lag, Level, Note};
use super::page::units::{bytes, duration, number};
use super::samples::History;
use super::seen::{Facts, StreamFacts};
use super::view::View;
use crate::redis::Shut;

/// Seconds of lag from which it is to be looked at.
const BEHIND: f64 = 120.0;
/// Seconds of lag from which something does not work.
const FAR_BEHIND: f64 = 3600.0;
/// Seconds of lag above which it is no lag but another time: a recording that is replayed, a host with a wrong clock.
pub(super) const ANOTHER_TIME: f64 = 30.0 * 86_400.0;
/// Age in seconds of an entry nobody has taken yet, from which its stream is to be looked at.
const UNREAD: f64 = 600.0;
/// Used part, in hundredths, from which what is bounded is to be looked at.
const NEARLY_ALL: u64 = 90;

/// Dead letters of entries within the history that are no news: so many, and so many of the entries that were done with. The
/// network always has some invalid records. As the alert has it.
const SOME_LETTERS: f64 = 100.0;
const SHARE_OF_LETTERS: f64 = 0.01;

/// The verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    pub(super) level: Level,
    /// The most urgent first.
    pub(super) notes: Vec<Note>,
}

/// Judges what is shown.
pub(super) fn judge(view: &View) -> Verdict {
    let mut notes = Vec::new();
    for (part, why) in &view.standing_still {
        notes.push(Note::new(Level::Bad, part, format!("stands still: {why}. A restart helps")));
    }
    not_ready(view, &mut notes);
    notes.extend(view.board.notes.iter().cloned());
    notes.extend(view.board.lags.iter().filter_map(behind));
    gates(view, &mut notes);
    notes.extend(view.board.bounds.iter().filter_map(nearly_full));
    match &view.seen {
        Some(Ok(facts)) => streams(view, facts, &mut notes),
        // Whoever waits for Redis has said so.
        Some(Err(why)) if view.not_ready.is_empty() => notes.push(Note::new(Level::Bad, "Redis", why)),
        Some(Err(_)) | None => {}
    }
    notes.sort_by_key(|note| std::cmp::Reverse(note.level));
    Verdict { level: notes.first().map_or(Level::Fine, |note| note.level), notes }
}

/// Parts that wait for the same are said in one line.
fn not_ready(view: &View, notes: &mut Vec<Note>) {
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (part, why) in &view.not_ready {
        by_reason.entry(why).or_default().push(part);
    }
    for (why, parts) in by_reason {
        let level = if why == STARTING { Level::Look } else { Level::Bad };
        let part = match parts.as_slice() {
            [one] => (*one).to_owned(),
            [first, others @ ..] => format!("{first} and {} more", others.len()),
            [] => String::new(),
        };
        notes.push(Note::new(level, part, why));
    }
}

fn behind(lag: &Lag) -> Option<Note> {
    let seconds = lag.seconds?;
    let text = |level| Note::new(level, &lag.of, format!("{} behind", duration(seconds)));
    match seconds {
        s if s >= ANOTHER_TIME => Some(Note::new(
            Level::Info,
            &lag.of,
            format!("events are {} old: a replay, or a host with a wrong clock", duration(s)),
        )),
        s if s >= FAR_BEHIND => Some(text(Level::Bad)),
        s if s >= BEHIND => Some(text(Level::Look)),
        _ => None,
    }
}

fn gates(view: &View, notes: &mut Vec<Note>) {
    for gate in &view.board.gates {
        let Some(shut) = gate.shut.filter(|shut| *shut != Shut::Redis || view.not_ready.is_empty()) else {
            continue;
        };
        let level = match shut {
            Shut::Length { .. } if view.names.fills_as_a_rule(&gate.stream) => Level::Info,
            Shut::Length { .. } => Level::Look,
            Shut::Memory { .. } | Shut::Redis => Level::Bad,
        };
        let since = gate.shut_for_seconds.map(|s| format!(" for {}", duration(s))).unwrap_or_default();
        let text = match shut {
            Shut::Length { .. } => format!("writing waits{since}: {shut}. Its readers are behind"),
            Shut::Memory { .. } | Shut::Redis => format!("writing waits{since}: {shut}"),
        };
        notes.push(Note::new(level, &gate.stream, text));
    }
}

fn nearly_full(bound: &Bound) -> Option<Note> {
    let (used, most) = (bound.used_bytes?, bound.most_bytes.filter(|most| *most > 0)?);
    (used.saturating_mul(100) / most >= NEARLY_ALL)
        .then(|| Note::new(Level::Look, &bound.of, format!("{} of {} in use", bytes(used), bytes(most))))
}

fn streams(view: &View, facts: &Facts, notes: &mut Vec<Note>) {
    for (name, stream) in &facts.streams {
        let length = stream.length.as_ref().ok().copied().unwrap_or(0);
        match &stream.groups {
            Ok(groups) if groups.is_empty() && length > 0 => {
                notes.push(Note::new(Level::Look, name, "nobody reads it: it has no consumer group"));
            }
            Ok(_) => notes.extend(unread(view, name, stream)),
            Err(_) => {}
        }
        if let Ok(dead @ 1..) = stream.dead {
            notes.push(dead_letters(view, name, stream, dead));
        }
    }
    for (part, why) in errors(facts) {
        notes.push(Note::new(Level::Info, part, format!("cannot be seen: {why}")));
    }
}

/// Entries that nobody has taken: those that were taken and put off on purpose are none of them.
fn unread(view: &View, name: &str, stream: &StreamFacts) -> Option<Note> {
    let groups = stream.groups.as_ref().ok()?;
    let untaken = groups.iter().filter_map(|group| group.lag).max().filter(|lag| *lag > 0)?;
    let oldest = stream.oldest_seconds(view.now_ms).filter(|seconds| *seconds >= UNREAD)?;
    let text =
        format!("{} entries wait to be read, the oldest for {}", number(untaken as f64), duration(oldest));
    let level = if view.names.fills_as_a_rule(name) { Level::Info } else { Level::Look };
    Some(Note::new(level, name, text))
}

fn dead_letters(view: &View, name: &str, stream: &StreamFacts, dead: u64) -> Note {
    let before = view.history(&format!("dead {name}")).and_then(History::first);
    let more = before.map_or(0.0, |before| dead as f64 - f64::from(before));
    let letters = stream.letters.as_ref().ok();
    let mostly = letters.and_then(|letters| letters.by_reason.first());
    let letters_are = if dead == 1 { "dead letter" } else { "dead letters" };
    let mut text = format!("{} {letters_are}", number(dead as f64));
    if let Some((reason, _)) = mostly {
        text.push_str(&format!(", mostly {}", reason.replace('_', " ")));
    }
    if more >= 1.0 {
        text.push_str(&format!("; {} more within half an hour", number(more)));
    }
    let is_news =
        if [&view.names.repos, &view.names.priority].iter().any(|repositories| *repositories == name) {
            more >= 1.0
        } else {
            let done = view.history(&format!("out {name}")).map_or(0.0, History::total);
            more > SOME_LETTERS + SHARE_OF_LETTERS * done
        };
    Note::new(if is_news { Level::Look } else { Level::Info }, name, text)
}

/// What may not be looked at.
fn errors(facts: &Facts) -> BTreeMap<&'static str, &str> {
    let mut errors = Vec::new();
    for (_, stream) in &facts.streams {
        errors.push(("stream lengths", stream.length.as_ref().err()));
        errors.push(("consumer groups", stream.groups.as_ref().err()));
        errors.push(("ages of entries", stream.ends.as_ref().err()));
        errors.push(("dead letters", stream.dead.as_ref().err().or(stream.letters.as_ref().err())));
    }
    errors.push(("repositories put off", facts.put_off.as_ref().err()));
    errors.push(("backfillers", facts.backfillers.as_ref().err()));
    errors.push(("Redis' memory", facts.memory.as_ref().err()));
    errors.into_iter().filter_map(|(part, why)| Some((part, why?.as_str()))).collect()
}
