//! What is on its way, or was given up on its way.

use super::{State, Verdict, verdict};
use crate::inspect::facts::{Facts, Found, Kind};

/// What waits, is put off, or was given up. `counts` says which events are of interest.
pub(super) fn on_its_way(facts: &Facts, counts: &dyn Fn(&Found) -> bool) -> Option<Verdict> {
    let did = &facts.did;
    let of = |kind: Kind| {
        let streams = facts.streams.iter().filter(move |searched| searched.kind == kind);
        streams.filter_map(|searched| Some((searched, searched.found.first()?)))
    };
    let events = facts.streams.iter().filter(|searched| searched.kind == Kind::Events);
    let mut events =
        events.filter_map(|searched| Some((searched, searched.found.iter().find(|f| counts(f))?)));
    if let Some((searched, found)) = events.next() {
        let (stream, id, what) = (&searched.stream, &found.id, &found.what);
        return Some(match &found.pending {
            None => verdict(
                State::Waits,
                format!(
                    "Its {what} waits in {stream} ({id}), behind at least {} entries: the indexers have not come so far.",
                    found.before
                ),
            ),
            Some((consumer, ms)) if *ms >= facts.long_ms => verdict(
                State::Amiss,
                format!(
                    "Its {what} in {stream} ({id}) has been with {consumer} for {} min: nobody works on it, or it fails again \
                     and again.",
                    ms / 60_000
                ),
            )
            .by("indexer doctor"),
            Some((consumer, ms)) => verdict(
                State::Waits,
                format!("Its {what} in {stream} ({id}) is with {consumer}, for {} s.", ms / 1000),
            ),
        });
    }
    let mut letters = facts.streams.iter().filter(|searched| searched.kind == Kind::EventLetters);
    let letter = letters.find_map(|searched| Some((searched, searched.found.iter().find(|f| counts(f))?)));
    if let Some((searched, found)) = letter {
        let (reason, error) = found.reason.clone().unwrap_or_default();
        let stream = searched.stream.strip_suffix("_dlq").unwrap_or(&searched.stream);
        let says = format!("Its {} could not be indexed ({reason}): {error}", found.what);
        return Some(verdict(State::Amiss, says).by(format!(
            "indexer dead-letters retry --stream {stream} --id {}   (when the cause is gone)",
            found.id
        )));
    }
    if let Some((searched, found)) = of(Kind::RepositoryLetters).next() {
        let (reason, error) = found.reason.clone().unwrap_or_default();
        let says =
            format!("The fetch of its repository was given up ({reason}, {}): {error}", searched.stream);
        return Some(verdict(State::Amiss, says).by(format!("backfiller dead-letters retry --did {did}")));
    }
    if let Some((searched, found)) = of(Kind::Repositories).next() {
        let stream = &searched.stream;
        let says = match &found.pending {
            None => format!(
                "Its repository waits in {stream} to be fetched, behind at least {} others.",
                found.before
            ),
            Some((consumer, ms)) => {
                format!("Its repository is being fetched by {consumer} ({stream}, for {} s).", ms / 1000)
            }
        };
        return Some(verdict(State::Waits, says).by("backfiller status"));
    }
    if let Some((_, found)) = of(Kind::PutOff).next() {
        let says = format!("The fetch of its repository was put off ({}): it is tried again.", found.what);
        return Some(verdict(State::Waits, says).by("backfiller status"));
    }
    None
}
