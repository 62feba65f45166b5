//! Records as clients write them, with the oddities that clients have.

use super::super::cbor_out::{Cbor, cid_of};
use super::super::load::draw::Rng;
use rsky_common::clock::iso;

const WORDS: [&str; 20] = [
    "morning",
    "café",
    "the",
    "of",
    "light",
    "река",
    "a",
    "quiet",
    "train",
    "garden",
    "and",
    "🌱",
    "blue",
    "bird",
    "“song”",
    "under",
    "small",
    "bridge",
    "北風",
    "tab\there",
];

/// A record: its type, when it was made, and other members.
pub(super) fn record<'a>(
    kind: &str,
    created: String,
    members: impl IntoIterator<Item = (&'a str, Cbor)>,
) -> Cbor {
    let own = [("$type", Cbor::text(kind)), ("createdAt", Cbor::text(created))];
    Cbor::map(own.into_iter().chain(members))
}

/// When a client says that it made a record, at this time: mostly now, in one of the forms that are allowed; sometimes
/// long ago, sometimes later.
pub(super) fn created_at(micros: u64, rng: &mut Rng) -> String {
    let millis = micros / 1000;
    match rng.below(40) {
        0 => iso(millis - 86_400_000 * (1 + rng.below(1500) as u64)),
        1 => iso(millis + 3_600_000 * (1 + rng.below(48) as u64)),
        2 => iso(millis).replace('Z', "+00:00"),
        3 => iso(millis + 9 * 3_600_000).replace('Z', "+09:00"),
        4 => iso(millis - 210 * 60_000).replace('Z', "-03:30"),
        5 => iso(millis).replace('Z', &format!("{:03}Z", rng.below(1000))),
        6 => iso(millis - millis % 1000).replace(".000", ""),
        _ => iso(millis),
    }
}

/// Some words.
pub(super) fn words(rng: &mut Rng, most: usize) -> String {
    let words: Vec<&str> = (0..=rng.below(most)).map(|_| WORDS[rng.below(WORDS.len())]).collect();
    words.join(" ")
}

/// A blob nobody has; now and then in the form of old records.
pub(super) fn blob(kind: &str, rng: &mut Rng) -> Cbor {
    let cid = cid_of(&rng.bytes::<8>());
    if rng.below(10) == 0 {
        return Cbor::map([("cid", Cbor::text(cid.to_string())), ("mimeType", Cbor::text(kind))]);
    }
    Cbor::map([
        ("$type", Cbor::text("blob")),
        ("ref", Cbor::Link(cid)),
        ("mimeType", Cbor::text(kind)),
        ("size", Cbor::Int(1000 + rng.below(900_000) as i64)),
    ])
}

/// What is attached to a post; often nothing. `quoted` is what it quotes, if it does.
pub(super) fn embed(rng: &mut Rng, quoted: Option<Cbor>) -> Option<Cbor> {
    let media = match rng.below(20) {
        0..=3 => {
            let images = (0..=rng.below(4).min(3))
                .map(|_| Cbor::map([("alt", Cbor::text(words(rng, 3))), ("image", blob("image/jpeg", rng))]));
            let images: Vec<Cbor> = images.collect();
            Some(typed("app.bsky.embed.images", [("images", Cbor::List(images))]))
        }
        4 => Some(typed("app.bsky.embed.images", [("images", Cbor::List(Vec::new()))])),
        5..=6 => {
            let mut card = vec![
                ("uri", Cbor::text(format!("https://news.test/{}", rng.below(1000)))),
                ("title", Cbor::text(words(rng, 5))),
                ("description", Cbor::text(words(rng, 8))),
            ];
            if rng.below(2) == 0 {
                card.push(("thumb", blob("image/png", rng)));
            }
            Some(typed("app.bsky.embed.external", [("external", Cbor::map(card))]))
        }
        7 => {
            let mut members = vec![("video", blob("video/mp4", rng))];
            if rng.below(2) == 0 {
                members.push(("alt", Cbor::text(words(rng, 4))));
            }
            Some(typed("app.bsky.embed.video", members))
        }
        8 => Some(typed("app.bsky.embed.somethingElse", [("what", Cbor::Int(7))])),
        _ => None,
    };
    let Some(quoted) = quoted else { return media };
    let record = Cbor::map([("record", quoted.clone())]);
    match media {
        Some(media) => Some(typed("app.bsky.embed.recordWithMedia", [("record", record), ("media", media)])),
        None => Some(typed("app.bsky.embed.record", [("record", quoted)])),
    }
}

/// A mention, a link or a tag.
pub(super) fn facet(feature: &str, member: &str, value: &str) -> Cbor {
    let kind = format!("app.bsky.richtext.facet#{feature}");
    let feature = typed(&kind, [(member, Cbor::text(value))]);
    let index = Cbor::map([("byteStart", Cbor::Int(0)), ("byteEnd", Cbor::Int(1))]);
    Cbor::map([("index", index), ("features", Cbor::List(vec![feature]))])
}

/// An object with a type.
pub(super) fn typed<'a>(kind: &str, members: impl IntoIterator<Item = (&'a str, Cbor)>) -> Cbor {
    Cbor::map([("$type", Cbor::text(kind))].into_iter().chain(members))
}
