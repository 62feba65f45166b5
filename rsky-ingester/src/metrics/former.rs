//! What the former rsky ingester counted, without labels: existing dashboards go on working.

use rsky_common::admin::{Counter, Registry};
use rsky_common::redis::RedisFigures;
use rsky_common::wire::names;

use super::Written;
use super::declared as declarations;
use crate::config::Config;
use crate::source::{Kind, Source};

/// Ends of connections that we wished.
const OUR_WISH: &[&str] = &["stopped", "paused", "starts_elsewhere"];

/// Counters over all hosts.
#[derive(Clone, Debug)]
pub(super) struct Former {
    events: Counter,
    creates: Counter,
    updates: Counter,
    deletes: Counter,
    filtered: Counter,
    written: Counter,
    pub(super) errors: Counter,
    labeler_events: Counter,
    labels: Counter,
    cursor_skips: Counter,
}

impl Former {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            events: declarations::FORMER_EVENTS.one(registry),
            creates: declarations::FORMER_CREATES.one(registry),
            updates: declarations::FORMER_UPDATES.one(registry),
            deletes: declarations::FORMER_DELETES.one(registry),
            filtered: declarations::FORMER_FILTERED.one(registry),
            written: declarations::FORMER_WRITTEN.one(registry),
            errors: declarations::FORMER_ERRORS.one(registry),
            labeler_events: declarations::FORMER_LABELER_EVENTS.one(registry),
            labels: declarations::FORMER_LABELS.one(registry),
            cursor_skips: declarations::FORMER_CURSOR_SKIPS.one(registry),
        }
    }

    pub(super) fn batch(&self, source: &Source, written: &Written) {
        let (incoming, entries) = match source.kind {
            Kind::Labels => (&self.labeler_events, &self.labels),
            Kind::Firehose | Kind::Listing => (&self.events, &self.written),
        };
        incoming.inc_by(written.incoming);
        entries.inc_by(written.entries);
        let ops = &written.ops;
        for (counter, count) in [
            (&self.creates, ops.creates),
            (&self.updates, ops.updates),
            (&self.deletes, ops.deletes),
            (&self.filtered, ops.filtered),
        ] {
            counter.inc_by(count.into());
        }
    }

    pub(super) fn disconnected(&self, reason: &str) {
        if !OUR_WISH.contains(&reason) {
            self.errors.inc();
        }
    }

    pub(super) fn cursor_skip(&self, source: &Source) {
        if source.kind == Kind::Listing {
            self.cursor_skips.inc();
        }
    }
}

/// Registers the lengths of streams under their former names.
pub fn register_lengths(registry: &mut Registry, seen: &RedisFigures, config: &Config) {
    for (declared, stream) in [
        (&declarations::FORMER_LIVE, config.firehose.name.as_str()),
        (&declarations::FORMER_BACKFILL, names::FIREHOSE_BACKFILL),
        (&declarations::FORMER_LABEL_LIVE, config.labels.name.as_str()),
        (&declarations::FORMER_REPOS, config.repos.name.as_str()),
    ] {
        let (seen, stream) = (seen.clone(), stream.to_owned());
        declared.asked(registry, move || seen.length(&stream));
    }
}
