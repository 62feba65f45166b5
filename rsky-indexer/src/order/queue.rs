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

    /// Marks those of a batch that pass what is set aside: they may be written only if they are new.
    pub fn mark_passing(&self, batch: &mut [Entry<T>]) {
        for entry in batch.iter_mut().filter(|entry| self.taken.is_passed_by(&entry.claims)) {
            entry.claims.set_must_be_new();
        }
    }

    /// What was taken is set aside: it stays claimed, but keeps back only what has to wait for it. `is_new`: it replaces no
    /// version of its record.
    pub fn set_aside(&mut self, entry: &mut Entry<T>, is_new: bool) {
        let claims = entry.claims.of_set_aside(is_new);
        self.taken.remove(&entry.claims);
        self.taken.add(&claims);
        entry.claims = claims;
        self.blocked = 0;
    }

    /// What was taken was found to have been taken too early: it waits again, before everything else, with what it claims by
    /// that. In stream order.
    pub fn put_back(&mut self, entries: Vec<Entry<T>>) {
        for mut entry in entries.into_iter().rev() {
            self.taken.remove(&entry.claims);
            entry.claims = entry.claims.of_replacing();
            self.waiting.push_front(entry);
        }
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
    use crate::left_out::{Before, LeftOut, too_early};

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
        batch.iter_mut().for_each(|entry| queue.set_aside(entry, true));
        queue.push(entry(3, &[(10, Touch::Read)]));
        queue.push(entry(4, &[(1, Touch::Own)]));
        let mut passing = queue.take(LIMITS, |_| false);
        assert_eq!(
            passing.iter().map(|entry| *entry.item).collect::<Vec<_>>(),
            [1, 2],
            "3 and 4 have to wait"
        );
        queue.mark_passing(&mut passing);
        assert!(passing.iter().all(|entry| entry.claims.must_be_new()));
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

    #[test]
    fn what_was_taken_too_early_waits_before_what_follows_it() {
        let mut queue = Queue::default();
        let one = |item: usize| entry(item, &[(1, Touch::OneByOne), (item as u64 + 10, Touch::Own)]);
        queue.push(one(0));
        let mut first = queue.take(LIMITS, |_| false);
        queue.set_aside(&mut first[0], true);
        queue.push(one(1));
        queue.push(one(2));
        queue.push(entry(3, &[(2, Touch::Own)]));
        let mut batch = queue.take(Limits { entries: 2, bytes: 1000 }, |_| false);
        queue.mark_passing(&mut batch);
        queue.put_back(batch);
        assert_eq!(take(&mut queue), [3], "1 was not new, and 2 follows it");
        queue.release(&first[0].claims);
        assert_eq!(take(&mut queue), [1, 2]);
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

        /// What is set aside, and taken up again in any order: of two entries the first ends before the second, unless they
        /// have nothing in common, or all that they have in common is written one by one and both are new.
        #[test]
        fn the_order_is_kept_around_what_is_set_aside(
            history in prop::collection::vec((one_by_one(), any::<bool>()), 1..30),
            moves in prop::collection::vec((0..4_usize, 0..5_usize), 300),
        ) {
            let claims_of = |item: usize, one_by_one: Touch| -> Claims {
                let of_touch = |touch| if touch == Touch::OneByOne { one_by_one } else { touch };
                Claims::of(history[item].0.iter().map(|(key, touch)| (*key, of_touch(*touch))).collect())
            };
            let is_new = |item: usize| history[item].1;
            let depends = |earlier: usize, later: usize| {
                let touch = if is_new(earlier) && is_new(later) { Touch::Add } else { Touch::Own };
                let mut table = Table::default();
                table.add(&claims_of(earlier, touch));
                table.conflicts(&claims_of(later, touch))
            };
            let mut queue = Queue::default();
            for (item, (claims, _)) in history.iter().enumerate() {
                queue.push(entry(item, claims));
            }
            let mut aside: Vec<Vec<Entry<usize>>> = Vec::new();
            let mut ended: BTreeSet<usize> = BTreeSet::new();
            let mut moves = moves.into_iter().chain(std::iter::repeat((0, usize::MAX)));
            for round in 0.. {
                let (group, held) = moves.next().unwrap_or_default();
                let mut batch = if aside.len() > group && held % 2 == 1 {
                    aside.remove(group)
                } else {
                    let mut batch = queue.take(LIMITS, |_| false);
                    queue.mark_passing(&mut batch);
                    batch
                };
                if batch.is_empty() && !aside.is_empty() {
                    batch = aside.remove(0);
                }
                // As `isolate` does it: one of them needs a row that somebody holds.
                let claims: Vec<Claims> = batch.iter().map(|entry| entry.claims.clone()).collect();
                let claims: Vec<&Claims> = claims.iter().collect();
                let new: Vec<bool> = batch.iter().map(|entry| is_new(*entry.item)).collect();
                let too_early = too_early(&claims, &new);
                let mut left_out = LeftOut::of(&claims);
                left_out.set_new(new);
                let mut before = Before::default();
                for at in (0..batch.len()).filter(|at| !too_early.contains(at)) {
                    if !left_out.takes_along(at, &mut before) && at == held {
                        left_out.take(at, Vec::new());
                    }
                }
                let left_out: HashMap<usize, bool> =
                    left_out.into_held().iter().map(|held| (held.at, held.is_new)).collect();
                let (mut back, mut held_back) = (Vec::new(), Vec::new());
                for (at, mut entry) in batch.into_iter().enumerate() {
                    let item = *entry.item;
                    if too_early.contains(&at) {
                        back.push(entry);
                    } else if let Some(is_new) = left_out.get(&at) {
                        queue.set_aside(&mut entry, *is_new);
                        held_back.push(entry);
                    } else {
                        for earlier in (0..item).filter(|earlier| depends(*earlier, item)) {
                            prop_assert!(ended.contains(&earlier), "{earlier} before {item}");
                        }
                        queue.release(&entry.claims);
                        ended.insert(item);
                    }
                }
                queue.put_back(back);
                if !held_back.is_empty() {
                    aside.push(held_back);
                }
                if ended.len() == history.len() {
                    break;
                }
                prop_assert!(round < 1000, "{} of {}", ended.len(), history.len());
            }
        }
    }

    /// An author's records, and what others claim.
    fn one_by_one() -> impl Strategy<Value = Vec<(u64, Touch)>> {
        prop_oneof![
            3 => (10..14_u64).prop_map(|key| vec![(0, Touch::OneByOne), (key, Touch::Own)]),
            1 => (10..14_u64).prop_map(|key| vec![(0, Touch::Own), (key, Touch::Own)]),
            1 => (10..14_u64).prop_map(|key| vec![(key, Touch::Read)]),
        ]
    }
}
