//! A stack of `docker-compose.yml` in the private engine, with images of the binaries that are there.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rsky_testnet::servers::free_port;

use super::engine::{self, Engine};
use super::{Outcome, ours, place, root, run, stand_ins, wait, words};

/// The daemons.
pub(super) const DAEMONS: [&str; 3] = ["ingester", "backfiller", "indexer"];
/// The services there are images for: Grafana is packaged nowhere, so it cannot be stood in for.
pub(super) const WITHOUT_GRAFANA: [&str; 6] =
    ["redis", "postgres", "rust-ingester", "rust-backfiller", "rust-indexer", "prometheus"];
/// Time for all containers to be healthy; they take some ten seconds.
const HEALTHY: Duration = Duration::from_secs(180);

/// What a stack is made of.
pub(super) struct Made<'a> {
    /// The file of the repository that becomes `.env`.
    pub(super) settings: &'a str,
    /// What is added to it. Ports are.
    pub(super) more: &'a [(&'a str, &'a str)],
    /// The profile of `docker-compose.yml` that is used.
    pub(super) profile: &'static str,
}

/// A stack. It is taken down by [`Stack::lived`].
pub(super) struct Stack<'a> {
    engine: &'a Engine,
    folder: PathBuf,
    profile: &'static str,
    /// Ports of the pages, in the order of [`DAEMONS`], and of Prometheus.
    pub(super) ports: [u16; 4],
}

impl Stack<'_> {
    /// Makes the images, lets `live` do with the stack what it wants, and takes it down whatever came of that.
    pub(super) fn lived(
        binaries: &Path,
        made: &Made<'_>,
        live: impl FnOnce(&Stack<'_>) -> Result<Vec<String>>,
    ) -> Result<Outcome> {
        if let Err(why) = engine::programs()? {
            return Ok(Outcome::Skipped(why));
        }
        let root = match root::root()? {
            Ok(root) => root,
            Err(why) => return Ok(Outcome::Skipped(why)),
        };
        let engine = Engine::start()?;
        stand_ins::make(&engine, &root, binaries)?;
        let ports = [free_port()?, free_port()?, free_port()?, free_port()?];
        let [ingester, backfiller, indexer, prometheus] = ports.map(|port| port.to_string());
        let mut settings = made.more.to_vec();
        settings.extend([
            ("PORT_INGESTER", ingester.as_str()),
            ("PORT_BACKFILLER", &backfiller),
            ("PORT_INDEXER", &indexer),
            ("PORT_PROMETHEUS", &prometheus),
        ]);
        let folder = folder(made.settings, &settings)?;
        for target in DAEMONS.iter().copied().chain(["testnet"]) {
            let arguments = ["--build-arg", "BINARIES=rsky-binaries"];
            stand_ins::build(&engine, &folder, target, &format!("rsky-{target}"), &arguments)?;
        }
        let stack = Stack { engine: &engine, folder, profile: made.profile, ports };
        let saw = live(&stack);
        if saw.is_err() {
            stack.show_logs();
        }
        let down = stack.compose(["down", "--volumes", "--timeout", "10"]);
        let saw = saw?;
        down?;
        Ok(Outcome::Ran(saw.join("\n         ")))
    }

    /// Compose with the profile.
    pub(super) fn compose<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<String> {
        run(self.engine.compose(&self.folder, ["--profile", self.profile].into_iter().chain(arguments)))
    }

    /// A command in the container of a service.
    pub(super) fn inside(&self, service: &str, arguments: &[&str]) -> Result<String> {
        self.compose(["exec", "-T", service].into_iter().chain(arguments.iter().copied()))
    }

    /// What a statement gives in the stack's Postgres.
    pub(super) fn sql(&self, statement: &str) -> Result<String> {
        let psql = ["psql", "-qXAt", "-U", "bsky", "-d", "bsky", "-c", statement];
        Ok(self.inside("postgres", &psql)?.trim().to_owned())
    }

    /// The log of a container.
    pub(super) fn log(&self, container: &str) -> Result<String> {
        run(self.engine.docker(["logs", container]))
    }

    /// Each container by name: status, exit code, restarts, health. What Compose returns is not trusted: it counts a
    /// dependency that has ended as healthy.
    pub(super) fn states(&self) -> Result<Vec<(String, String)>> {
        let ids = self.compose(["ps", "--quiet"])?;
        let format =
            "{{.Name}}|{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}} {{.State.Health.Status}}";
        let mut inspect = self.engine.docker(["inspect", "--format", format]);
        inspect.args(ids.split_whitespace());
        let shown = run(inspect)?;
        let pair = |line: &str| line.split_once('|').map(|(name, state)| (name.to_owned(), state.to_owned()));
        Ok(shown.lines().filter_map(pair).collect())
    }

    /// Waits until there are so many containers, each of them healthy and never started again.
    pub(super) fn all_healthy(&self, count: usize) -> Result<usize> {
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

    /// The memory of our containers; an error where one is near its limit.
    pub(super) fn below_their_limits(&self) -> Result<String> {
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
        if let Ok(logs) = self.compose(["logs", "--no-color", "--tail", "15"]) {
            eprintln!("{logs}");
        }
    }
}

/// The file and what it names, in a folder of its own with a `.env` made from a file of the repository and more settings.
pub(super) fn folder(file: &str, settings: &[(&str, &str)]) -> Result<PathBuf> {
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
    let mut text = fs::read_to_string(ours(file)).with_context(|| file.to_owned())?;
    for (name, value) in settings {
        text.push_str(&format!("{name}={value}\n"));
    }
    fs::write(folder.join(".env"), text)?;
    Ok(folder)
}
