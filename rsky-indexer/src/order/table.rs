//! The table of claims: what is claimed by entries on their way, and whether a further entry gets in their way.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::claims::{Claims, Touch};

/// Keys are hashes already.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
}

/// How many entries claim a key, by what they do to it.
#[derive(Debug, Clone, Copy, Default)]
struct Uses {
    reads: u32,
    adds: u32,
    owns: u32,
}

/// The claims of a set of entries.
#[derive(Debug, Default)]
pub struct Table {
    keys: HashMap<u64, Uses, BuildHasherDefault<AsItIs>>,
    /// How many entries claim everything.
    everything: u32,
}

impl Table {
    /// Whether an entry with these claims depends on one of the set, or one of the set on it.
    pub fn conflicts(&self, claims: &Claims) -> bool {
        if self.is_empty() {
            return false;
        }
        self.everything > 0
            || claims.is_everything()
            || claims.iter().any(|(key, touch)| self.stands_against(*key, *touch))
    }

    fn stands_against(&self, key: u64, touch: Touch) -> bool {
        let Some(uses) = self.keys.get(&key) else { return false };
        match touch {
            Touch::Read => uses.adds > 0 || uses.owns > 0,
            Touch::Add => uses.reads > 0 || uses.owns > 0,
            // Added is what is set aside and new.
            Touch::OneByOne => uses.reads > 0 || uses.owns > 0,
            Touch::Own => true,
        }
    }

    /// Whether an entry with these claims passes one of the set that is set aside.
    pub fn is_passed_by(&self, claims: &Claims) -> bool {
        let is_added = |key: &u64| self.keys.get(key).is_some_and(|uses| uses.adds > 0);
        claims.iter().any(|(key, touch)| *touch == Touch::OneByOne && is_added(key))
    }

    /// An entry joins the set.
    pub fn add(&mut self, claims: &Claims) {
        self.everything = self.everything.saturating_add(u32::from(claims.is_everything()));
        for (key, touch) in claims.iter() {
            let uses = self.keys.entry(*key).or_default();
            let count = uses.of(*touch);
            *count = count.saturating_add(1);
        }
    }

    /// An entry leaves the set.
    pub fn remove(&mut self, claims: &Claims) {
        self.everything = self.everything.saturating_sub(u32::from(claims.is_everything()));
        for (key, touch) in claims.iter() {
            let Some(uses) = self.keys.get_mut(key) else { continue };
            let count = uses.of(*touch);
            *count = count.saturating_sub(1);
            if uses.reads == 0 && uses.adds == 0 && uses.owns == 0 {
                self.keys.remove(key);
            }
        }
    }

    /// Empties the set; its memory stays for the next.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.everything = 0;
    }

    /// Whether nothing is claimed.
    pub fn is_empty(&self) -> bool {
        self.everything == 0 && self.keys.is_empty()
    }
}

impl Uses {
    fn of(&mut self, touch: Touch) -> &mut u32 {
        match touch {
            Touch::Read => &mut self.reads,
            Touch::Add => &mut self.adds,
            Touch::Own | Touch::OneByOne => &mut self.owns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(pairs: &[(u64, Touch)]) -> Claims {
        Claims::of(pairs.to_vec())
    }

    #[test]
    fn readers_go_together_and_adders_go_together() {
        let mut table = Table::default();
        table.add(&claims(&[(1, Touch::Read), (2, Touch::Add), (3, Touch::Own)]));
        for (key, touch, conflicts) in [
            (1, Touch::Read, false),
            (1, Touch::Add, true),
            (1, Touch::Own, true),
            (2, Touch::Read, true),
            (2, Touch::Add, false),
            (2, Touch::Own, true),
            (3, Touch::Read, true),
            (3, Touch::Add, true),
            (3, Touch::Own, true),
            (4, Touch::Own, false),
        ] {
            assert_eq!(table.conflicts(&claims(&[(key, touch)])), conflicts, "{key} {touch:?}");
        }
    }

    #[test]
    fn who_claims_too_much_claims_everything() {
        let most = u64::try_from(crate::order::claims::MOST).unwrap();
        let mut many = Claims::default();
        many.extend((0..most).map(|key| (key, Touch::Read)));
        many.push(0, Touch::Read);
        let other = claims(&[(u64::MAX, Touch::Read)]);
        let mut table = Table::default();
        table.add(&many);
        assert!(!table.conflicts(&other));
        table.remove(&many);
        many.push(most, Touch::Read);
        table.add(&many);
        assert!(table.conflicts(&other) && table.conflicts(&Claims::default()));
        table.remove(&many);
        assert!(!table.conflicts(&many) && table.is_empty());
        table.add(&other);
        assert!(table.conflicts(&many) && !table.conflicts(&many.of_set_aside(true)));
        assert_eq!(many.iter().len(), crate::order::claims::MOST);
    }

    #[test]
    fn what_was_added_twice_stays_until_it_is_removed_twice() {
        let mut table = Table::default();
        let one = claims(&[(1, Touch::Own), (2, Touch::Read)]);
        table.add(&one);
        table.add(&one);
        table.remove(&one);
        assert!(table.conflicts(&one));
        table.remove(&one);
        assert!(!table.conflicts(&one) && table.is_empty());
        // Nothing to remove: nothing happens.
        table.remove(&one);
    }
}
