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
        let permits = self.permits(bytes);
        // The semaphore is never closed; without a permit the item would merely not be counted.
        let permit = Arc::clone(&self.free).acquire_many_owned(permits).await.ok();
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.held.items.fetch_add(1, Ordering::Relaxed);
        self.held.bytes.fetch_add(bytes, Ordering::Relaxed);
        Charge { permit, bytes, budget: self.clone(), with: None }
    }

    fn permits(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, self.total)
    }

    /// Whether `bytes` could be charged at once at this moment.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.free.available_permits() >= bytes
    }

    /// Items charged and not yet released.
    pub fn items(&self) -> u64 {
        self.held.items.load(Ordering::Relaxed)
    }

    /// Bytes charged and not yet released; above [`ByteBudget::total`] only while oversized items pass.
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
    permit: Option<OwnedSemaphorePermit>,
    bytes: u64,
    budget: ByteBudget,
    /// Another permit that ends with it.
    with: Option<OwnedSemaphorePermit>,
}

impl Charge {
    /// Bytes charged.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives the item another permit, which ends with the charge.
    pub fn keep(&mut self, permit: OwnedSemaphorePermit) {
        self.with = Some(permit);
    }

    /// Changes the charge to what the item takes, now that this is known. Less is given back at once. More is counted, but
    /// not waited for, since the bytes are there already: what the budget has left is taken, and whoever comes next waits.
    pub fn settle(&mut self, bytes: usize) {
        let wanted = usize::try_from(self.budget.permits(bytes)).unwrap_or(usize::MAX);
        if let Some(permit) = &mut self.permit {
            let has = permit.num_permits();
            drop(permit.split(has.saturating_sub(wanted)));
            let free = self.budget.free.available_permits();
            let more = u32::try_from(wanted.saturating_sub(has).min(free)).unwrap_or(u32::MAX);
            if more > 0
                && let Ok(more) = Arc::clone(&self.budget.free).try_acquire_many_owned(more)
            {
                permit.merge(more);
            }
        }
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.budget.held.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.budget.held.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }

    /// Divides the charge among items that were charged together; each gives its share back when it leaves.
    pub fn split(mut self, bytes: usize) -> (Self, Self) {
        let share = u64::try_from(bytes).unwrap_or(u64::MAX).min(self.bytes);
        let permit = self.permit.as_mut().and_then(|permit| {
            let has = permit.num_permits();
            permit.split(bytes.min(has))
        });
        self.bytes -= share;
        self.budget.held.items.fetch_add(1, Ordering::Relaxed);
        // A permit that ends with the charge ends with the last of the items.
        let first = Self { permit, bytes: share, budget: self.budget.clone(), with: None };
        (first, self)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.held.items.fetch_sub(1, Ordering::Relaxed);
        self.budget.held.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn holds_back_what_does_not_fit_until_something_leaves() {
        let budget = ByteBudget::new(100);
        assert_eq!(budget.total(), 100);
        let first = budget.charge(60).await;
        assert!(budget.charge(60).now_or_never().is_none());
        assert_eq!((budget.items(), budget.bytes()), (1, 60));
        drop(first);
        assert!(budget.charge(60).now_or_never().is_some());
        assert_eq!((budget.items(), budget.bytes()), (0, 0));
    }

    #[tokio::test]
    async fn a_charge_follows_what_the_item_turns_out_to_take() {
        let budget = ByteBudget::new(100);
        let mut first = budget.charge(60).await;
        first.settle(20);
        assert_eq!((budget.bytes(), budget.has_room(80), budget.has_room(81)), (20, true, false));
        let second = budget.charge(70).await;
        first.settle(500);
        assert_eq!((budget.bytes(), budget.has_room(1)), (570, false));
        drop(first);
        assert_eq!((budget.bytes(), budget.has_room(30)), (70, true));
        drop(second);
        assert_eq!((budget.items(), budget.bytes(), budget.has_room(100)), (0, 0, true));
    }

    #[tokio::test]
    async fn a_charge_is_divided_among_items() {
        let budget = ByteBudget::new(100);
        let (first, rest) = budget.charge(90).await.split(30);
        assert_eq!((budget.items(), budget.bytes(), budget.has_room(11)), (2, 90, false));
        drop(rest);
        assert_eq!((first.bytes(), budget.bytes(), budget.has_room(70)), (30, 30, true));
        let (second, rest) = first.split(500);
        assert_eq!((second.bytes(), rest.bytes()), (30, 0));
        drop((second, rest));
        assert_eq!((budget.items(), budget.bytes(), budget.has_room(100)), (0, 0, true));
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

    #[tokio::test]
    async fn another_permit_ends_with_the_last_of_the_items() {
        let (budget, turns) = (ByteBudget::new(100), Arc::new(Semaphore::new(1)));
        let mut charge = budget.charge(60).await;
        charge.keep(Arc::clone(&turns).try_acquire_owned().unwrap());
        let (first, rest) = charge.split(20);
        drop(first);
        assert_eq!(turns.available_permits(), 0);
        drop(rest);
        assert_eq!(turns.available_permits(), 1);
    }
}
