//! What of a batch is not written while the rest of it is: what needs rows that somebody else holds or fails by itself, and
//! what would pass such although it may not ([`crate::order`]). What depends on that is left out with it.

use std::collections::BTreeSet;

use crate::held_rows::Row;
use crate::order::Claims;
use crate::order::table::Table;

/// An item that was not written.
#[derive(Debug)]
pub struct HeldBack {
    /// Its index.
    pub at: usize,
    /// The rows that somebody holds; none, if it depends on one of those that need such. One that fails by itself in a way
    /// that nobody foresaw has [`Row::failure`].
    pub rows: Vec<Row>,
    /// Whether it is known to replace no version of its record.
    pub is_new: bool,
}

/// What is set aside of a batch.
#[derive(Debug)]
pub(crate) struct LeftOut<'b> {
    /// Of each item of the batch.
    claims: &'b [&'b Claims],
    taken: BTreeSet<usize>,
    held: Vec<HeldBack>,
    /// Of each item, whether it is new; looked up when something is set aside.
    new: Option<Vec<bool>>,
}

/// While a part is gone through in order: what those claim that are set aside and come before the item it has reached. What
/// comes after it keeps no item back.
#[derive(Debug, Default)]
pub(crate) struct Before {
    table: Table,
    reached: usize,
}

impl<'b> LeftOut<'b> {
    /// Nothing yet, of items with these claims; of none, if nothing depends on anything.
    pub(crate) fn of(claims: &'b [&'b Claims]) -> Self {
        Self { claims, taken: BTreeSet::new(), held: Vec::new(), new: None }
    }

    /// Whether it was looked up which items replace no version of their record.
    pub(crate) fn knows_what_is_new(&self) -> bool {
        self.new.is_some()
    }

    /// Of each item, whether it replaces no version of its record. Those that are missing count as if they did.
    pub(crate) fn set_new(&mut self, new: Vec<bool>) {
        self.new = Some(new);
    }

    /// Sets an item aside that needs these rows.
    pub(crate) fn take(&mut self, at: usize, rows: Vec<Row>) {
        self.taken.insert(at);
        self.held.push(HeldBack { at, rows, is_new: self.is_new(at) });
    }

    /// Sets an item aside if it depends on one that is.
    pub(crate) fn takes_along(&mut self, at: usize, before: &mut Before) -> bool {
        for taken in self.taken.range(before.reached.min(at)..at) {
            if let Some(claims) = self.claims.get(*taken) {
                before.table.add(&claims.of_set_aside(self.is_new(*taken)));
            }
        }
        before.reached = at;
        let conflicts = |claims: &&Claims| before.table.conflicts(&claims.of_set_aside(self.is_new(at)));
        let depends = !before.table.is_empty() && self.claims.get(at).is_some_and(conflicts);
        if depends {
            self.take(at, Vec::new());
        }
        depends
    }

    /// What was set aside, in order.
    pub(crate) fn into_held(mut self) -> Vec<HeldBack> {
        self.held.sort_unstable_by_key(|held| held.at);
        self.held
    }

    fn is_new(&self, at: usize) -> bool {
        is_new(self.new.as_deref().unwrap_or_default(), at)
    }
}

fn is_new(new: &[bool], at: usize) -> bool {
    new.get(at).copied().unwrap_or(false)
}

/// Items that must be new to be written now and are not, and those that depend on them. In order.
pub(crate) fn too_early(claims: &[&Claims], new: &[bool]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut before = Table::default();
    for (at, claims) in claims.iter().enumerate() {
        if (claims.must_be_new() && !is_new(new, at)) || before.conflicts(claims) {
            before.add(&claims.of_replacing());
            found.push(at);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Touch;

    fn claims(number: u64, touch: Touch) -> Claims {
        Claims::of(vec![(0, touch), (number, Touch::Own)])
    }

    fn left_out(new: &[bool], needs: usize, claims: &[Claims]) -> Vec<usize> {
        let claims: Vec<&Claims> = claims.iter().collect();
        let mut left_out = LeftOut::of(&claims);
        left_out.set_new(new.to_vec());
        let mut before = Before::default();
        for at in 0..claims.len() {
            if !left_out.takes_along(at, &mut before) && at == needs {
                left_out.take(at, vec![Row::unknown()]);
            }
        }
        left_out.into_held().iter().map(|held| held.at).collect()
    }

    #[test]
    fn new_ones_pass_a_new_one_and_nothing_else_does() {
        let several: Vec<Claims> = (1..5).map(|number| claims(number, Touch::OneByOne)).collect();
        assert_eq!(left_out(&[true; 4], 1, &several), [1]);
        assert_eq!(
            left_out(&[true, true, false, true], 1, &several),
            [1, 2, 3],
            "what follows it waits for it"
        );
        assert_eq!(left_out(&[true, false, true, true], 1, &several), [1, 2, 3]);
        assert_eq!(left_out(&[false, true, true, true], 1, &several), [1]);
        assert_eq!(left_out(&[], 1, &several), [1, 2, 3], "nobody knows");
    }

    #[test]
    fn what_must_be_new_and_is_not_is_too_early_with_what_depends_on_it() {
        let mut several: Vec<Claims> = (1..4).map(|number| claims(number, Touch::OneByOne)).collect();
        several.push(claims(9, Touch::Read));
        several.push(Claims::of(vec![(7, Touch::Own)]));
        several.iter_mut().take(3).for_each(Claims::set_must_be_new);
        let several: Vec<&Claims> = several.iter().collect();
        assert_eq!(too_early(&several, &[true, false, true, true, true]), [1, 2, 3]);
        assert_eq!(too_early(&several, &[true; 5]), [0_usize; 0]);
        assert_eq!(too_early(&several, &[]), [0, 1, 2, 3]);
    }
}
