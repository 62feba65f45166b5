//! Worlds are what their options say, and their cryptography holds.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use cid::Cid;
use rsky_common::clock::{iso, now_iso, now_ms};
use rsky_common::repo::VerifyingKey;
use rsky_testnet::network::cbor_in::decode;
use rsky_testnet::network::cbor_out::{Cbor, cid_of};
use rsky_testnet::network::world::{Action, Event, Mix, Time, Trouble, What, World, WorldOptions};

fn small(mix: Mix) -> WorldOptions {
    WorldOptions { accounts: 30, history: 600, live: 600, overlap: 50, mix, ..WorldOptions::default() }
}

#[test]
fn a_world_is_a_function_of_its_options() {
    let events = |seed| {
        let mut world = World::new(WorldOptions { seed, ..small(Mix::Dense) });
        std::iter::from_fn(move || world.step()).collect::<Vec<_>>()
    };
    let first = events(3);
    assert_eq!(first.len(), 1200);
    assert!(first == events(3));
    assert!(first != events(4));
    let identities = first.iter().filter(|event| matches!(event.what, What::Identity { .. })).count();
    assert!(identities > 3, "{identities}");
}

#[test]
fn a_world_of_the_clock_happens_now() {
    let began = now_iso();
    let mut world = World::new(WorldOptions { time: Time::OfTheClock, ..small(Mix::Natural) });
    let events: Vec<Event> = std::iter::from_fn(|| world.step()).collect();
    assert_eq!(events.len(), 1200);
    // A world that happens faster than a thousand events a second is ahead of the clock.
    let latest = iso(now_ms() + 600 * 3);
    assert!(events.iter().skip(600).all(|event| began < event.time && event.time < latest));
    assert!(events.is_sorted_by(|earlier, later| earlier.time < later.time));
}

/// How often each collection is created, of all events.
fn shares(world: &mut World) -> BTreeMap<String, f64> {
    let mut shares = BTreeMap::new();
    let all = world.length() as f64;
    while let Some(event) = world.step() {
        let What::Commit(commit) = event.what else { continue };
        for operation in commit.operations {
            let name = match operation.action {
                Action::Create => operation.path.split('/').next().unwrap().to_owned(),
                action => format!("{action:?}"),
            };
            *shares.entry(name).or_default() += 100.0 / all;
        }
    }
    shares
}

#[test]
fn a_natural_world_has_the_proportions_of_the_network() {
    let options = WorldOptions { accounts: 60, history: 10_000, live: 2_000, ..WorldOptions::default() };
    let shares = shares(&mut World::new(options));
    for (what, least, most) in [
        ("app.bsky.feed.like", 66.0, 72.0),
        ("app.bsky.feed.post", 9.0, 13.0),
        ("app.bsky.feed.repost", 8.0, 12.0),
        ("app.bsky.graph.follow", 3.0, 5.0),
        ("Delete", 1.5, 3.5),
        ("Update", 0.2, 1.2),
    ] {
        let share = shares[what];
        assert!((least..most).contains(&share), "{what}: {share:.2} % of {shares:?}");
    }
}

#[test]
fn a_dense_world_has_everything() {
    let shares = shares(&mut World::new(WorldOptions { live: 3_000, ..small(Mix::Dense) }));
    for what in [
        "app.bsky.actor.profile",
        "app.bsky.feed.threadgate",
        "app.bsky.feed.postgate",
        "app.bsky.feed.generator",
        "app.bsky.graph.block",
        "app.bsky.graph.list",
        "app.bsky.graph.listitem",
        "app.bsky.graph.listblock",
        "app.bsky.graph.starterpack",
        "app.bsky.graph.verification",
    ] {
        assert!(shares.contains_key(what), "no {what} in {shares:?}");
    }
}

/// What a reader of the stream can check: hashes, signatures, that each commit follows the one before.
#[test]
fn commits_hold_together() {
    let mut world = World::new(small(Mix::Dense));
    let mut heads: BTreeMap<String, (String, Cid)> = BTreeMap::new();
    let (mut checked, mut is_live) = (0, false);
    while let Some(event) = world.step() {
        let What::Commit(commit) = &event.what else { continue };
        if event.number < world.first_streamed() {
            continue;
        }
        // Between history and stream, accounts with a new key have signed a commit that only their repository shows.
        if event.number > world.options().history && !std::mem::replace(&mut is_live, true) {
            heads.clear();
        }
        let blocks = blocks(&commit.blocks);
        for (cid, block) in &blocks {
            assert_eq!(*cid, cid_of(block));
        }
        let signed = decode(&blocks[&commit.cid]);
        let Cbor::Map(mut members) = signed else { panic!("a commit is a map") };
        let sig = members.iter().position(|(name, _)| name == "sig").unwrap();
        let (_, Cbor::Bytes(sig)) = members.remove(sig) else { panic!("a signature is bytes") };
        let document = world.document(&event.did, |host| format!("http://host{host}")).unwrap();
        let key = document["verificationMethod"][0]["publicKeyMultibase"].as_str().unwrap();
        let key = VerifyingKey::from_multikey(key).unwrap();
        assert_eq!(key.verify(&Cbor::Map(members.clone()).encode(), &sig), Ok(()));
        let data = members.iter().find(|(name, _)| name == "data").unwrap();
        let (_, Cbor::Link(data)) = data else { panic!("the tree is a link") };
        assert!(blocks.contains_key(data) || commit.operations.is_empty());
        for operation in &commit.operations {
            if let Some((record, cid)) = &operation.record {
                assert_eq!(blocks.get(cid), Some(&record.encode()));
            }
        }
        if let Some((rev, before)) = heads.insert(event.did.clone(), (commit.rev.clone(), *data)) {
            assert_eq!((commit.since.as_ref(), commit.prev_data), (Some(&rev), Some(before)));
            assert!(commit.rev > rev);
            checked += 1;
        }
    }
    assert!(checked > 300, "{checked}");
}

/// What is wrong with a commit on purpose is that alone, and the repository is as without.
#[test]
fn what_is_wrong_with_a_commit_is_not_in_the_repository() {
    let kinds = [Trouble::WrongSignature, Trouble::FutureRev, Trouble::PastRev];
    let mut right = World::new(small(Mix::Dense));
    let mut wrong = World::new(WorldOptions { trouble: kinds.to_vec(), ..small(Mix::Dense) });
    let mut seen: BTreeMap<Trouble, usize> = BTreeMap::new();
    while let (Some(right), Some(event)) = (right.step(), wrong.step()) {
        let Some(kind) = event.wrong else {
            assert_eq!(right, event);
            continue;
        };
        *seen.entry(kind).or_default() += 1;
        let (What::Commit(right), What::Commit(commit)) = (&right.what, &event.what) else {
            panic!("{kind:?} of no commit")
        };
        assert_eq!((&commit.operations, &commit.since), (&right.operations, &right.since));
        let document = wrong.document(&event.did, |_| String::new()).unwrap();
        let key = document["verificationMethod"][0]["publicKeyMultibase"].as_str().unwrap();
        let key = VerifyingKey::from_multikey(key).unwrap();
        let Cbor::Map(mut members) = decode(&blocks(&commit.blocks)[&commit.cid]) else {
            panic!("a commit is a map")
        };
        let sig = members.iter().position(|(name, _)| name == "sig").unwrap();
        let (_, Cbor::Bytes(sig)) = members.remove(sig) else { panic!("a signature is bytes") };
        let is_signed = key.verify(&Cbor::Map(members).encode(), &sig).is_ok();
        assert_eq!(is_signed, kind != Trouble::WrongSignature);
        assert_eq!(
            commit.rev.cmp(&right.rev),
            match kind {
                Trouble::FutureRev => Ordering::Greater,
                Trouble::PastRev => Ordering::Less,
                _ => Ordering::Equal,
            }
        );
    }
    assert!(kinds.iter().all(|kind| seen[kind] >= 3), "{seen:?}");
    for did in right.dids() {
        assert_eq!(right.export(did), wrong.export(did));
    }
}

/// The blocks of a CAR.
fn blocks(car: &[u8]) -> BTreeMap<Cid, Vec<u8>> {
    let mut rest = car;
    let mut section = || {
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let (first, tail) = rest.split_first()?;
            rest = tail;
            length |= usize::from(first & 127) << shift;
            shift += 7;
            if first & 128 == 0 {
                break;
            }
        }
        let (section, tail) = rest.split_at(length);
        rest = tail;
        Some(section.to_vec())
    };
    section().unwrap();
    let mut blocks = BTreeMap::new();
    while let Some(section) = section() {
        let (cid, block) = section.split_at(36);
        blocks.insert(Cid::try_from(cid).unwrap(), block.to_vec());
    }
    blocks
}
