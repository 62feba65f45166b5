//! One budget of disk for the temporary files of all repositories.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

/// Bytes that temporary files may take at a time, over all repositories. Cloning gives another handle to the same budget.
///
/// Nobody waits for room: those who wait would hold what the others wait for. Whoever finds none gives up and returns
/// what it holds.
#[derive(Debug, Clone)]
pub struct DiskBudget {
    used: Arc<AtomicU64>,
    total: u64,
}

/// There is no room for more temporary files; the source of an [`io::Error`] of kind `StorageFull`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("temporary files may take {total} bytes in all, this repository needs {wanted}")]
pub struct NoDisk {
    /// Bytes that the repository would have taken with this piece.
    pub wanted: u64,
    /// The whole budget.
    pub total: u64,
}

impl NoDisk {
    /// The error behind an I/O error, if it is this one.
    pub fn behind(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// Whether there would be no room even without the other repositories.
    pub fn is_for_ever(&self) -> bool {
        self.wanted > self.total
    }
}

impl DiskBudget {
    /// A budget of `total` bytes.
    pub fn new(total: u64) -> Self {
        Self { used: Arc::default(), total }
    }

    /// A budget that is never used up.
    pub fn unlimited() -> Self {
        Self::new(u64::MAX)
    }

    /// Bytes taken now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes that may be taken in all.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The share of one repository; nothing is taken yet.
    pub(super) fn share(&self) -> DiskShare {
        DiskShare { budget: self.clone(), bytes: 0 }
    }
}

/// What one repository has taken; dropping it gives the bytes back.
#[derive(Debug)]
pub(super) struct DiskShare {
    budget: DiskBudget,
    bytes: u64,
}

impl DiskShare {
    /// Takes more, before it is written.
    ///
    /// # Errors
    /// `StorageFull` with [`NoDisk`]; nothing was taken then.
    pub(super) fn take(&mut self, more: u64) -> io::Result<()> {
        let DiskBudget { used, total } = &self.budget;
        let fits = |used: u64| used.checked_add(more).filter(|used| *used <= *total);
        if used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            let wanted = self.bytes.saturating_add(more);
            return Err(io::Error::new(io::ErrorKind::StorageFull, NoDisk { wanted, total: *total }));
        }
        self.bytes = self.bytes.saturating_add(more);
        Ok(())
    }

    /// Gives some back, after the file is gone.
    pub(super) fn give_back(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for DiskShare {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_what_is_dropped_comes_back() {
        let budget = DiskBudget::new(100);
        let (mut one, mut other) = (budget.share(), budget.share());
        one.take(60).unwrap();
        let error = other.take(50).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(NoDisk::behind(&error), Some(&NoDisk { wanted: 50, total: 100 }));
        assert!(!NoDisk::behind(&error).unwrap().is_for_ever());
        assert!(NoDisk::behind(&one.take(41).unwrap_err()).unwrap().is_for_ever());
        one.give_back(20);
        other.take(50).unwrap();
        assert_eq!(budget.used(), 90);
        drop((one, other));
        assert_eq!(budget.used(), 0);
        DiskBudget::unlimited().share().take(1 << 40).unwrap();
        assert_eq!(NoDisk::behind(&io::Error::other("x")), None);
    }
}
