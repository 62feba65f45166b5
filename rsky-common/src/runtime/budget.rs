//! A budget of bytes that travels with the items it was charged for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes (and items) that may be in memory at a time. Cloning gives another handle to the same budget.
///
/// Waiting is fair, so a large item is not starved by small ones.
#[derive(Clone, Debug)]
pub struct ByteBudget {
    free: Arc<Semaphore>,
    total: u32,
    held: Arc<Held>,
}

#[derive(Debug, Default)]
struct Held {
    items: AtomicU64,
    bytes: AtomicU64,
}

impl ByteBudget {
    /// A budget of `bytes`, at most 4 GiB − 1 and at least 1.
    pub fn new(bytes: u64) -> Self {
        let total = u32::try_from(bytes).unwrap_or(u32::MAX).max(1);
        let permits = usize::try_from(total).unwrap_or(Semaphore::MAX_PERMITS).min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(permits)), total, held: Arc::default() }
    }

    /// Waits until `bytes` are free and charges them. An item larger than the whole budget takes all of it, so it
    /// passes alone rather than never.
    pub async fn charge(&self, bytes: usize) -> Charge {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, self.total);
        // The semaphore is never closed; without a permit the item would merely not be counted.
        let permit = Arc::clone(&self.free).acquire_many_owned(permits).await.ok();
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.held.items.fetch_add(1, Ordering::Relaxed);
        self.held.bytes.fetch_add(bytes, Ordering::Relaxed);
        Charge { _permit: permit, bytes, held: Arc::clone(&self.held) }
    }

    /// Whether `bytes` could be charged at once at this moment.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.free.available_permits() >= bytes
    }

    /// Items charged and not yet released.
    pub fn items(&self) -> u64 {
        self.held.items.load(Ordering::Relaxed)
    }

    /// Bytes charged and not yet released; above [`ByteBudget::total`] only while one oversized item passes.
    pub fn bytes(&self) -> u64 {
        self.held.bytes.load(Ordering::Relaxed)
    }

    /// The size of the budget.
    pub fn total(&self) -> u64 {
        u64::from(self.total)
    }
}

/// What one item was charged; dropping it gives the bytes back.
#[derive(Debug)]
pub struct Charge {
    _permit: Option<OwnedSemaphorePermit>,
    bytes: u64,
    held: Arc<Held>,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.held.items.fetch_sub(1, Ordering::Relaxed);
        self.held.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn holds_back_what_does_not_fit_until_something_leaves() {
        let budget = ByteBudget::new(100);
        let first = budget.charge(60).await;
        assert!(budget.charge(60).now_or_never().is_none());
        assert_eq!((budget.items(), budget.bytes()), (1, 60));
        drop(first);
        assert!(budget.charge(60).now_or_never().is_some());
        assert_eq!((budget.items(), budget.bytes()), (0, 0));
    }

    #[tokio::test]
    async fn an_oversized_item_takes_everything() {
        let budget = ByteBudget::new(100);
        let large = budget.charge(1_000_000).await;
        assert!(budget.charge(1).now_or_never().is_none());
        assert_eq!(budget.bytes(), 1_000_000);
        drop(large);
        assert!(budget.charge(1).now_or_never().is_some());
    }
}
