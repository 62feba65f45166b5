//! Whether the trouble that was asked for has happened, and what was set aside of it.

use std::collections::BTreeSet;

use rsky_testnet::network::world::Trouble;
use rsky_testnet::streams::entries;

use crate::pipeline::{LIVE, Rig};

/// Each kind has happened, and every frame that nothing may be taken from is among the dead letters, under its number. Of the
/// letters that the ingester wrote, each is about trouble.
pub fn check(rig: &Rig, asked: &[Trouble]) {
    let happened = rig.network.trouble();
    for kind in asked {
        let times = happened.get(kind).map_or(0, BTreeSet::len);
        println!("{}: {times} times", kind.name());
        assert!(times > 0, "{} was asked for and never happened", kind.name());
    }
    let host = rig.network.relays()[0].url();
    let letters: Vec<(String, String)> = entries(&rig.redis, &format!("{LIVE}_dlq"))
        .iter()
        .map(|letter| (letter["source_id"].clone(), format!("{}: {}", letter["reason"], letter["error"])))
        .collect();
    let at = |seq: &u64| format!("{host}@{seq}");
    for kind in asked.iter().filter(|kind| kind.is_set_aside()) {
        let lost: Vec<u64> = happened[kind]
            .iter()
            .copied()
            .filter(|seq| letters.iter().all(|(of, _)| *of != at(seq)))
            .collect();
        assert!(lost.is_empty(), "{}: no dead letter of {lost:?} in {letters:#?}", kind.name());
    }
    let all: BTreeSet<String> = happened.values().flatten().map(at).chain([format!("{host}@?")]).collect();
    let strange: Vec<_> = letters.iter().filter(|(of, _)| of.contains('@') && !all.contains(of)).collect();
    assert!(strange.is_empty(), "dead letters of what was right: {strange:#?}");
}
