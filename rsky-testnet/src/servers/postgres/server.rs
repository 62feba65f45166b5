//! The server process of a cluster.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::super::install::{self, PostgresPrograms};
use super::super::launch::{Folder, Launch, until_it_answers};
use super::super::process::{Process, Signal, User, command, run};
use super::database::{Cluster, Database};
use super::psql::sql_within;

/// How long initdb may take, on a busy machine.
const INITDB_LIMIT: Duration = Duration::from_secs(120);
/// How long a server may take until it answers; recovery after a kill included.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long clients may keep a smart shutdown waiting.
const SMART_LIMIT: Duration = Duration::from_secs(5);
/// How long a fast shutdown (checkpoint included) may take before the processes are killed.
const FAST_LIMIT: Duration = Duration::from_secs(30);
/// Longest socket directory whose socket path (`/.s.PGSQL.65535`) still fits the kernel's 107 bytes.
const MAX_SOCKET_DIR: usize = 90;

/// How a cluster is started; see [`Postgres::builder`].
#[derive(Clone, Debug)]
pub struct PostgresBuilder {
    settings: Vec<(String, String)>,
    directory: Option<PathBuf>,
    durable: bool,
}

impl PostgresBuilder {
    /// Whether a commit survives a crash of the machine (`fsync`, `synchronous_commit` and `full_page_writes` on).
    /// Default no: a crash of the server is survived either way, except for the commits of the last 0.6 s.
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Any setting of postgresql.conf; a later one wins.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Keeps data and log in this directory (created, and left in place) instead of a temporary one. A cluster that
    /// exists there is used as it is.
    pub fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Creates the cluster, starts the server and waits until it answers.
    ///
    /// # Errors
    /// Postgres is missing and cannot be installed, initdb fails, or the server does not answer within 60 s; the
    /// message has the end of its log.
    pub fn start(self) -> Result<Postgres> {
        let programs = install::postgres()?;
        let user = User::for_postgres()?;
        let folder = Folder::make(self.directory.as_deref(), "postgres", user.as_ref())?;
        let postgres = Postgres { builder: self, programs, user, folder, port: 0, process: None };
        postgres.initdb()?;
        postgres.launch()
    }
}

/// A private Postgres cluster on 127.0.0.1, killed and its data removed on drop.
#[derive(Debug)]
pub struct Postgres {
    builder: PostgresBuilder,
    programs: PostgresPrograms,
    user: Option<User>,
    folder: Folder,
    port: u16,
    process: Option<Process>,
}

impl Postgres {
    /// Creates and starts a cluster with settings for tests: nothing is synced to disk.
    pub fn start() -> Result<Self> {
        Self::builder().start()
    }

    /// Settings for a cluster that is to be started.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder { settings: Vec::new(), directory: None, durable: false }
    }

    /// The cluster shared by all tests of this process, or by all test binaries of one `cargo xtask test`: see
    /// [`Cluster::shared`].
    pub fn shared() -> Result<&'static Cluster> {
        Cluster::shared()
    }

    /// URL of the maintenance database.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// The port, the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Id of the running postmaster.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Directory of data and log.
    pub fn directory(&self) -> &Path {
        self.folder.path()
    }

    /// The cluster for those who only create databases in it.
    pub fn cluster(&self) -> Cluster {
        Cluster::at(&self.url())
    }

    /// A new database with the reference schema: see [`Cluster::create_database`].
    pub fn create_database(&self, prefix: &str) -> Result<Database> {
        self.cluster().create_database(prefix)
    }

    /// Ends every client's connection, as a failover does; new ones are accepted.
    pub fn terminate_connections(&self) -> Result<()> {
        self.cluster().terminate_connections()
    }

    /// Ends the server in an orderly way (SIGTERM): no new clients, and those connected have 5 s to leave; then as
    /// [`Postgres::stop_fast`].
    pub fn stop(&mut self) -> Result<()> {
        self.shut_down(Signal::Term, SMART_LIMIT)?;
        self.stop_fast()
    }

    /// Ends the server and all connections now, with a checkpoint (SIGINT; SIGKILL when that takes over 30 s).
    pub fn stop_fast(&mut self) -> Result<()> {
        self.shut_down(Signal::Int, FAST_LIMIT)?;
        self.kill()
    }

    /// Ends the postmaster and all its processes at once (SIGKILL).
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), |mut process| process.kill())
    }

    /// Stops the server (fast) if it runs, and starts it on the same port with the same data.
    pub fn restart(&mut self) -> Result<()> {
        self.stop_fast()?;
        self.run()
    }

    /// Freezes the server and its backends: connections stay open, nothing answers (SIGSTOP).
    pub fn pause(&mut self) -> Result<()> {
        self.process.as_mut().context("Postgres is not running")?.signal_all(Signal::Stop)
    }

    /// Continues a frozen server.
    pub fn resume(&mut self) -> Result<()> {
        self.process.as_mut().context("Postgres is not running")?.signal_all(Signal::Cont)
    }

    fn shut_down(&mut self, signal: Signal, limit: Duration) -> Result<()> {
        let Some(process) = &mut self.process else { return Ok(()) };
        process.signal_all(Signal::Cont)?;
        process.signal(signal)?;
        process.wait(limit)?;
        Ok(())
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn initdb(&self) -> Result<()> {
        if self.data().join("PG_VERSION").exists() {
            return Ok(());
        }
        let mut initdb = command(&self.programs.initdb, self.user.as_ref());
        initdb.current_dir("/").arg("-D").arg(self.data()).args(["-U", "postgres", "--auth=trust"]);
        initdb.args(["--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"]);
        run(initdb, INITDB_LIMIT)?;
        Ok(())
    }

    fn settings(&self) -> Vec<(String, String)> {
        let on_if_durable = if self.builder.durable { "on" } else { "off" };
        let sockets = Some(self.data()).filter(|data| data.as_os_str().len() <= MAX_SOCKET_DIR);
        let sockets = sockets.map_or_else(String::new, |data| data.to_string_lossy().into_owned());
        let mut settings: Vec<(String, String)> = [
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", &sockets),
            ("fsync", on_if_durable),
            ("synchronous_commit", on_if_durable),
            ("full_page_writes", on_if_durable),
            ("shared_buffers", "256MB"),
            ("max_connections", "200"),
            ("max_wal_size", "4GB"),
            ("wal_level", "minimal"),
            ("max_wal_senders", "0"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        settings.extend(self.builder.settings.iter().cloned());
        settings
    }

    fn run(&mut self) -> Result<()> {
        let mut server = command(&self.programs.postgres, self.user.as_ref());
        server.current_dir("/").arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        for (name, value) in self.settings() {
            server.arg("-c").arg(format!("{name}={value}"));
        }
        let url = self.url();
        let log = self.folder.path().join("postgres.log");
        let process = self.process.insert(Process::spawn(server, &log)?);
        until_it_answers("Postgres", process, START_LIMIT, || {
            sql_within(&url, "SELECT 1", Duration::from_secs(10)).is_ok()
        })
    }
}

impl Launch for Postgres {
    fn launch_on(&mut self, port: u16) -> Result<()> {
        self.port = port;
        self.run()
    }

    fn process(&mut self) -> &mut Option<Process> {
        &mut self.process
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It must have ended before its folder goes.
        self.process = None;
    }
}
