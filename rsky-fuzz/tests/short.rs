//! Every target, its seeds and some thousand changes of them, on any toolchain: no panic, and no more memory than the length
//! of the input allows, at a time and over all.
//!
//! More: `RSKY_FUZZ_ROUNDS=1000000 RSKY_FUZZ_SEED=7 cargo test -p rsky-fuzz --test short TARGET`. An input that breaks something
//! is kept; again: `RSKY_FUZZ_INPUT=FILE cargo test -p rsky-fuzz --test short TARGET`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use allocation_counter::measure;
use rsky_fuzz::Target;
use rsky_fuzz::change::{LONGEST, Numbers, changed};

/// Changes of each target's seeds.
const ROUNDS: u64 = 3000;

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().map_or(otherwise, |text| text.parse().expect(variable))
}

/// Where inputs are kept that broke something.
fn kept(target: &Target, input: &[u8]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    fs::create_dir_all(&folder).unwrap();
    let sum = input.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    let path = folder.join(format!("{}-{sum:016x}", target.name));
    fs::write(&path, input).unwrap();
    path
}

/// Bytes held at a time and taken over all, of each byte of input.
fn check(target: &Target, input: &[u8]) -> (u64, u64) {
    let mut outcome = Ok(());
    let info = measure(|| outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input))));
    let why = if outcome.is_err() {
        "it panics".to_owned()
    } else if info.bytes_max > target.cost.held.of(input.len()) {
        format!("{} bytes are held at a time", info.bytes_max)
    } else if info.bytes_total > target.cost.taken.of(input.len()) {
        format!("{} bytes are taken", info.bytes_total)
    } else {
        let each = |bytes: u64, base: u64| bytes.saturating_sub(base) / (input.len() as u64).max(1);
        return (each(info.bytes_max, target.cost.held.base), each(info.bytes_total, target.cost.taken.base));
    };
    panic!(
        "{}: {why}, input of {} bytes kept in {}",
        target.name,
        input.len(),
        kept(target, input).display()
    );
}

fn short(name: &str) {
    let target = rsky_fuzz::target(name).expect("a target of this name");
    if let Ok(path) = std::env::var("RSKY_FUZZ_INPUT") {
        check(target, &fs::read(path).expect("RSKY_FUZZ_INPUT"));
        return;
    }
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty(), "{name} has no seeds");
    let mut most = (0, 0);
    let mut see = |input: &[u8]| {
        let (held, taken) = check(target, input);
        most = (most.0.max(held), most.1.max(taken));
    };
    seeds.iter().for_each(|seed| see(seed));
    let short: Vec<Vec<u8>> = seeds.into_iter().filter(|seed| seed.len() <= LONGEST).collect();
    let mut numbers = Numbers::new(number("RSKY_FUZZ_SEED", 1));
    let rounds = number("RSKY_FUZZ_ROUNDS", ROUNDS);
    for _ in 0..rounds {
        see(&changed(&short, &mut numbers));
    }
    println!(
        "{name}: {} seeds, {rounds} changes, at most {} held and {} taken of each byte",
        short.len(),
        most.0,
        most.1
    );
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            short(stringify!($name));
        })*

        #[test]
        fn every_target_is_tried_here_and_by_cargo_fuzz() {
            let mut here = vec![$(stringify!($name)),*];
            let mut all: Vec<&str> = rsky_fuzz::ALL.iter().map(|target| target.name).collect();
            here.sort_unstable();
            all.sort_unstable();
            assert_eq!(here, all);
            let manifest = include_str!("../fuzz/Cargo.toml");
            for name in all {
                assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
            }
        }
    };
}

targets! {
    relay_frame label_frame car tree record_to_json json_to_record event_entry label_entry backfill_entry
    did_document listing_page at_uri datetime cid key
}
