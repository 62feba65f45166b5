//! The queue: entries in stream order, from which batches are taken for lanes.

use std::collections::VecDeque;

use super::claims::Claims;
use super::table::Table;

/// An entry on its way.
#[derive(Debug)]
pub struct Entry<T> {
    /// What is to be done. Boxed, since entries change their places.
    pub item: Box<T>,
    /// What it claims.
    pub claims: Claims,
    /// Bytes of it that go into the database.
    pub bytes: usize,
}

/// How much a batch may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Entries.
    pub entries: usize,
    /// Bytes, unless its only entry is larger.
    pub bytes: usize,
}

/// Entries that wait, and the claims of those that are being worked on.
#[derive(Debug)]
pub struct Queue<T> {
    waiting: VecDeque<Entry<T>>,
    /// Claims of what is being worked on.
    taken: Table,
    /// Claims of what was passed over, while a batch is taken; kept for its memory.
    passed: Table,
    /// Entries that were passed over last time, and cannot be taken before something is released.
    blocked: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), taken: Table::default(), passed: Table::default(), blocked: 0 }
    }
}

impl<T> Queue<T> {
    /// Puts an entry at the end.
    pub fn push(&mut self, entry: Entry<T>) {
        self.waiting.push_back(entry);
    }

    /// Entries that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Entries that wait and may be free to be taken: what was found blocked counts again once something is released.
    pub fn promising(&self) -> usize {
        self.waiting.len().saturating_sub(self.blocked)
    }

    /// Takes the next batch: in stream order, every entry that depends on nothing before it but what is taken with it.
    /// `is_held` says of an entry that what it needs cannot be had at present, whatever it claims. What is taken stays
    /// claimed until [`Self::release`].
    pub fn take(&mut self, limits: Limits, is_held: impl Fn(&T) -> bool) -> Vec<Entry<T>> {
        self.passed.clear();
        let mut batch: Vec<Entry<T>> = Vec::new();
        let mut bytes = 0_usize;
        let mut left: VecDeque<Entry<T>> = VecDeque::new();
        while let Some(entry) = self.waiting.pop_front() {
            let full = batch.len() >= limits.entries
                || (!batch.is_empty() && bytes.saturating_add(entry.bytes) > limits.bytes);
            if full {
                self.waiting.push_front(entry);
                break;
            }
            let waits = self.taken.conflicts(&entry.claims)
                || self.passed.conflicts(&entry.claims)
                || is_held(&entry.item);
            if waits {
                self.passed.add(&entry.claims);
                left.push_back(entry);
            } else {
                bytes = bytes.saturating_add(entry.bytes);
                batch.push(entry);
            }
        }
        self.blocked = left.len();
        // What was passed over goes back to the front; the shorter of the two is moved.
        if left.len() < self.waiting.len() {
            while let Some(entry) = left.pop_back() {
                self.waiting.push_front(entry);
            }
        } else {
            left.append(&mut self.waiting);
            self.waiting = left;
        }
        for entry in &batch {
            self.taken.add(&entry.claims);
        }
        batch
    }

    /// What was taken is done with: what depends on it may go on.
    pub fn release(&mut self, claims: &Claims) {
        self.taken.remove(claims);
        self.blocked = 0;
    }

    /// What was taken is set aside: it stays claimed, but keeps back only what has to wait for it.
    pub fn set_aside(&mut self, entry: &mut Entry<T>) {
        let claims = entry.claims.of_set_aside();
        self.taken.remove(&entry.claims);
        self.taken.add(&claims);
        entry.claims = claims;
        self.blocked = 0;
    }

    /// What keeps entries back may have changed.
    pub fn look_again(&mut self) {
        self.blocked = 0;
    }

    /// Everything that waits, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Entry<T>> + '_ {
        self.blocked = 0;
        self.waiting.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use proptest::prelude::*;

    use super::super::claims::Touch;
    use super::*;

    const LIMITS: Limits = Limits { entries: 3, bytes: 1000 };

    fn entry(item: usize, claims: &[(u64, Touch)]) -> Entry<usize> {
        Entry { item: Box::new(item), claims: Claims::of(claims.to_vec()), bytes: 10 }
    }

    fn take(queue: &mut Queue<usize>) -> Vec<usize> {
        queue.take(LIMITS, |_| false).iter().map(|entry| *entry.item).collect()
    }

    #[test]
    fn what_depends_on_each_other_goes_together_or_waits() {
        let mut queue = Queue::default();
        let own = |key| [(key, Touch::Own)];
        for (item, key) in [(0, 1), (1, 2), (2, 1), (3, 1), (4, 3), (5, 2)] {
            queue.push(entry(item, &own(key)));
        }
        // Together, in order.
        assert_eq!(take(&mut queue), [0, 1, 2]);
        // 3 and 5 wait for those; 4 does not.
        assert_eq!(take(&mut queue), [4]);
        assert_eq!((queue.promising(), queue.len()), (0, 2));
        queue.release(&Claims::of(own(1).to_vec()));
        assert_eq!(take(&mut queue), Vec::<usize>::new(), "one more of the batch claims it");
        queue.release(&Claims::of(own(1).to_vec()));
        assert_eq!(take(&mut queue), [3]);
    }

    #[test]
    fn what_is_held_keeps_back_what_follows_from_it_and_nothing_else() {
        let mut queue = Queue::default();
        queue.push(entry(0, &[(1, Touch::Own)]));
        queue.push(entry(1, &[(1, Touch::Read)]));
        queue.push(entry(2, &[(2, Touch::Own)]));
        let batch = queue.take(LIMITS, |item| *item == 0);
        assert_eq!(batch.iter().map(|entry| *entry.item).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn what_goes_one_by_one_does_not_wait_for_what_is_set_aside() {
        let mut queue = Queue::default();
        for item in 0..3 {
            queue.push(entry(item, &[(1, Touch::OneByOne), (item as u64 + 10, Touch::Own)]));
        }
        let mut batch = queue.take(Limits { entries: 1, bytes: 1000 }, |_| false);
        assert_eq!(take(&mut queue), Vec::<usize>::new());
        batch.iter_mut().for_each(|entry| queue.set_aside(entry));
        queue.push(entry(3, &[(10, Touch::Read)]));
        queue.push(entry(4, &[(1, Touch::Own)]));
        assert_eq!(take(&mut queue), [1, 2], "3 and 4 have to wait");
        for number in [11, 12] {
            queue.release(&Claims::of(vec![(1, Touch::OneByOne), (number, Touch::Own)]));
        }
        assert_eq!(take(&mut queue), Vec::<usize>::new());
        queue.release(&batch[0].claims);
        assert_eq!(take(&mut queue), [3, 4]);
    }

    #[test]
    fn a_batch_is_bounded_by_bytes_but_for_its_first() {
        let mut queue = Queue::default();
        for (item, bytes) in [(0, 5000), (1, 600), (2, 600)] {
            queue.push(Entry { item: Box::new(item), claims: Claims::default(), bytes });
        }
        assert_eq!([take(&mut queue), take(&mut queue), take(&mut queue)], [vec![0], vec![1], vec![2]]);
    }

    fn history() -> impl Strategy<Value = Vec<Vec<(u64, Touch)>>> {
        let touch = prop_oneof![Just(Touch::Read), Just(Touch::Add), Just(Touch::Own)];
        let claims = prop::collection::vec((0..6_u64, touch), 1..4);
        prop::collection::vec(claims, 1..40)
    }

    proptest! {
        /// Whenever batches end: of two entries that conflict, the first has ended before the second begins, or both are
        /// in one batch in order. Everything is taken in the end.
        #[test]
        fn the_order_of_what_conflicts_is_kept(history in history(), ends in prop::collection::vec(0..3_usize, 200)) {
            let mut queue = Queue::default();
            for (item, claims) in history.iter().enumerate() {
                queue.push(entry(item, claims));
            }
            let mut running: Vec<Vec<Entry<usize>>> = Vec::new();
            let (mut ended, mut started) = (BTreeSet::new(), HashMap::new());
            let mut ends = ends.into_iter().cycle();
            for round in 0.. {
                let batch = queue.take(LIMITS, |_| false);
                let conflict = |a: usize, b: usize| {
                    let mut table = Table::default();
                    table.add(&Claims::of(history[a].clone()));
                    table.conflicts(&Claims::of(history[b].clone()))
                };
                for later in &batch {
                    started.insert(*later.item, round);
                    for earlier in (0..*later.item).filter(|earlier| conflict(*earlier, *later.item)) {
                        let together = started.get(&earlier) == Some(&round);
                        prop_assert!(ended.contains(&earlier) || together, "{earlier} before {}", later.item);
                    }
                }
                prop_assert!(batch.windows(2).all(|pair| pair[0].item < pair[1].item));
                let nothing = batch.is_empty();
                running.push(batch);
                let end = ends.next().unwrap_or(0).min(running.len() - 1);
                for entry in running.remove(end) {
                    queue.release(&entry.claims);
                    ended.insert(*entry.item);
                }
                running.retain(|batch| !batch.is_empty());
                if nothing && running.is_empty() && queue.is_empty() {
                    break;
                }
                prop_assert!(round < 1000);
            }
            prop_assert_eq!(ended.len(), history.len());
        }
    }
}
