//! What relays do wrong between two events.

use bytes::Bytes;

use super::super::super::car::car;
use super::super::super::cbor_out::{Cbor, cid_of};
use super::super::super::frames::{self, Op};
use super::super::super::load::draw::mix;
use super::super::super::script::Sent;
use super::stream::is_of_cursors;
use super::{Party, Trouble, Troubles};

/// Places of a troubled stream for each event.
pub(in super::super) const PLACES: u64 = 3;
/// Of so many places without an event one has trouble.
const ONE_OF: u64 = 25;
/// Bytes of a frame that is too large: more than a reader with `INGESTER_MAX_FRAME_BYTES=600KiB` takes.
const OVERSIZE: usize = 700_000;
/// Members of a hostile map: more than a block may have.
const MEMBERS: usize = 70_000;
const POST: &str = "app.bsky.feed.post";
const TEXT: &str = "never to be seen";

/// What the trouble after an event is made of.
pub(in super::super) struct Material {
    /// An account of the world.
    pub(in super::super) did: String,
    /// When it happens.
    pub(in super::super) time: String,
    /// The account's revision.
    pub(in super::super) rev: String,
}

impl Troubles {
    /// Whether numbers are left out between events.
    pub(in super::super) fn is_of_relays(&self) -> bool {
        self.kinds.iter().any(|kind| is_of_relays(*kind))
    }

    /// The trouble at a place between two events, if any; these are numbered by themselves. The kinds take turns.
    pub(in super::super) fn at(&self, between: u64) -> Option<Trouble> {
        let (turn, place) = (between / ONE_OF, between % ONE_OF);
        let here = place == mix(self.seed ^ mix(turn)) % ONE_OF;
        self.turn(turn, is_of_relays).filter(|_| here)
    }

    /// Makes the trouble of a place, under a number, after this frame of that number.
    pub(in super::super) fn make(
        &self,
        trouble: Trouble,
        place: u64,
        seq: u64,
        of: &Material,
        before: &(u64, Bytes),
    ) -> Sent {
        let before = Some(before);
        let sent = self.of_any_stream(trouble, place, seq, before);
        let sent = sent.or_else(|| commit(trouble, seq, of).map(Sent::Frame)).unwrap_or(Sent::Nothing);
        self.send(trouble, place, seq, before, sent)
    }
}

fn is_of_relays(kind: Trouble) -> bool {
    matches!(kind.party(), Party::Relay | Party::Resync) && !is_of_cursors(kind)
}

/// A frame of an account of which nothing may be taken.
fn commit(trouble: Trouble, seq: u64, of: &Material) -> Option<Bytes> {
    let Material { did, time, rev } = of;
    let path = format!("{POST}/trouble{seq}");
    let post = |more: Vec<(String, Cbor)>| {
        let mut members = vec![
            ("$type".to_owned(), Cbor::text(POST)),
            ("text".to_owned(), Cbor::text(TEXT)),
            ("createdAt".to_owned(), Cbor::text(time.as_str())),
        ];
        members.extend(more);
        Cbor::Map(members)
    };
    let commit = |record: Cbor| frames::commit(seq, did, rev, time, &[Op::create(path.as_str(), record)]);
    let with_blocks = |ops: Vec<Cbor>, blocks: Vec<u8>| {
        let seq = Cbor::Int(seq as i64);
        frames::commit_car(seq, did, rev, time, cid_of(b"commit"), ops, blocks)
    };
    let create = |path: String, cid| {
        Cbor::map([("action", Cbor::text("create")), ("path", Cbor::text(path)), ("cid", Cbor::Link(cid))])
    };
    Some(match trouble {
        Trouble::WrongHash => {
            let mut frame = commit(post(Vec::new())).to_vec();
            let at = frame.windows(TEXT.len()).position(|part| part == TEXT.as_bytes());
            frame[at.expect("the text is in the frame")] ^= 1;
            frame.into()
        }
        Trouble::MissingBlock => {
            let cid = cid_of(&post(Vec::new()).encode());
            with_blocks(vec![create(path, cid)], car::<Vec<u8>>(&[cid], []))
        }
        Trouble::ManyMembers => {
            let members = (0..MEMBERS).map(|number| (format!("m{number}"), Cbor::Null));
            commit(post(members.collect()))
        }
        Trouble::EqualMembers => {
            let twice = [TEXT, "something else"].map(|text| ("langs".to_owned(), Cbor::text(text)));
            commit(post(twice.to_vec()))
        }
        Trouble::ManyOperations => {
            let block = vec![0x80];
            let cid = cid_of(&block);
            let ops = (0..200).map(|number| create(format!("{path}x{number}"), cid));
            with_blocks(ops.collect(), car(&[cid], [(cid, block)]))
        }
        Trouble::BadPath => {
            let record = post(Vec::new());
            frames::commit(seq, did, rev, time, &[Op::create("no path", record)])
        }
        Trouble::Oversize => commit(Cbor::map([("text", Cbor::text("x".repeat(OVERSIZE)))])),
        Trouble::Sync => frames::sync(seq, did, rev, time),
        Trouble::TooBig => frames::typed(
            "#commit",
            Cbor::map([
                ("ops", Cbor::List(Vec::new())),
                ("rev", Cbor::text(rev.as_str())),
                ("seq", Cbor::Int(seq as i64)),
                ("repo", Cbor::text(did.as_str())),
                ("time", Cbor::text(time.as_str())),
                ("blobs", Cbor::List(Vec::new())),
                ("since", Cbor::Null),
                ("blocks", Cbor::Bytes(Vec::new())),
                ("commit", Cbor::Link(cid_of(b"commit"))),
                ("rebase", Cbor::Bool(false)),
                ("tooBig", Cbor::Bool(true)),
            ]),
        ),
        _ => return None,
    })
}
