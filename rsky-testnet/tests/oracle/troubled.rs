//! Whether the trouble that was asked for has happened, and what was set aside of it.

use std::collections::BTreeSet;

use rsky_testnet::network::world::{Party, Trouble};
use rsky_testnet::streams::entries;

use crate::pipeline::{BACKFILL, LABELS, LIVE, Rig};

/// Each kind has happened, and every frame that nothing may be taken from is among the dead letters, under its number. Of the
/// letters that the ingester wrote, each is about trouble, and none about a frame that is to be taken as it is. For want of a
/// document or a handle nothing was given up.
pub fn check(rig: &Rig, asked: &[Trouble]) {
    let happened = rig.network.trouble();
    for kind in asked {
        let times = happened.get(kind).map_or(0, BTreeSet::len);
        println!("{}: {times} times", kind.name());
        assert!(times > 0, "{} was asked for and never happened", kind.name());
    }
    let host = rig.network.relays()[0].url();
    for (stream, is_of_labels) in [(LIVE, false), (LABELS, true)] {
        let letters: Vec<(String, String)> = letters(rig, stream);
        let at = |seq: &u64| format!("{host}@{seq}");
        let of_stream = |kind: &&Trouble| match kind.party() {
            Party::Labeler => is_of_labels,
            Party::Relay | Party::Resync | Party::Events => !is_of_labels,
            _ => false,
        };
        for kind in asked.iter().filter(of_stream).filter(|kind| kind.is_set_aside()) {
            let lost: Vec<u64> = happened[kind]
                .iter()
                .copied()
                .filter(|seq| letters.iter().all(|(of, _)| *of != at(seq)))
                .collect();
            assert!(lost.is_empty(), "{}: no dead letter of {lost:?} in {letters:#?}", kind.name());
        }
        let all: BTreeSet<String> = happened
            .iter()
            .filter(|(kind, _)| of_stream(kind) && !kind.is_taken())
            .flat_map(|(_, numbers)| numbers.iter().map(at))
            .chain([format!("{host}@?")])
            .collect();
        let strange: Vec<_> =
            letters.iter().filter(|(of, _)| of.contains('@') && !all.contains(of)).collect();
        assert!(strange.is_empty(), "dead letters of what was right: {strange:#?}");
    }
    for stream in [LIVE, BACKFILL] {
        let letters = letters(rig, stream);
        let of_accounts: Vec<_> = letters.iter().filter(|(_, why)| why.starts_with("did_")).collect();
        assert!(of_accounts.is_empty(), "accounts were given up: {of_accounts:#?}");
    }
}

/// Where each dead letter of a stream is from, and why it is one.
fn letters(rig: &Rig, stream: &str) -> Vec<(String, String)> {
    let letters = entries(&rig.redis, &format!("{stream}_dlq"));
    let told = letters
        .iter()
        .map(|letter| (letter["source_id"].clone(), format!("{}: {}", letter["reason"], letter["error"])));
    told.collect()
}
