//! What is answered wrong about which repositories there are.

use super::super::super::wrong::{Asker, Wrong};
use super::{Party, Trouble, Troubles};

/// Repositories on a page of a troubled listing: so few that there are pages for every kind.
pub(in super::super) const PAGE: usize = 5;
/// Failures after which smaller pages are asked for, and one more.
const OFTEN: u64 = 4;

impl Troubles {
    /// Whether the listing has small pages.
    pub(in super::super) fn is_of_listing(&self) -> bool {
        self.kinds.iter().any(|kind| kind.party() == Party::Listing)
    }

    /// What goes wrong with a page that begins with this repository.
    pub(in super::super) fn page(&self, by: Asker, from: u64, cursor: Option<&str>) -> Option<Wrong> {
        let kind = self.turn(from / PAGE as u64, |kind| {
            // The first page is asked for without a cursor that could be repeated.
            kind.party() == Party::Listing && (kind != Trouble::ListRepeat || cursor.is_some())
        })?;
        let often = if self.once_or_twice(from) == 1 { 1 } else { OFTEN };
        let (wrong, times) = match kind {
            Trouble::ListError => (Wrong::Error, often),
            Trouble::ListPage => (Wrong::Page, 1),
            Trouble::ListCut => (Wrong::Cut, 1),
            Trouble::ListRepeat => (Wrong::Member("cursor", cursor?.into()), 1),
            Trouble::ListBusy => (Wrong::Busy, 1),
            _ => (Wrong::Silence, 1),
        };
        self.is_wrong(kind, by, from, times).then_some(wrong)
    }
}
