//! A private container engine: Debian's, with its data under the build directory, changing nothing on the host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rsky_testnet::servers::install::packages;
use rsky_testnet::servers::{Process, Signal};

use super::{am_root, place, run, wait, words};

/// Debian's programs by their paths: another client in the PATH may have no builder inside.
const DOCKER: &str = "/usr/bin/docker";
const DOCKERD: &str = "/usr/sbin/dockerd";
const COMPOSE: &str = "/usr/bin/docker-compose";

/// The engine; it ends with this value.
pub(super) struct Engine {
    process: Process,
    folder: PathBuf,
}

/// Whether the programs are there, or can be installed.
pub(super) fn programs() -> Result<std::result::Result<(), String>> {
    if !am_root() || !Path::new("/etc/debian_version").is_file() {
        return Ok(Err(
            "needs root on Debian (a private engine of its packages docker.io and docker-compose)".to_owned(),
        ));
    }
    packages(&["docker.io", "docker-compose"], || {
        [DOCKER, DOCKERD, COMPOSE].iter().all(|path| Path::new(path).is_file()).then_some(())
    })?;
    Ok(Ok(()))
}

impl Engine {
    /// Starts it.
    pub(super) fn start() -> Result<Self> {
        let folder = place()?.join("docker");
        fs::create_dir_all(&folder)?;
        let at = |name: &str| folder.join(name).display().to_string();
        let mut command =
            words([DOCKERD, "--iptables=false", "--ip-forward=false", "--ip-masq=false", "--bridge=none"]);
        command.args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")]);
        command.args(["--host", &format!("unix://{}", at("sock"))]);
        let process = Process::spawn(command, &folder.join("log"))?;
        let engine = Self { process, folder };
        wait("the container engine", Duration::from_secs(60), || Ok(run(engine.docker(["version"])).ok()))
            .with_context(|| format!("see {}", engine.folder.join("log").display()))?;
        Ok(engine)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = words([program]);
        command
            .env("DOCKER_HOST", format!("unix://{}", self.folder.join("sock").display()))
            .env("DOCKER_BUILDKIT", "1")
            .env_remove("DOCKER_CONTEXT");
        command
    }

    /// A command of the client.
    pub(super) fn docker<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = self.command(DOCKER);
        command.args(arguments);
        command
    }

    /// A command of Compose for the file in `folder`.
    pub(super) fn compose<'a>(&self, folder: &Path, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = self.command(COMPOSE);
        command.current_dir(folder).args(["--project-name", "rskycheck"]).args(arguments);
        command
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.process.signal(Signal::Term));
        drop(self.process.wait(Duration::from_secs(30)));
        // What the engine leaves mounted.
        drop(words(["umount", &self.folder.join("exec/netns/default").display().to_string()]).output());
    }
}

/// Whether Compose takes a file, without an engine.
pub(super) fn compose_config(folder: &Path) -> Result<String> {
    let mut command = words([COMPOSE, "config"]);
    command.current_dir(folder);
    run(command)
}
