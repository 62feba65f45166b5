//! A private Redis server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::install;
use super::launch::{Folder, Launch, until_it_answers};
use super::process::{Process, Signal, command};
use super::resp::{RespClient, Value};

/// How long a server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a server may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// How a server is started; see [`Redis::builder`].
#[derive(Clone, Debug)]
pub struct RedisBuilder {
    settings: Vec<(String, String)>,
    directory: Option<PathBuf>,
    wait_for_loading: bool,
}

impl RedisBuilder {
    /// Memory bound in Redis' notation (`64mb`); default none.
    pub fn maxmemory(self, bound: &str) -> Self {
        self.setting("maxmemory", bound)
    }

    /// What happens at the bound: `noeviction` (Redis' default) refuses writes, `allkeys-lru` drops keys.
    pub fn policy(self, policy: &str) -> Self {
        self.setting("maxmemory-policy", policy)
    }

    /// Whether data survives `stop`, `kill` and `restart` (append-only file, synced once a second); default no.
    pub fn appendonly(self, on: bool) -> Self {
        self.setting("appendonly", if on { "yes" } else { "no" })
    }

    /// Any other setting of redis.conf.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Whether start and restart wait until a server that is loading its data is done; default yes. Without, it is
    /// enough that it answers at all.
    pub fn wait_for_loading(mut self, wait: bool) -> Self {
        self.wait_for_loading = wait;
        self
    }

    /// Keeps data and log in this directory (created, and left in place) instead of a temporary one.
    pub fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    /// Redis is missing and cannot be installed, or does not answer within 30 s; the message has the end of its log.
    pub fn start(self) -> Result<Redis> {
        let program = install::redis_server()?;
        let folder = Folder::make(self.directory.as_deref(), "redis", None)?;
        Redis { builder: self, program, folder, port: 0, process: None }.launch()
    }
}

/// A private Redis server on 127.0.0.1, killed and its data removed on drop.
#[derive(Debug)]
pub struct Redis {
    builder: RedisBuilder,
    program: PathBuf,
    folder: Folder,
    port: u16,
    process: Option<Process>,
}

impl Redis {
    /// Starts a server that keeps everything in memory, without a bound.
    pub fn start() -> Result<Self> {
        Self::builder().start()
    }

    /// Settings for a server that is to be started.
    pub fn builder() -> RedisBuilder {
        RedisBuilder { settings: Vec::new(), directory: None, wait_for_loading: true }
    }

    /// `redis://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The port, the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Id of the running process.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Directory of data and log.
    pub fn directory(&self) -> &Path {
        self.folder.path()
    }

    /// A connection for commands; every reply has to come within 10 s.
    pub fn client(&self) -> Result<RespClient> {
        RespClient::connect(self.port, Duration::from_secs(10)).context("connect to Redis")
    }

    /// One command over a connection of its own.
    pub fn command(&self, arguments: &[&str]) -> Result<Value> {
        self.client()?.command(arguments)
    }

    /// Ends the server in an orderly way (SIGTERM, and SIGKILL when that takes more than 10 s).
    pub fn stop(&mut self) -> Result<()> {
        let Some(process) = &mut self.process else { return Ok(()) };
        process.signal(Signal::Cont)?;
        process.signal(Signal::Term)?;
        process.wait(STOP_LIMIT)?;
        self.process = None;
        Ok(())
    }

    /// Ends the server at once (SIGKILL).
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), |mut process| process.kill())
    }

    /// Stops the server if it runs, and starts it on the same port with the same data.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.run()
    }

    /// Freezes the server: connections stay open, nothing answers (SIGSTOP).
    pub fn pause(&mut self) -> Result<()> {
        self.process.as_mut().context("Redis is not running")?.signal(Signal::Stop)
    }

    /// Continues a frozen server.
    pub fn resume(&mut self) -> Result<()> {
        self.process.as_mut().context("Redis is not running")?.signal(Signal::Cont)
    }

    fn run(&mut self) -> Result<()> {
        let mut server = command(&self.program, None);
        let directory = self.folder.path();
        let port = self.port.to_string();
        server.current_dir(directory).args(["--port", &port, "--bind", "127.0.0.1", "--save", ""]);
        server.args(["--daemonize", "no"]);
        server.arg("--dir").arg(directory);
        for (name, value) in &self.builder.settings {
            server.arg(format!("--{name}")).arg(value);
        }
        let process = self.process.insert(Process::spawn(server, &directory.join("redis.log"))?);
        let (port, waits) = (self.port, self.builder.wait_for_loading);
        until_it_answers("Redis", process, START_LIMIT, || match ping(port) {
            Some(Value::Data(pong)) => pong == b"PONG",
            Some(Value::Error(_)) => !waits,
            _ => false,
        })
    }
}

impl Launch for Redis {
    fn launch_on(&mut self, port: u16) -> Result<()> {
        self.port = port;
        self.run()
    }

    fn process(&mut self) -> &mut Option<Process> {
        &mut self.process
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It must have ended before its folder goes.
        self.process = None;
    }
}

fn ping(port: u16) -> Option<Value> {
    let mut client = RespClient::connect(port, Duration::from_secs(1)).ok()?;
    client.queue(&[b"PING"]);
    client.flush().ok()?.pop()
}
