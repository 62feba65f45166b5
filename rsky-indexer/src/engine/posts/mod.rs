//! Posts and everything that hangs on them (INDEXING §4.1 to §4.6).
//!
//! | step | file |
//! |---|---|
//! | how posts, gates and follows refer to each other | [`refs`] |
//! | before a wave writes: the flags of its posts | [`judge`] ([`view`], [`evaluate`]) |
//! | the rows beside `post`: embeds, quotes | [`parts`] |
//! | an author's own thread, in the schemas that keep it | [`op_thread`] |
//! | `hasThreadGate`, `hasPostGate` | [`gates`] |
//! | replies that came before their parent | [`repair`] |

pub(super) mod gates;
pub(super) mod judge;
pub(super) mod op_thread;
pub(super) mod parts;
pub(super) mod refs;
pub(super) mod repair;

mod evaluate;
mod view;
