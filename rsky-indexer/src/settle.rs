//! The end of entries, in the order in which their effects have committed: acknowledged, kept as dead letters, or handed
//! over to the work beside the lanes.
//!
//! One stage for all lanes: what is handed over of one account stays in order.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::acks::{Acks, Fate};
use crate::identity::Handover;
use crate::job::Job;
use crate::metrics::Metrics;

/// Entries with the fate of each.
pub type Settled = Vec<(Job, Fate)>;

/// Settles entries until there are no more. What is left to do beside the lanes is handed over, without waiting.
///
/// # Errors
/// None: what cannot be acknowledged stays pending.
pub async fn settle(
    mut settled: mpsc::Receiver<Settled>,
    mut acks: Acks,
    handover: Option<Handover>,
    metrics: Arc<Metrics>,
) -> anyhow::Result<()> {
    acks.connect().await;
    while let Some(entries) = settled.recv().await {
        let (jobs, mut fates): (Vec<Job>, Vec<Fate>) = entries.into_iter().unzip();
        for (job, fate) in jobs.iter().zip(&mut fates) {
            *fate = match (std::mem::replace(fate, Fate::Indexed), &handover) {
                (Fate::Left(news), Some(handover)) => handover.hand(job, news),
                (Fate::Left(_), None) => Fate::Indexed,
                (other, _) => other,
            };
        }
        acks.settle(&jobs, fates, &metrics).await;
    }
    Ok(())
}
