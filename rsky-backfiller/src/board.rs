//! What the backfiller shows of itself on its page.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Instant;

use rsky_common::admin::{Board, Counter, HostTrouble, Hosts, Status};
use rsky_common::redis::Gate;

use crate::lines::{Lines, Role};
use crate::metrics::Metrics;
use crate::observed::Observed;

/// Puts everything on the page.
pub(crate) fn show(status: &Status, metrics: &Arc<Metrics>, observed: Observed, gate: Gate) {
    let samples = &status.samples;
    let counter = |key, label, counter: &Counter| {
        let counter = counter.clone();
        samples.counter(key, label, move || counter.get());
    };
    counter("repositories_fetched", "repositories done here", &metrics.processed);
    counter("records_queued", "records queued here", &metrics.records);
    counter("failed_tries", "tries that failed here", &metrics.failed);
    status.board(move || Board {
        gates: vec![gate.status()],
        hosts: Some(hosts(&observed.lines(), Instant::now())),
        ..Board::default()
    });
}

/// The hosts in trouble, those first that most repositories wait for.
fn hosts(lines: &Lines, now: Instant) -> Hosts {
    let mut hosts = Hosts::default();
    let mut worst = Vec::new();
    for (key, host) in lines.all() {
        if host.trouble(now).is_some() {
            worst.push((Reverse(host.queue.len()), key, host));
        } else {
            hosts.fine += 1;
        }
    }
    hosts.in_trouble = worst.len() as u64;
    worst.sort_unstable_by_key(|(waiting, key, _)| (*waiting, *key));
    for (_, (role, name), host) in worst.into_iter().take(Hosts::SHOWN) {
        let of = if *role == Role::Directory { " (DID documents)" } else { "" };
        hosts.worst.push(HostTrouble {
            host: rsky_common::admin::shown(&format!("{name}{of}"), 300),
            state: host.state(now).name().replace('_', " "),
            waiting: host.queue.len() as u64,
            why: host.trouble(now).unwrap_or_default(),
        });
    }
    hosts
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::job::{Job, Queue};

    #[test]
    fn those_are_first_that_most_waits_for() {
        let (mut lines, now) = (Lines::new("plc"), Instant::now());
        for number in 0..30 {
            let key = (Role::Repositories, Arc::<str>::from(format!("host{number}")));
            for job in 0..=number {
                lines.enqueue(key.clone(), Job::alone(Queue::Normal, &job.to_string()), 8);
            }
            for _ in 0..if number % 2 == 0 { 4 } else { 0 } {
                lines.host(&key).unwrap().failed(now, Duration::from_secs(30));
            }
        }
        lines
            .host(&(Role::Repositories, "host29".into()))
            .unwrap()
            .asked_for_patience(now, Some(Duration::from_secs(9)));
        let hosts = hosts(&lines, now);
        assert_eq!((hosts.fine, hosts.in_trouble, hosts.worst.len()), (14, 16, 16));
        let [first, second, ..] = hosts.worst.as_slice() else { panic!("{hosts:?}") };
        assert_eq!((first.host.as_str(), first.state.as_str(), first.waiting), ("host29", "limited", 30));
        assert_eq!(first.why, "4 at a time; asked again in 9 s");
        assert!(
            second.host == "host28"
                && second.why.starts_with("failed 4 times in a row for 0 s; asked again in"),
            "{second:?}"
        );
    }
}
