//! What hosts answer wrong that are asked for a repository.

use bytes::Bytes;
use serde_json::json;

use super::super::super::directory::RepoAnswer;
use super::super::super::load::draw::{Rng, mix};
use super::super::super::wrong::{Asker, Wrong};
use super::{Party, Trouble, Troubles};

impl Troubles {
    /// What a host answers who is asked for a repository: wrong for half of the accounts, the first time, whoever asks.
    /// `number` is the account's place among all; `forged` makes the repository that is signed with another key.
    pub(in super::super) fn repository(
        &self,
        number: u64,
        car: Bytes,
        forged: impl FnOnce() -> Bytes,
    ) -> RepoAnswer {
        let trouble = self.turn(number / 2, |kind| kind.party() == Party::Hosts);
        match trouble.filter(|_| number.is_multiple_of(2)) {
            Some(trouble) if self.is_wrong(trouble, Asker::Other, number, 1) => {
                let car = if trouble == Trouble::HostSignature { forged() } else { car };
                wrong(trouble, car, &mut Rng::new(mix(self.seed ^ mix(number))))
            }
            _ => RepoAnswer::Car(car),
        }
    }
}

fn wrong(trouble: Trouble, car: Bytes, rng: &mut Rng) -> RepoAnswer {
    let error = |status, name: &str| RepoAnswer::Error {
        status,
        body: json!({"error": name, "message": "on purpose"}),
    };
    match trouble {
        Trouble::HostError => error(500, "InternalServerError"),
        Trouble::HostBusy => error(429, "RateLimitExceeded"),
        Trouble::HostPage => {
            RepoAnswer::Car(Bytes::from_static(b"<!doctype html><title>Maintenance</title>"))
        }
        Trouble::HostHalf => RepoAnswer::Car(car.slice(..rng.below(car.len()))),
        Trouble::HostBlocks => {
            let borders = borders(&car);
            RepoAnswer::Car(car.slice(..borders[rng.below(borders.len())]))
        }
        Trouble::HostSignature => RepoAnswer::Car(car),
        Trouble::HostSilence => RepoAnswer::Wrong(car, Wrong::Silence),
        Trouble::HostTrickle => RepoAnswer::Wrong(car, Wrong::Trickle),
        _ => {
            let at = rng.below(car.len());
            let mut car = car.to_vec();
            car[at] ^= 1 << rng.below(8);
            RepoAnswer::Car(car.into())
        }
    }
}

/// Where the sections of a CAR end, but for the last one.
fn borders(car: &[u8]) -> Vec<usize> {
    let (mut borders, mut at) = (Vec::new(), 0);
    while at < car.len() {
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = car[at];
            at += 1;
            length |= usize::from(byte & 127) << shift;
            shift += 7;
            if byte & 128 == 0 {
                break;
            }
        }
        at += length;
        borders.push(at);
    }
    borders.truncate(borders.len().saturating_sub(1).max(1));
    borders
}
