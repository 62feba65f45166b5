//! The three daemons as child processes, and the servers they need.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use rsky_testnet::servers::{Process, Signal, command, free_port};

use crate::steps::release_binary;

/// How long a daemon may drain after SIGTERM: its own bound (`SHUTDOWN_TIMEOUT_MS`, 8 s) and some.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Lines of the log shown of a daemon that has died.
const TAIL: usize = 20;
/// Other names of the settings made here; a value of the caller's environment would contradict ours.
const ALIASES: [&str; 3] = ["REDIS_HOST", "DB_POSTGRES_URL", "INGESTER_HOSTS"];

/// A daemon, or the simulated network, running as a release binary.
#[derive(Debug)]
pub(crate) struct Daemon {
    /// Name of the binary.
    pub(crate) name: &'static str,
    /// Port of its admin pages.
    pub(crate) admin: u16,
    process: Process,
    stopped: bool,
}

impl Daemon {
    /// Starts the binary `name` with these settings on top of our environment, a free admin port, and its output in
    /// `<logs>/<name>.log`.
    ///
    /// # Errors
    /// It has not been built, or cannot be started.
    pub(crate) fn start(
        name: &'static str,
        logs: &Path,
        arguments: &[&str],
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let admin = free_port()?;
        let mut daemon = command(release_binary(name)?, None);
        for alias in ALIASES {
            daemon.env_remove(alias);
        }
        if std::env::var_os("RUST_LOG").is_none() {
            daemon.env("RUST_LOG", "info");
        }
        daemon.args(arguments).envs(settings.iter().copied()).env("METRICS_PORT", admin.to_string());
        let process = Process::spawn(daemon, &logs.join(format!("{name}.log")))?;
        Ok(Self { name, admin, process, stopped: false })
    }

    /// Id of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// # Errors
    /// It has ended; the message has the end of its log.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.process.exited()? {
            None => Ok(()),
            Some(status) => {
                let tail = self.process.log_tail(TAIL);
                bail!("{} has ended ({status}); the end of its log:\n{tail}", self.name)
            }
        }
    }

    /// SIGTERM, and the wait for an orderly end.
    ///
    /// # Errors
    /// It had ended before, ends with an error, or not within 15 s (it is killed then).
    pub(crate) fn stop(&mut self) -> Result<()> {
        if self.stopped {
            return Ok(());
        }
        self.check()?;
        self.stopped = true;
        self.process.signal(Signal::Term)?;
        match self.process.wait(STOP_LIMIT)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("{} did not end cleanly: {status}", self.name),
            None => {
                self.process.kill()?;
                bail!("{} did not end within {STOP_LIMIT:?} after SIGTERM", self.name)
            }
        }
    }

    /// The end of its log.
    pub(crate) fn log_tail(&self, lines: usize) -> String {
        self.process.log_tail(lines)
    }
}
