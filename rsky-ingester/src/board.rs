//! What the ingester shows of itself on its page.

use std::sync::Arc;

use rsky_common::admin::{Board, Bound, HostTrouble, Hosts, Lag, Status};
use rsky_common::redis::Gate;
use rsky_common::runtime::memory::MemoryProbe;
use rsky_common::wire::names::LISTING_DONE;

use crate::budgets::Budgets;
use crate::source::{Kind, Source};
use crate::source_metrics::SourceMetrics;

/// Puts everything on the page.
pub(crate) fn show(
    status: &Status,
    gates: Vec<Gate>,
    budgets: Budgets,
    sources: &SourceMetrics,
    probe: Arc<MemoryProbe>,
) {
    for (kind, key, label) in [
        (Kind::Firehose, "frames_firehose", "frames of relays"),
        (Kind::Labels, "frames_labels", "frames of labelers"),
        (Kind::Listing, "repositories_listed", "repositories queued from listings"),
    ] {
        let sources = sources.clone();
        status.samples.counter(key, label, move || sources.taken_in(kind));
    }
    let sources = sources.clone();
    status.board(move || {
        let all = sources.all();
        let usage = probe.read();
        Board {
            notes: Vec::new(),
            lags: all
                .iter()
                .filter(|source| source.kind != Kind::Listing)
                .map(|source| lag(source))
                .collect(),
            gates: gates.iter().map(Gate::status).collect(),
            bounds: vec![
                Bound {
                    of: "frames in memory".to_owned(),
                    used_bytes: Some(budgets.bytes()),
                    most_bytes: Some(budgets.total()),
                },
                Bound {
                    of: format!("memory of the {}", probe.describe()),
                    used_bytes: usage.map(|usage| usage.used),
                    most_bytes: usage.map(|usage| usage.limit),
                },
            ],
            hosts: Some(hosts(&all)),
        }
    });
}

fn lag(source: &Source) -> Lag {
    Lag { of: source.name(), seconds: source.lag_seconds(), note: None }
}

fn hosts(sources: &[Arc<Source>]) -> Hosts {
    let mut hosts = Hosts::default();
    for source in sources {
        let state = source.state();
        // A listing that has ended has no connection, and needs none.
        if state.connected || state.cursor.as_deref() == Some(LISTING_DONE) {
            hosts.fine += 1;
            continue;
        }
        hosts.in_trouble += 1;
        if hosts.worst.len() < Hosts::SHOWN {
            hosts.worst.push(HostTrouble {
                host: source.name(),
                state: "not connected".to_owned(),
                waiting: state.frames_in_memory,
                why: state.last_error.unwrap_or_default(),
            });
        }
    }
    hosts
}
