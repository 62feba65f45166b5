//! Whether the streams hold more than has been read: then a lane waits a moment for a full batch, because a batch
//! costs about the same work beside its rows whether it is full or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many of the readers that feed the same lanes know of more than they have dealt out. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Supply(Arc<AtomicUsize>);

impl Supply {
    /// Whether some reader is about to deal out more.
    pub fn is_ample(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// The share of one more reader.
    pub fn share(&self) -> Share {
        Share { supply: self.clone(), ample: false }
    }
}

/// One reader's word on it; dropped with its reader.
#[derive(Debug)]
pub struct Share {
    supply: Supply,
    ample: bool,
}

impl Share {
    /// Says whether more is about to come from this reader.
    pub fn set(&mut self, ample: bool) {
        if ample != self.ample {
            self.ample = ample;
            let count = &self.supply.0;
            if ample {
                count.fetch_add(1, Ordering::Relaxed)
            } else {
                count.fetch_sub(1, Ordering::Relaxed)
            };
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_ample_as_long_as_one_reader_says_so() {
        let supply = Supply::default();
        let (mut one, mut other) = (supply.share(), supply.share());
        one.set(true);
        one.set(true);
        other.set(true);
        one.set(false);
        assert!(supply.is_ample());
        drop(other);
        assert!(!supply.is_ample());
    }
}
