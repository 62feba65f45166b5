//! The stack of `docker-compose.yml`, up and down again, and its parts looked at by themselves.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rsky_testnet::servers::free_port;
use rsky_testnet::servers::install::find_in_path;

use super::engine::{self, Engine};
use super::{Outcome, ours, place, root, run, stand_ins, wait, watching, words};

const DAEMONS: [&str; 3] = ["ingester", "backfiller", "indexer"];
/// Time for all containers to be healthy; they take some ten seconds.
const HEALTHY: Duration = Duration::from_secs(180);
/// A follow as the ingester writes it.
const EVENT: &str = include_str!("event.json");
/// The services there are images for: Grafana is packaged nowhere, so it cannot be stood in for.
const WITHOUT_GRAFANA: &[&str] =
    &["redis", "postgres", "rust-ingester", "rust-backfiller", "rust-indexer", "prometheus"];
/// Fills Redis beyond its limit.
const FILL: &str = "for i = 1, 90000 do redis.call('RPUSH', 'full', string.rep('x', 1000)) end";

/// Whether the oldest Compose takes the file with the settings as they are copied.
pub(super) fn compose_file() -> Result<Outcome> {
    if let Err(why) = engine::programs()? {
        return Ok(Outcome::Skipped(why));
    }
    let folder = folder(&[("POSTGRES_PASSWORD", "check")])?;
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
    if let Err(why) = engine::programs()? {
        return Ok(Outcome::Skipped(why));
    }
    let root = match root::root()? {
        Ok(root) => root,
        Err(why) => return Ok(Outcome::Skipped(why)),
    };
    let engine = Engine::start()?;
    stand_ins::make(&engine, &root, binaries)?;
    let port = || anyhow::Ok(free_port()?.to_string());
    let ports = [port()?, port()?, port()?, port()?];
    let [ingester, backfiller, indexer, prometheus] = ports.each_ref().map(String::as_str);
    let folder = folder(&[
        ("POSTGRES_PASSWORD", "check"),
        // Nobody is there, and a stack without the internet has to be healthy nevertheless.
        ("INGESTER_RELAY_HOSTS", "127.0.0.1:1"),
        ("INDEXER_HANDLE_CONCURRENCY", "0"),
        ("REDIS_MAXMEMORY", "64mb"),
        ("MEM_LIMIT_BACKFILLER", "256m"),
        ("PORT_INGESTER", ingester),
        ("PORT_BACKFILLER", backfiller),
        ("PORT_INDEXER", indexer),
        ("PORT_PROMETHEUS", prometheus),
    ])?;
    for daemon in DAEMONS {
        let arguments = ["--build-arg", "BINARIES=rsky-binaries"];
        stand_ins::build(&engine, &folder, daemon, &format!("rsky-{daemon}"), &arguments)?;
    }
    let stack = Stack { engine: &engine, folder, prometheus: prometheus.parse()? };
    let saw = stack.live_through();
    if saw.is_err() {
        stack.show_logs();
    }
    let down =
        run(engine.compose(&stack.folder, ["--profile", "more", "down", "--volumes", "--timeout", "10"]));
    let saw = saw?;
    down?;
    Ok(Outcome::Ran(saw.join("\n         ")))
}

/// The file and what it names, in a folder of its own with a `.env` made from `.env.example`.
fn folder(settings: &[(&str, &str)]) -> Result<PathBuf> {
    let folder = place()?.join("stack");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    for file in ["docker-compose.yml", "Dockerfile"] {
        fs::copy(ours(file), folder.join(file))?;
    }
    for part in ["migrations-ref", "deploy"] {
        let mut copy = words(["cp", "-r"]);
        copy.arg(ours(part)).arg(&folder);
        run(copy)?;
    }
    let mut text = fs::read_to_string(ours(".env.example"))?;
    for (name, value) in settings {
        text.push_str(&format!("{name}={value}\n"));
    }
    fs::write(folder.join(".env"), text)?;
    Ok(folder)
}

struct Stack<'a> {
    engine: &'a Engine,
    folder: PathBuf,
    /// Port of Prometheus.
    prometheus: u16,
}

impl Stack<'_> {
    fn compose<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<String> {
        run(self.engine.compose(&self.folder, arguments))
    }

    fn inside(&self, service: &str, arguments: &[&str]) -> Result<String> {
        self.compose(["exec", "-T", service].into_iter().chain(arguments.iter().copied()))
    }

    fn live_through(&self) -> Result<Vec<String>> {
        let mut saw = Vec::new();
        let up = ["up", "--detach", "--no-build"];
        self.compose(up.into_iter().chain(WITHOUT_GRAFANA.iter().copied()))?;
        let all = self.all_healthy(6)?;
        saw.push(format!("{all} containers running and healthy, none restarted"));

        let log = run(self.engine.docker(["logs", "rust-backfiller"]))?;
        let plan = log
            .lines()
            .find_map(|line| line.split("memory: at most").nth(1))
            .context("no plan in the log")?;
        ensure!(plan.contains("70 % of 256 MiB, cgroup"), "not planned for the container: {plan}");
        ensure!(!log.contains("may be ended for lack of memory"), "{log}");
        saw.push(format!("the backfiller in 256 MiB: at most{plan}"));

        self.inside("redis", &["redis-cli", "XADD", "firehose_live", "*", "event", EVENT])?;
        wait("the entry is a row", Duration::from_secs(60), || {
            let count = "SELECT count(*) FROM follow";
            let rows =
                self.inside("postgres", &["psql", "-qXAt", "-U", "bsky", "-d", "bsky", "-c", count])?;
            Ok((rows.trim() == "1").then_some(()))
        })?;
        saw.push("an entry of firehose_live is a row of the reference schema".to_owned());

        wait("Prometheus scrapes all three", Duration::from_secs(120), || {
            let page = "http://127.0.0.1:9090/api/v1/query?query=sum(up)";
            let answer = self.inside("prometheus", &["wget", "-q", "-O", "-", page])?;
            Ok(answer.contains(r#","3"]"#).then_some(()))
        })?;
        let queries = wait("queries have answers", Duration::from_secs(180), || {
            watching::queries_run(self.prometheus)
        })?;
        saw.push(format!("Prometheus scrapes all three, and {queries}"));

        self.compose([
            "--profile",
            "more",
            "up",
            "--detach",
            "--no-build",
            "--scale",
            "rust-indexer-more=2",
            "rust-indexer-more",
        ])?;
        self.all_healthy(8)?;
        saw.push("--scale rust-indexer-more=2: two more indexers, healthy".to_owned());

        self.inside("redis", &["redis-cli", "EVAL", FILL, "0"])?;
        crate::interrupt::sleep(Duration::from_secs(15))?;
        self.all_healthy(8)?;
        saw.push(format!("with Redis full, all healthy: {}", self.below_their_limits()?));
        self.inside("redis", &["redis-cli", "UNLINK", "full"])?;

        self.compose(["--profile", "more", "stop", "--timeout", "60"])?;
        for (name, state) in self.states()? {
            ensure!(state.starts_with("exited 0 "), "{name} after the stop: {state}");
        }
        saw.push("all stopped with exit code 0".to_owned());
        Ok(saw)
    }

    /// Each container by name: status, exit code, restarts, health. What Compose returns is not trusted: it counts a
    /// dependency that has ended as healthy.
    fn states(&self) -> Result<Vec<(String, String)>> {
        let ids = self.compose(["--profile", "more", "ps", "--quiet"])?;
        let format =
            "{{.Name}}|{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}} {{.State.Health.Status}}";
        let mut inspect = self.engine.docker(["inspect", "--format", format]);
        inspect.args(ids.split_whitespace());
        let shown = run(inspect)?;
        let pair = |line: &str| line.split_once('|').map(|(name, state)| (name.to_owned(), state.to_owned()));
        Ok(shown.lines().filter_map(pair).collect())
    }

    fn all_healthy(&self, count: usize) -> Result<usize> {
        let mut last = Vec::new();
        let healthy = wait("all containers are healthy", HEALTHY, || {
            last = self.states()?;
            if let Some((name, state)) = last.iter().find(|(_, state)| !state.starts_with("running 0 0 ")) {
                bail!("{name}: {state}");
            }
            let well = last.iter().filter(|(_, state)| state == "running 0 0 healthy").count();
            Ok((well == count && last.len() == count).then_some(well))
        });
        healthy.with_context(|| format!("{last:?}"))
    }

    fn below_their_limits(&self) -> Result<String> {
        let shown = run(self.engine.docker([
            "stats",
            "--no-stream",
            "--format",
            "{{.Name}} {{.MemUsage}} {{.MemPerc}}",
        ]))?;
        for line in shown.lines() {
            let percent =
                line.rsplit(' ').next().and_then(|part| part.strip_suffix('%')?.parse::<f64>().ok());
            ensure!(percent.is_some_and(|percent| percent < 95.0), "near its limit: {line}");
        }
        Ok(shown.lines().filter(|line| line.starts_with("rust-")).collect::<Vec<_>>().join(", "))
    }

    fn show_logs(&self) {
        if let Ok(logs) = self.compose(["--profile", "more", "logs", "--no-color", "--tail", "15"]) {
            eprintln!("{logs}");
        }
    }
}
