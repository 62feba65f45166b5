//! What became of each entry of a batch, by what its lane says of those that are not indexed.

use crate::acks::{Death, Fate};
use crate::held_rows::Row;
use crate::isolate::Written;

/// See the module.
#[derive(Debug)]
pub enum Outcome {
    /// It is done with.
    Done(Fate),
    /// It is set aside: it needs these rows, or depends on an entry that needs some.
    SetAside {
        /// They are held.
        rows: Vec<Row>,
        /// Whether it is known to replace no version of its record.
        is_new: bool,
    },
    /// It has to wait for what is set aside, and was not to be taken yet.
    TooEarly,
}

/// Of each of so many entries.
pub fn of_each(written: Written, entries: usize) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = (0..entries).map(|_| Outcome::Done(Fate::Indexed)).collect();
    let Written { refused, abandoned, held, too_early, put_off: _ } = written;
    let refused = refused.into_iter().map(|(at, error, attempts)| {
        (at, Outcome::Done(Fate::Dead(Death { reason: "refused_by_postgres", error, attempts })))
    });
    let abandoned = abandoned.into_iter().map(|at| (at, Outcome::Done(Fate::Abandoned)));
    let held =
        held.into_iter().map(|held| (held.at, Outcome::SetAside { rows: held.rows, is_new: held.is_new }));
    let too_early = too_early.into_iter().map(|at| (at, Outcome::TooEarly));
    for (at, outcome) in refused.chain(abandoned).chain(held).chain(too_early) {
        if let Some(place) = outcomes.get_mut(at) {
            *place = outcome;
        }
    }
    outcomes
}
