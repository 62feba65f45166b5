//! What was read and is not decided yet. Of all that is about one thing only the last is kept: what stands in the tables is
//! what the last one left.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use rsky_common::runtime::budget::Charge;

use super::item::Item;
use crate::identity::EntryId;

/// A place in a stream, and in the entry that is there.
pub(super) type Place = (EntryId, u32);

/// Something that waits.
#[derive(Debug)]
struct Held {
    item: Arc<Item>,
    read_at: Instant,
    /// It differed, and is looked at again then.
    again: Option<Instant>,
    looking: bool,
    /// The memory of its entry, until the last item of it is gone.
    _charge: Arc<Charge>,
}

/// Something that is looked at.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    pub(super) source: usize,
    pub(super) place: Place,
    pub(super) item: Arc<Item>,
    pub(super) read_at: Instant,
    /// Whether it differed before.
    pub(super) again: bool,
    /// Whether the indexer has not finished it for a long time.
    pub(super) overdue: bool,
}

/// See the module. Its size is bounded by the budgets that the charges are of.
#[derive(Debug)]
pub(super) struct Window {
    sources: Vec<BTreeMap<Place, Held>>,
    keys: HashMap<String, Vec<(usize, Place)>>,
}

impl Window {
    pub(super) fn new(sources: usize) -> Self {
        Self { sources: (0..sources).map(|_| BTreeMap::new()).collect(), keys: HashMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.sources.iter().map(BTreeMap::len).sum()
    }

    /// Adds what an entry leads to; returns how many earlier ones of the same stream that replaces.
    pub(super) fn add(
        &mut self,
        source: usize,
        id: EntryId,
        items: Vec<Item>,
        charge: Charge,
        now: Instant,
    ) -> u64 {
        let charge = Arc::new(charge);
        let mut replaced = 0;
        let Some(waiting) = self.sources.get_mut(source) else { return 0 };
        for (part, item) in (0_u32..).zip(items) {
            let place = (id, part);
            if let Some(key) = &item.key {
                let places = self.keys.entry(key.clone()).or_default();
                let at = places.iter().position(|(other, _)| *other == source);
                let earlier = at.and_then(|at| places.get_mut(at));
                if let Some((_, earlier)) = earlier {
                    replaced += 1;
                    if waiting.get(earlier).is_some_and(|held| item.yields_to(&held.item)) {
                        continue;
                    }
                    waiting.remove(earlier);
                    *earlier = place;
                } else {
                    places.push((source, place));
                }
            }
            let held = Held {
                item: Arc::new(item),
                read_at: now,
                again: None,
                looking: false,
                _charge: Arc::clone(&charge),
            };
            waiting.insert(place, held);
        }
        replaced
    }

    /// Those that may be looked at as far as this is ours to say: behind `from`, up to an entry, in order.
    pub(super) fn due(
        &self,
        source: usize,
        from: Bound<Place>,
        until: EntryId,
        now: Instant,
        most: usize,
    ) -> Vec<Place> {
        let Some(waiting) = self.sources.get(source) else { return Vec::new() };
        let is_after = match from {
            Bound::Excluded(from) | Bound::Included(from) => from <= (until, u32::MAX),
            Bound::Unbounded => true,
        };
        if !is_after {
            return Vec::new();
        }
        waiting
            .range((from, Bound::Included((until, u32::MAX))))
            .filter(|(_, held)| !held.looking && held.again.is_none_or(|due| due <= now))
            .take(most)
            .map(|(place, _)| *place)
            .collect()
    }

    /// Since when it has waited.
    pub(super) fn read_at(&self, source: usize, place: Place) -> Option<Instant> {
        self.sources.get(source)?.get(&place).map(|held| held.read_at)
    }

    /// Gives out one to be looked at. `None`: it is gone, or another stream has a newer version, which takes its place.
    pub(super) fn take(&mut self, source: usize, place: Place, overdue: bool) -> Option<Taken> {
        if self.is_overtaken(source, place) {
            self.settle(source, place);
            return None;
        }
        let held = self.sources.get_mut(source)?.get_mut(&place)?;
        held.looking = true;
        let (item, read_at, again) = (Arc::clone(&held.item), held.read_at, held.again.is_some());
        Some(Taken { source, place, item, read_at, again, overdue })
    }

    fn is_overtaken(&self, source: usize, place: Place) -> bool {
        let held = |source: usize, place| self.sources.get(source)?.get(&place);
        let Some(own) = held(source, place) else { return false };
        let (Some(key), Some(rev)) = (&own.item.key, own.item.rev()) else { return false };
        let others = self.keys.get(key).into_iter().flatten().filter(|(other, _)| *other != source);
        others.filter_map(|(other, place)| held(*other, *place)?.item.rev()).any(|other| other > rev)
    }

    /// It is decided. `false`: something later has taken its place meanwhile.
    pub(super) fn settle(&mut self, source: usize, place: Place) -> bool {
        let Some(held) = self.sources.get_mut(source).and_then(|waiting| waiting.remove(&place)) else {
            return false;
        };
        if let Some(key) = &held.item.key
            && let Some(places) = self.keys.get_mut(key)
        {
            places.retain(|other| *other != (source, place));
            if places.is_empty() {
                self.keys.remove(key);
            }
        }
        true
    }

    /// It differs, and is looked at again later.
    pub(super) fn look_again(&mut self, source: usize, place: Place, due: Instant) {
        if let Some(held) = self.sources.get_mut(source).and_then(|waiting| waiting.get_mut(&place)) {
            held.looking = false;
            held.again = Some(due);
        }
    }

    /// The oldest entry that is not decided.
    pub(super) fn oldest(&self, source: usize) -> Option<EntryId> {
        self.sources.get(source)?.keys().next().map(|(id, _)| *id)
    }

    /// Those that differed once and were not looked at again.
    pub(super) fn in_doubt(&self) -> usize {
        self.sources.iter().flat_map(BTreeMap::values).filter(|held| held.again.is_some()).count()
    }

    /// A stream is gone; returns how many went with it.
    pub(super) fn forget(&mut self, source: usize) -> u64 {
        let places: Vec<Place> =
            self.sources.get(source).map(|waiting| waiting.keys().copied().collect()).unwrap_or_default();
        let mut gone = 0;
        for place in places {
            gone += u64::from(self.settle(source, place));
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use rsky_common::runtime::budget::ByteBudget;

    use super::*;
    use crate::shadow::item::Expected;

    fn item(key: &str) -> Item {
        let expected = Expected::Status { did: "did:plc:a".to_owned(), status: None };
        Item { key: Some(key.to_owned()), expected }
    }

    #[tokio::test]
    async fn the_last_of_a_key_is_kept_and_memory_goes_with_the_rest() {
        let budget = ByteBudget::new(100);
        let mut window = Window::new(2);
        let now = Instant::now();
        assert_eq!(window.add(0, (1, 0), vec![item("a"), item("b")], budget.charge(10).await, now), 0);
        let taken = window.take(0, ((1, 0), 0), false).unwrap();
        assert_eq!(window.due(0, Bound::Unbounded, (9, 9), now, 9), [((1, 0), 1)]);
        assert_eq!(window.add(0, (2, 0), vec![item("a")], budget.charge(20).await, now), 1);
        assert!(!window.settle(0, taken.place), "something later is there");
        assert_eq!((window.len(), budget.bytes()), (2, 30));
        assert!(window.settle(0, ((1, 0), 1)));
        assert_eq!(budget.bytes(), 20);
        assert_eq!(window.add(1, (1, 0), vec![item("a")], budget.charge(5).await, now), 0);
        assert_eq!((window.oldest(0), window.oldest(1)), (Some((2, 0)), Some((1, 0))));
        window.look_again(0, ((2, 0), 0), now + std::time::Duration::from_secs(60));
        assert_eq!((window.in_doubt(), window.due(0, Bound::Unbounded, (9, 9), now, 9).len()), (1, 0));
        assert_eq!((window.forget(0), window.forget(1), window.len(), budget.bytes()), (1, 1, 0, 0));
        assert!(window.keys.is_empty());
    }

    #[tokio::test]
    async fn what_is_due_is_given_out_in_order_and_up_to_an_entry() {
        let budget = ByteBudget::new(100);
        let mut window = Window::new(1);
        let now = Instant::now();
        for id in 1..=4 {
            window.add(0, (id, 0), vec![item(&id.to_string())], budget.charge(1).await, now);
        }
        assert_eq!(window.due(0, Bound::Unbounded, (3, 0), now, 2), [((1, 0), 0), ((2, 0), 0)]);
        assert_eq!(window.due(0, Bound::Excluded(((2, 0), 0)), (3, 0), now, 9), [((3, 0), 0)]);
        assert!(window.due(0, Bound::Excluded(((9, 0), 0)), (3, 0), now, 9).is_empty());
    }
}
