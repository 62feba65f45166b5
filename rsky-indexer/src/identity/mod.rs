//! Handles and deleted accounts: the work that waits for the network, beside the lanes (IDENTITY, DECISIONS 17 and 18).
//!
//! | step | file |
//! |---|---|
//! | a lane hands an entry over once its rows are written, without waiting | [`handover`] |
//! | without room, or where its domain has its share of it, it is put off and read again later | [`crowd`], [`learned`], [`deferral`], [`left_behind`] |
//! | on B and U, a commit has its account looked at now and then | [`handover`], [`looked_at`] |
//! | the entries of an account are taken together, and looked at by the window rule | [`account`], [`window`] |
//! | one that is deleted waits for what other consumers have of it | [`ahead`], [`held_up`] |
//! | questions are asked, so many at a time of whom they ask | [`stage`], [`waiting`], [`hosts`] |
//! | step by step: the document, then whom it names | [`question`], [`hosted`], [`directory`] |
//! | answers become rows, an account that is gone is taken out | [`outcomes`], [`actors`], [`unindex`] |
//! | the deletion is written behind what a backfill has left of the account | [`follow`] |
//! | the shared cache learns of the documents | [`shared_cache`] |
//!
//! An entry is acknowledged here when all of this is done for it. A directory that does not answer slows down handles
//! and nothing else, and hosts that hang slow down each other's, and a domain whose hosts hang its own: lanes never wait, what is held is bounded, and no transaction is open while a question is asked.

mod account;
mod actors;
mod ahead;
mod crowd;
mod deferral;
mod directory;
mod follow;
mod handover;
mod held_up;
mod hosted;
mod hosts;
mod learned;
mod left_behind;
mod looked_at;
mod outcomes;
mod question;
mod recent;
mod shared_cache;
mod stage;
mod unindex;
mod waiting;
mod window;

pub use deferral::{Deferral, EntryId};
pub use handover::{Handover, Keeps, Room, Task, Tasks};
pub use question::Network;
pub use stage::{Limits, Parts, Stage};
