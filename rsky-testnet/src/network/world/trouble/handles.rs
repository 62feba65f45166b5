//! What is answered wrong about handles.

use super::super::super::wrong::{Asker, Wrong};
use super::super::simulation::World;
use super::{Party, Trouble, Troubles};

impl Troubles {
    /// What goes wrong with the answer about the handle of an account, of this place among all: of every fourth no answer at
    /// first, and of every fourth another account as long as the world stands at the end of its history, when `other` is
    /// given.
    pub(in super::super) fn handle(&self, by: Asker, number: u64, other: Option<&str>) -> Option<Wrong> {
        if let Some(other) = other
            && self.has(Trouble::HandleOther)
            && leads_elsewhere(number)
        {
            self.note(Trouble::HandleOther, number);
            return Some(Wrong::Member("did", other.into()));
        }
        if !number.is_multiple_of(4) {
            return None;
        }
        let is_failure = |kind: Trouble| kind.party() == Party::Handles && kind != Trouble::HandleOther;
        let kind = self.turn(number / 4, is_failure)?;
        let (wrong, times) = match kind {
            Trouble::HandleError => (Wrong::Error, self.once_or_twice(number)),
            Trouble::HandlePage => (Wrong::Page, self.once_or_twice(number)),
            Trouble::HandleCut => (Wrong::Cut, self.once_or_twice(number)),
            Trouble::HandleBusy => (Wrong::Busy, 1),
            _ => (Wrong::Silence, 1),
        };
        self.is_wrong(kind, by, number, times).then_some(wrong)
    }
}

/// Whether the handle of an account may lead elsewhere for a while.
pub(super) fn leads_elsewhere(number: u64) -> bool {
    number % 4 == 2
}

impl World {
    /// Whether the handle of an account leads to another one now, by [`Trouble::HandleOther`].
    pub fn is_led_astray(&self, did: &str) -> bool {
        self.options().trouble.contains(&Trouble::HandleOther)
            && self.is_history()
            && self.place(did).is_some_and(leads_elsewhere)
    }
}
