//! What the indexer shows of itself on its page.

use std::sync::Arc;

use rsky_common::admin::{Board, Bound, Lag, Status};
use rsky_common::clock::now_ms;

use crate::acks::Source;
use crate::metrics::Metrics;
use crate::observed::Observed;

/// Puts everything on the page.
pub(crate) fn show(status: &Status, metrics: &Metrics, observed: Observed) {
    let rows = metrics.rows.clone();
    status.samples.counter("rows", "rows written here", move || rows.get());
    let read = observed.clone();
    status.samples.counter("entries_settled", "entries done here", move || {
        read.sources().iter().map(|source| source.metrics.processed.get()).sum()
    });
    status.board(move || Board {
        lags: observed.sources().iter().map(lag).collect(),
        bounds: vec![Bound {
            of: "entries in memory".to_owned(),
            used_bytes: Some(observed.budget.bytes()),
            most_bytes: Some(observed.budget.total()),
        }],
        ..Board::default()
    });
}

/// What is put off on purpose is no lag, and is said beside it.
fn lag(source: &Arc<Source>) -> Lag {
    let beside = source.beside_the_lanes();
    let note = (beside > 0).then(|| {
        format!("{beside} more are indexed and wait for a handle, or for the moment when their account may be asked about again")
    });
    Lag { of: source.consumer.stream.clone(), seconds: Some(source.lag_seconds(now_ms())), note }
}
