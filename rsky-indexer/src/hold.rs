//! Tells Redis now and then which entries this process has in its hands, so that no other consumer takes them over while it
//! lives: however long Postgres is away, or a row is held by somebody else. What two write at the same time is written once more
//! after the first has acknowledged it, and by then its record, or its account, may have been deleted.

use std::sync::Arc;
use std::time::Duration;

use rsky_common::runtime::backoff::sleep_or_stop;
use tokio_util::sync::CancellationToken;

use crate::acks::{Acks, Source};

/// Holds what is on its way from these streams, until the process stops. A task of its own: it waits for nobody but Redis.
///
/// # Errors
/// None: what cannot be held is held the next time.
pub async fn hold(
    sources: Vec<Arc<Source>>,
    mut acks: Acks,
    every: Duration,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    while sleep_or_stop(every, &stop).await {
        for source in &sources {
            let ids = source.on_their_way();
            acks.hold(source, &ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
        }
    }
    Ok(())
}
