//! What goes wrong on any stream, whatever its frames are about.

use std::time::Duration;

use bytes::Bytes;

use super::super::super::control::lock;
use super::super::super::frames;
use super::super::super::load::draw::{Rng, mix};
use super::super::super::script::{Greeting, Sent};
use super::{Party, Trouble, Troubles};

impl Troubles {
    /// What the trouble of a place is, under a number, after this frame of this number; `None`: it is of one stream alone.
    pub(super) fn of_any_stream(
        &self,
        trouble: Trouble,
        place: u64,
        seq: u64,
        before: Option<&(u64, Bytes)>,
    ) -> Option<Sent> {
        let mut rng = Rng::new(mix(self.seed.wrapping_add(place)));
        let before = before.map(|(_, frame)| frame);
        let of_before = |make: &mut dyn FnMut(&Bytes) -> Sent| before.map_or(Sent::Nothing, make);
        Some(match trouble {
            Trouble::Cut | Trouble::LabelCut => {
                of_before(&mut |before| Sent::Cut(before.clone(), 1 + rng.below(before.len())))
            }
            Trouble::Reset | Trouble::LabelReset => Sent::Reset,
            Trouble::Error | Trouble::LabelError => Sent::Last(frames::error("ConsumerTooSlow"), 1008),
            Trouble::Silence | Trouble::LabelSilence => Sent::Silence(Duration::from_millis(200)),
            Trouble::Repeat | Trouble::LabelRepeat => of_before(&mut |before| Sent::Frame(before.clone())),
            Trouble::Half | Trouble::LabelHalf => {
                of_before(&mut |before| Sent::Frame(before.slice(..rng.below(before.len()))))
            }
            Trouble::Garbage | Trouble::LabelGarbage => {
                let bytes: [u8; 64] = rng.bytes();
                Sent::Frame(Bytes::copy_from_slice(&bytes[..1 + rng.below(bytes.len())]))
            }
            Trouble::Text | Trouble::LabelText => Sent::Text("nothing is said here in words".to_owned()),
            Trouble::Unknown | Trouble::LabelUnknown => Sent::Frame(frames::unknown(seq, "#trouble")),
            _ => return None,
        })
    }

    /// Sends what was made at a place, and notes it: the end of a connection once.
    pub(super) fn send(
        &self,
        trouble: Trouble,
        place: u64,
        seq: u64,
        before: Option<&(u64, Bytes)>,
        sent: Sent,
    ) -> Sent {
        let is_end = matches!(sent, Sent::Cut(..) | Sent::Reset | Sent::Last(..) | Sent::Silence(_));
        if sent == Sent::Nothing || is_end && !lock(&self.happened).once.insert((trouble.party(), place)) {
            return Sent::Nothing;
        }
        let number = match (before, trouble) {
            // What can be read of it has the number of the whole.
            (Some((before, _)), Trouble::Half | Trouble::LabelHalf) => *before,
            _ => seq,
        };
        self.note(trouble, number);
        sent
    }

    /// What is said to who comes to a stream, with a cursor or without. Whoever was told often enough that a relay does not
    /// know its cursor comes without, to have a look at what is sent now.
    pub(in super::super) fn greeting(&self, party: Party, has_cursor: bool) -> Option<Greeting> {
        let kinds: &[(Trouble, Greeting)] = match (party, has_cursor) {
            (Party::Labeler, true) => &[LABEL_FUTURE, LABEL_OUTDATED],
            (_, true) => &[FUTURE, FUTURE, FUTURE, OUTDATED],
            (Party::Labeler, false) => &[],
            (_, false) => &[(Trouble::FutureCursor, Greeting::Live)],
        };
        let mut happened = lock(&self.happened);
        let told = happened.numbers.contains_key(&Trouble::FutureCursor);
        let place = |number: usize| if has_cursor { number as u64 } else { LIVE };
        let mut fresh =
            |number| (has_cursor || told) && happened.once.insert((party, u64::MAX - place(number)));
        let next = kinds.iter().enumerate().find(|(number, (kind, _))| self.has(*kind) && fresh(*number));
        let (number, (kind, greeting)) = next?;
        drop(happened);
        self.note(*kind, place(number));
        Some(*greeting)
    }
}

/// The number of the look at what is sent now, beside those of what is said to who has a cursor.
const LIVE: u64 = 10;
const FUTURE: (Trouble, Greeting) = (Trouble::FutureCursor, Greeting::Future);
const OUTDATED: (Trouble, Greeting) = (Trouble::OutdatedCursor, Greeting::Outdated);
const LABEL_FUTURE: (Trouble, Greeting) = (Trouble::LabelFuture, Greeting::Future);
const LABEL_OUTDATED: (Trouble, Greeting) = (Trouble::LabelOutdated, Greeting::Outdated);

/// Whether it is said to who comes, and is not between two frames.
pub(super) fn is_of_cursors(kind: Trouble) -> bool {
    [FUTURE, OUTDATED, LABEL_FUTURE, LABEL_OUTDATED].iter().any(|(said, _)| *said == kind)
}
