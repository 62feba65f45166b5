//! A lane: a connection to Postgres that writes the batches it is given, one at a time.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use crate::dispatch::{Batch, Done};
use crate::isolate::{self, Writer};
use crate::kind::Kind;
use crate::metrics::Metrics;
use crate::order::Claims;

/// Writes batches until there are no more.
///
/// # Errors
/// None: what fails is told of in [`Done`].
pub async fn write<K: Kind>(
    number: usize,
    mut batches: mpsc::Receiver<Batch<K>>,
    mut writer: Writer,
    done: mpsc::Sender<Done<K>>,
    metrics: Arc<Metrics>,
) -> anyhow::Result<()> {
    while let Some(batch) = batches.recv().await {
        let started = Instant::now();
        let items: Vec<&K::Item> = batch.entries.iter().map(|entry| &entry.item.item).collect();
        let claims: Vec<&Claims> = batch.entries.iter().map(|entry| &entry.claims).collect();
        let was_held = batch.held.is_some();
        let written =
            writer.write_batch::<K>(isolate::Batch { items: &items, claims: &claims, was_held }).await;
        metrics.batch_seconds.observe(started.elapsed().as_secs_f64());
        metrics.batch_entries.observe(items.len() as f64);
        if done.send(Done { lane: number, batch, written }).await.is_err() {
            break;
        }
    }
    Ok(())
}
