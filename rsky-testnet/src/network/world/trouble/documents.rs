//! What the directory and the hosts of did:web accounts answer wrong that are asked for a document.

use super::super::super::wrong::{Asker, Wrong};
use super::{Party, Trouble, Troubles};

/// Whose document is given in place of another.
const OTHER: &str = "did:plc:222222222222222222222223";

impl Troubles {
    /// What goes wrong with a document: of every did:web account, and of every second one of the directory, since where all
    /// fail, nobody would be asked but now and then. `number` is the account's place among all.
    pub(in super::super) fn document(&self, by: Asker, number: u64, is_web: bool) -> Option<Wrong> {
        let party = if is_web { Party::Web } else { Party::Directory };
        if !is_web && number.is_multiple_of(2) {
            return None;
        }
        let kind = self.turn(if is_web { number } else { number / 2 }, |kind| kind.party() == party)?;
        let (wrong, times) = match kind {
            Trouble::PlcError | Trouble::WebError => (Wrong::Error, self.once_or_twice(number)),
            Trouble::PlcPage | Trouble::WebPage => (Wrong::Page, self.once_or_twice(number)),
            Trouble::PlcCut => (Wrong::Cut, self.once_or_twice(number)),
            Trouble::PlcOther => (Wrong::Member("id", OTHER.into()), self.once_or_twice(number)),
            // These take their time.
            Trouble::PlcBusy => (Wrong::Busy, 1),
            Trouble::PlcTrickle => (Wrong::Trickle, 1),
            _ => (Wrong::Silence, 1),
        };
        self.is_wrong(kind, by, number, times).then_some(wrong)
    }
}
