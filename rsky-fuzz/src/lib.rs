//! Everything that takes input from outside, as functions of bytes: a function that returns has held what it promises, one
//! that panics has not.
//!
//! Used twice: `tests/short.rs` gives each target its seeds and a few thousand changes of them on the stable toolchain, under a
//! counting allocator; `fuzz/` is the same for `cargo fuzz`, which is led by coverage and runs as long as one likes.
//!
//! ```text
//! seeds (recorded and hostile input) ─► changes ─► a target ─► the daemons' own function ─► what must hold of its answer
//! ```
#![allow(clippy::panic, reason = "a promise that does not hold is a finding, and ends the run")]

pub mod change;
pub mod cost;
mod linked;
mod seeds;
pub mod targets;

use cost::Cost;

/// A function of bytes, with input to begin with.
pub struct Target {
    /// As in `cargo fuzz run NAME`.
    pub name: &'static str,
    /// Input that gets far.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Takes the input as the daemons do, and panics where something does not hold that must.
    pub run: fn(&[u8]),
    /// What it may take of memory.
    pub cost: Cost,
}

/// All of them.
pub const ALL: &[Target] = &[
    targets::frames::RELAY,
    targets::frames::LABELER,
    targets::repositories::CAR,
    targets::repositories::TREE,
    targets::records::RECORD_TO_JSON,
    targets::records::JSON_TO_RECORD,
    targets::entries::EVENT,
    targets::entries::LABELS,
    targets::entries::BACKFILL,
    targets::answers::DID_DOCUMENT,
    targets::answers::LISTING_PAGE,
    targets::names::AT_URI,
    targets::names::DATETIME,
    targets::names::CID,
    targets::names::KEY,
];

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    ALL.iter().find(|target| target.name == name)
}

/// A target for libFuzzer, by its name.
#[macro_export]
macro_rules! fuzz {
    ($name:ident) => {
        ::libfuzzer_sys::fuzz_target!(|input: &[u8]| {
            if let Some(target) = $crate::target(stringify!($name)) {
                (target.run)(input);
            }
        });
    };
}
