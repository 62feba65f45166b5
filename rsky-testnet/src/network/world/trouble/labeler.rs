//! What the labeler does wrong: between its frames, and with its signatures.

use bytes::Bytes;

use super::super::super::cbor_out::Cbor;
use super::super::super::frames;
use super::super::super::load::draw::mix;
use super::super::super::script::Sent;
use super::stream::is_of_cursors;
use super::{Party, Trouble, Troubles};

/// Places of a troubled stream for each frame of labels: there are few of them.
pub(in super::super) const PLACES: u64 = 4;
/// Of so many places without labels one has trouble.
const ONE_OF: u64 = 6;
/// Of so many frames of labels one has wrong signatures.
const WRONG: u64 = 9;

impl Troubles {
    /// Whether numbers are left out between frames of labels.
    pub(in super::super) fn is_of_labels(&self) -> bool {
        self.kinds.iter().any(|kind| is_between(*kind))
    }

    /// The trouble at a place between two frames of labels, if any. The kinds take turns.
    pub(in super::super) fn at_label(&self, between: u64) -> Option<Trouble> {
        let (turn, place) = (between / ONE_OF, between % ONE_OF);
        let here = place == mix(self.seed ^ mix(!turn)) % ONE_OF;
        self.turn(turn, is_between).filter(|_| here)
    }

    /// Makes the trouble of a number.
    pub(in super::super) fn make_label(
        &self,
        trouble: Trouble,
        seq: u64,
        before: Option<&(u64, Bytes)>,
    ) -> Sent {
        let sent = self.of_any_stream(trouble, seq, seq, before).unwrap_or_else(|| {
            let none = vec![Cbor::text("no label"), Cbor::Int(7), Cbor::Null];
            Sent::Frame(frames::labels(seq, none))
        });
        self.send(trouble, seq, seq, before, sent)
    }

    /// Whether the labels of this frame, numbered from 0 on, are signed with another key.
    pub(in super::super) fn is_signed_wrong(&self, number: u64) -> bool {
        self.has(Trouble::LabelSignature) && number % WRONG == self.seed % WRONG
    }
}

fn is_between(kind: Trouble) -> bool {
    kind.party() == Party::Labeler && kind != Trouble::LabelSignature && !is_of_cursors(kind)
}
