//! Posts and everything that hangs on them (INDEXING §4.1 to §4.6).
//!
//! | step | file |
//! |---|---|
//! | how posts, gates and follows refer to each other | [`refs`] |
//! | those above a reply, who may be told of it | [`above`] |
//! | before a wave writes: the flags of its posts, and of those that came too early | [`judge`] ([`view`], [`evaluate`], [`earlier`]) |
//! | the rows beside `post`: embeds, quotes | [`parts`] |
//! | an author's own thread, in the schemas that keep it | [`op_thread`] |
//! | `hasThreadGate`, `hasPostGate` | [`gates`] |
//! | after the commit: what other processes wrote meanwhile | [`second_look`] |

pub(crate) mod above;
pub(super) mod gates;
pub(super) mod judge;
pub(super) mod op_thread;
pub(super) mod parts;
pub(crate) mod refs;
pub(super) mod second_look;

pub(super) mod earlier;
mod evaluate;
mod view;

pub(super) use judge::gated_post;

pub(crate) use second_look::UNDESERVED;
