//! `cargo xtask chaos`: the simulated world through the whole pipeline, with kills, for as long as one likes.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use rsky_testnet::servers::{Postgres, install};

use crate::smaller::smallest;
use crate::steps::{cargo, run};

/// The tests that are repeated, and the variables that tell them how.
const IN_ORDER: &str = "every_row_is_right";
/// Only where deleted records leave a trace: what a backfill has read before is as nothing then.
const AT_ONCE: &str = "several_of_each";
const SEED: &str = "RSKY_WORLD_SEED";
const GENERATION: &str = "RSKY_WORLD_GENERATION";
const SERVERS: &str = "RSKY_WORLD_SERVERS";
const TROUBLE: &str = "RSKY_WORLD_TROUBLE";
const HOURS: &str = "RSKY_WORLD_HOURS";
const EVENTS: &str = "RSKY_WORLD_EVENTS";

/// Events of history and stream where nothing is said of hours, as the tests have them.
const USUAL: [u64; 2] = [1500, 2500];
/// Events of a stream in an hour; its history is a third of it.
const OF_HOUR: u64 = 1800;

const GENERATIONS: [&str; 3] = ["d", "b", "u"];
const FATES: [&str; 3] = ["stay", "killed", "set-back"];

#[derive(Args)]
pub(crate) struct Options {
    /// Begin no further run after so many minutes
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// The first seed; each run takes the next one
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The generation of the schema; `turns`: another one in each run
    #[arg(long, default_value = "d", value_parser = ["d", "b", "u", "turns"])]
    generation: String,
    /// Redis and Postgres stay, are killed and come back with what they had acknowledged, or Redis comes back with an older
    /// state; `turns`: another one in each run
    #[arg(long, default_value = "killed", value_parser = ["stay", "killed", "set-back", "turns"])]
    servers: String,
    /// What goes wrong on purpose: `all`, `none`, or names separated by commas (see `rsky-testnet simulate --help`)
    #[arg(long, default_value = "all")]
    trouble: String,
    /// Worlds whose stream is so many hours long in their own time, with kills in each of them, instead of small ones. 24 are
    /// 43 200 events of 300 accounts after 14 400 of history
    #[arg(long)]
    hours: Option<u64>,
    /// After a failure, so many more runs at most that look for a smaller world in which it fails as well
    #[arg(long, default_value_t = 6)]
    shrink: u32,
}

impl Options {
    /// Events of history and stream.
    fn events(&self) -> [u64; 2] {
        self.hours.map_or(USUAL, |hours| [hours.saturating_mul(OF_HOUR) / 3, hours.saturating_mul(OF_HOUR)])
    }

    /// The variables of the run with this number, from 0 on.
    fn variables(&self, run: u64) -> [(&'static str, String); 5] {
        let turn = |said: &str, all: [&str; 3], number: u64| match said {
            "turns" => all.into_iter().cycle().nth((number % 3) as usize).unwrap_or_default().to_owned(),
            said => said.to_owned(),
        };
        // Where both take turns, all nine pairs come.
        let slower = if self.generation == "turns" { run / 3 } else { run };
        [
            (SEED, self.seed.wrapping_add(run).to_string()),
            (GENERATION, turn(&self.generation, GENERATIONS, run)),
            (SERVERS, turn(&self.servers, FATES, slower)),
            (TROUBLE, self.trouble.clone()),
            (HOURS, self.hours.map(|hours| hours.to_string()).unwrap_or_default()),
        ]
    }
}

/// Runs seed after seed, also after one has failed, and says which did.
///
/// # Errors
/// A run failed, the tests could not be built, or we were interrupted.
pub(crate) fn chaos(options: &Options) -> Result<()> {
    install::all()?;
    if !run(cargo(&["build", "--workspace", "--bins"]))?.success() {
        bail!("the daemons could not be built");
    }
    let mut postgres = Postgres::start()?;
    let until = Instant::now() + Duration::from_secs(options.minutes.saturating_mul(60));
    let (mut runs, mut failed) = (0, Vec::new());
    while runs == 0 || Instant::now() < until {
        let variables = options.variables(runs);
        let mut said = variables.each_ref().map(|(name, value)| format!("{name}={value}")).join(" ");
        println!("\n=== {said}");
        let at_once = variables.contains(&(GENERATION, "d".to_owned())) && options.hours.is_none();
        let fails = |events: Option<[u64; 2]>| {
            let mut test =
                cargo(&["test", "--workspace", "--test", "oracle", "--", "--test-threads=1", IN_ORDER]);
            test.args(at_once.then_some(AT_ONCE));
            test.envs(variables.clone()).env("RSKY_TEST_POSTGRES", postgres.url());
            if let Some([history, stream]) = events {
                println!("\n=== smaller: {EVENTS}={history},{stream}");
                test.env(EVENTS, format!("{history},{stream}"));
            }
            Ok::<_, anyhow::Error>(!run(test)?.success())
        };
        if fails(None)? {
            let [history, stream] = smallest(options.events(), options.shrink, |events| fails(Some(events)))?;
            if [history, stream] != options.events() {
                said.push_str(&format!(" {EVENTS}={history},{stream}"));
            }
            failed.push(said);
        }
        runs += 1;
    }
    postgres.stop_fast()?;
    println!("\n{} of {runs} runs failed", failed.len());
    for said in &failed {
        println!("repeat with: {said} cargo test --workspace --test oracle -- {IN_ORDER} {AT_ONCE}");
    }
    if failed.is_empty() { Ok(()) } else { bail!("{} of {runs} runs failed", failed.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_meet_every_pair() {
        let [turns, none] = ["turns", "none"].map(str::to_owned);
        let options = Options {
            minutes: 0,
            seed: 7,
            generation: turns.clone(),
            servers: turns,
            trouble: none,
            hours: None,
            shrink: 0,
        };
        let runs: Vec<_> = (0..9).map(|run| options.variables(run)).collect();
        let pairs: std::collections::BTreeSet<_> =
            runs.iter().map(|[_, generation, servers, ..]| (&generation.1, &servers.1)).collect();
        assert_eq!(pairs.len(), 9);
        assert_eq!((runs[0][0].1.as_str(), runs[8][0].1.as_str()), ("7", "15"));
        let fixed = Options { generation: "u".to_owned(), servers: "stay".to_owned(), ..options };
        assert_eq!(fixed.variables(5)[1..3], [(GENERATION, "u".to_owned()), (SERVERS, "stay".to_owned())]);
    }
}
