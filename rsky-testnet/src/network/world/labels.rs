//! The labeler: signed labels, some taken back, some that end.

use bytes::Bytes;

use super::super::cbor_out::Cbor;
use super::super::frames;
use super::super::load::draw::{Rng, mix};
use super::keys::SigningKey;
use super::options::Time;
use super::simulation::World;
use rsky_common::clock::iso;

const VALUES: [&str; 6] = ["porn", "spam", "!hide", "!warn", "rude", "graphic-media"];
/// The labeler; it has no account in the world.
const LABELER: &str = "did:plc:labelerlabelerlabelerlab";

/// A label as it is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// Who says it.
    pub src: &'static str,
    /// Of whom or what.
    pub uri: String,
    /// The version of the record.
    pub cid: Option<String>,
    /// What it says.
    pub val: &'static str,
    /// Whether it takes an earlier one back.
    pub neg: bool,
    /// When it was made.
    pub cts: String,
    /// When it ends.
    pub exp: Option<String>,
}

/// The frames of the labeler, made at the end of a world's history.
pub fn labels(world: &World) -> Vec<Vec<Label>> {
    let mut rng = Rng::new(mix(world.options().seed ^ 0x6c61_6265));
    let mut said: Vec<Label> = Vec::new();
    let mut frames = Vec::new();
    let now = world.micros / 1000;
    // They come a minute apart after the history; where that would be the future, before its end.
    let begin = match world.options().time {
        Time::OfTheWorld => now,
        Time::OfTheClock => now.saturating_sub((world.options().labels + 1) * 60_000),
    };
    for number in 0..world.options().labels {
        let mut frame = Vec::new();
        for _ in 0..=rng.below(3) {
            let cts = iso(begin + number * 60_000 + rng.below(60_000) as u64);
            let label = match said.get(rng.below(said.len())) {
                // The same once more: taken back, said anew, or one that arrives late.
                Some(again) if rng.below(3) == 0 => {
                    let late = rng.below(4) == 0;
                    let cts = if late { iso(begin.saturating_sub(1000)) } else { cts };
                    Label { neg: rng.below(3) > 0, cts, exp: None, ..again.clone() }
                }
                _ => fresh(world, cts, &mut rng),
            };
            said.push(label.clone());
            frame.push(label);
        }
        frames.push(frame);
    }
    frames
}

fn fresh(world: &World, cts: String, rng: &mut Rng) -> Label {
    let did = || world.accounts[0].did.clone();
    let post = world.pool.post(rng).and_then(|post| world.pool.posts.get(post));
    let (uri, cid) = match post {
        Some(post) if rng.below(3) > 0 => {
            let cid = (rng.below(2) == 0).then(|| post.reference.cid.to_string());
            (post.reference.uri.clone(), cid)
        }
        _ => (world.accounts.get(world.pool.popular(rng)).map_or_else(did, |one| one.did.clone()), None),
    };
    let exp = (rng.below(6) == 0).then(|| iso(world.micros / 1000 + 86_400_000 * 30));
    Label { src: LABELER, uri, cid, val: VALUES[rng.below(VALUES.len())], neg: false, cts, exp }
}

/// A frame of subscribeLabels, each label signed: with the labeler's key, or with another one.
pub(super) fn frame(seq: u64, labels: &[Label], seed: u64, is_wrong: bool) -> Bytes {
    let seed = if is_wrong { mix(seed) } else { seed };
    let key = SigningKey::from_bytes(Rng::new(seed).bytes());
    let signed = labels.iter().map(|label| {
        let mut members = vec![
            ("ver", Cbor::Int(1)),
            ("src", Cbor::text(label.src)),
            ("uri", Cbor::text(label.uri.as_str())),
            ("val", Cbor::text(label.val)),
            ("cts", Cbor::text(label.cts.as_str())),
        ];
        members.extend(label.cid.as_deref().map(|cid| ("cid", Cbor::text(cid))));
        members.extend(label.exp.as_deref().map(|exp| ("exp", Cbor::text(exp))));
        if label.neg {
            members.push(("neg", Cbor::Bool(true)));
        }
        let signature = key.sign(&Cbor::map(members.clone()).encode());
        members.push(("sig", Cbor::Bytes(signature.to_vec())));
        Cbor::map(members)
    });
    frames::labels(seq, signed.collect())
}
