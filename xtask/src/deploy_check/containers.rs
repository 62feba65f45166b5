//! The stack of `docker-compose.yml`, up and down again, and its parts looked at by themselves.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rsky_testnet::servers::install::find_in_path;

use super::engine;
use super::stack::{DAEMONS, Made, Stack, WITHOUT_GRAFANA, folder};
use super::{Outcome, ours, root, run, wait, watching, words};

/// A follow as the ingester writes it.
const EVENT: &str = include_str!("event.json");
/// Fills Redis beyond its limit.
const FILL: &str = "for i = 1, 90000 do redis.call('RPUSH', 'full', string.rep('x', 1000)) end";

/// Whether the oldest Compose takes the file with the settings as they are copied.
pub(super) fn compose_file() -> Result<Outcome> {
    if let Err(why) = engine::programs()? {
        return Ok(Outcome::Skipped(why));
    }
    let folder = folder(".env.example", &[("POSTGRES_PASSWORD", "check")])?;
    let shown = engine::compose_config(&folder).context("docker-compose config")?;
    for daemon in DAEMONS {
        ensure!(shown.contains(&format!("container_name: rust-{daemon}")), "no rust-{daemon} in {shown}");
    }
    Ok(Outcome::Ran(
        "docker-compose 1.29 takes docker-compose.yml with .env made from .env.example".to_owned(),
    ))
}

/// Prometheus' own look at its files.
pub(super) fn promtool() -> Result<Outcome> {
    let folder = ours("deploy/prometheus");
    let program = match find_in_path("promtool") {
        Some(program) => program,
        None => match root::root()? {
            Ok(root) => root.join("usr/bin/promtool"),
            Err(why) => {
                return Ok(Outcome::Skipped(format!(
                    "promtool is not installed (package prometheus), and {why}"
                )));
            }
        },
    };
    let tool = |verb: &str, what: &str, file: &str| {
        let mut command = words([&program]);
        command.args([verb, what]).arg(folder.join(file));
        run(command)
    };
    tool("check", "config", "prometheus.yml")?;
    tool("test", "rules", "alerts_test.yml")?;
    Ok(Outcome::Ran("promtool: configuration and rules checked, rules tested".to_owned()))
}

/// The whole stack.
pub(super) fn stack(binaries: &Path) -> Result<Outcome> {
    let more = &[
        ("POSTGRES_PASSWORD", "check"),
        // Nobody is there, and a stack without the internet has to be healthy nevertheless.
        ("INGESTER_RELAY_HOSTS", "127.0.0.1:1"),
        ("INDEXER_HANDLE_CONCURRENCY", "0"),
        ("REDIS_MAXMEMORY", "64mb"),
        ("MEM_LIMIT_BACKFILLER", "256m"),
    ];
    Stack::lived(binaries, &Made { settings: ".env.example", more, profile: "more" }, live_through)
}

fn live_through(stack: &Stack<'_>) -> Result<Vec<String>> {
    let mut saw = Vec::new();
    let up = ["up", "--detach", "--no-build"];
    stack.compose(up.into_iter().chain(WITHOUT_GRAFANA))?;
    let all = stack.all_healthy(6)?;
    saw.push(format!("{all} containers running and healthy, none restarted"));

    let log = stack.log("rust-backfiller")?;
    let plan =
        log.lines().find_map(|line| line.split("memory: at most").nth(1)).context("no plan in the log")?;
    ensure!(plan.contains("70 % of 256 MiB, cgroup"), "not planned for the container: {plan}");
    ensure!(!log.contains("may be ended for lack of memory"), "{log}");
    saw.push(format!("the backfiller in 256 MiB: at most{plan}"));

    stack.inside("redis", &["redis-cli", "XADD", "firehose_live", "*", "event", EVENT])?;
    wait("the entry is a row", Duration::from_secs(60), || {
        Ok((stack.sql("SELECT count(*) FROM follow")? == "1").then_some(()))
    })?;
    saw.push("an entry of firehose_live is a row of the reference schema".to_owned());

    wait("Prometheus scrapes all three", Duration::from_secs(120), || {
        let page = "http://127.0.0.1:9090/api/v1/query?query=sum(up)";
        let answer = stack.inside("prometheus", &["wget", "-q", "-O", "-", page])?;
        Ok(answer.contains(r#","3"]"#).then_some(()))
    })?;
    let queries =
        wait("queries have answers", Duration::from_secs(180), || watching::queries_run(stack.ports[3]))?;
    saw.push(format!("Prometheus scrapes all three, and {queries}"));

    stack.compose(["up", "--detach", "--no-build", "--scale", "rust-indexer-more=2", "rust-indexer-more"])?;
    stack.all_healthy(8)?;
    saw.push("--scale rust-indexer-more=2: two more indexers, healthy".to_owned());

    stack.inside("redis", &["redis-cli", "EVAL", FILL, "0"])?;
    crate::interrupt::sleep(Duration::from_secs(15))?;
    stack.all_healthy(8)?;
    saw.push(format!("with Redis full, all healthy: {}", stack.below_their_limits()?));
    stack.inside("redis", &["redis-cli", "UNLINK", "full"])?;

    stack.compose(["stop", "--timeout", "60"])?;
    for (name, state) in stack.states()? {
        ensure!(state.starts_with("exited 0 "), "{name} after the stop: {state}");
    }
    saw.push("all stopped with exit code 0".to_owned());
    Ok(saw)
}
