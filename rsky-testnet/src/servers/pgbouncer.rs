//! A private PgBouncer before a cluster.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::install;
use super::launch::{Folder, Launch, until_it_answers};
use super::postgres::{Cluster, Database, sql};
use super::process::{Process, User, command};

/// How long it may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How a pooler is started; see [`PgBouncer::builder`].
#[derive(Clone, Debug)]
pub struct PgBouncerBuilder {
    server: (String, u16),
    user: String,
    settings: Vec<(String, String)>,
}

impl PgBouncerBuilder {
    /// Any setting of the `[pgbouncer]` section; a later one wins. The defaults are those of the package, but for
    /// `pool_mode`, which is `transaction`.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Whom it connects as, whatever its clients say; default `postgres`.
    pub fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.user);
        self
    }

    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// It is missing and cannot be installed, or does not answer within 30 s; the message has the end of its log.
    pub fn start(self) -> Result<PgBouncer> {
        let program = install::pgbouncer()?;
        // It refuses to run as root, as Postgres does.
        let user = User::for_postgres()?;
        let folder = Folder::make(None, "pgbouncer", user.as_ref())?;
        PgBouncer { builder: self, program, user, folder, port: 0, process: None }.launch()
    }
}

/// A private PgBouncer on 127.0.0.1, killed and its files removed on drop.
#[derive(Debug)]
pub struct PgBouncer {
    builder: PgBouncerBuilder,
    program: PathBuf,
    user: Option<User>,
    folder: Folder,
    port: u16,
    process: Option<Process>,
}

impl PgBouncer {
    /// In transaction mode before a cluster, with the package's settings.
    pub fn start(cluster: &Cluster) -> Result<Self> {
        Self::builder(cluster)?.start()
    }

    /// Settings for one that is to be started before a cluster.
    ///
    /// # Errors
    /// The cluster's URL has no host and port.
    pub fn builder(cluster: &Cluster) -> Result<PgBouncerBuilder> {
        let server = host_and_port(cluster.url()).with_context(|| format!("read {}", cluster.url()))?;
        Ok(PgBouncerBuilder { server, user: "postgres".to_owned(), settings: Vec::new() })
    }

    /// A database of the cluster, by way of the pooler.
    pub fn url(&self, database: &Database) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{}", self.port, database.name)
    }

    fn configuration(&self) -> String {
        let PgBouncerBuilder { server: (host, port), user, settings } = &self.builder;
        let mut lines = vec![
            "[databases]".to_owned(),
            format!("* = host={host} port={port} user={user}"),
            "[pgbouncer]".to_owned(),
            "listen_addr = 127.0.0.1".to_owned(),
            format!("listen_port = {}", self.port),
            "unix_socket_dir =".to_owned(),
            // Whoever comes is let in, as by the clusters of tests.
            "auth_type = any".to_owned(),
            "pool_mode = transaction".to_owned(),
        ];
        lines.extend(settings.iter().map(|(name, value)| format!("{name} = {value}")));
        lines.join("\n") + "\n"
    }

    /// Directory of its settings and log.
    pub fn directory(&self) -> &Path {
        self.folder.path()
    }
}

impl Launch for PgBouncer {
    fn launch_on(&mut self, port: u16) -> Result<()> {
        self.port = port;
        let file = self.folder.path().join("pgbouncer.ini");
        std::fs::write(&file, self.configuration())?;
        let mut server = command(&self.program, self.user.as_ref());
        server.current_dir("/").arg(&file);
        let log = self.folder.path().join("pgbouncer.log");
        let process = self.process.insert(Process::spawn(server, &log)?);
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
        until_it_answers("PgBouncer", process, START_LIMIT, || sql(&url, "SELECT 1").is_ok())
    }

    fn process(&mut self) -> &mut Option<Process> {
        &mut self.process
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // It must have ended before its folder goes.
        self.process = None;
    }
}

fn host_and_port(url: &str) -> Option<(String, u16)> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?']).next()?;
    let (host, port) = authority.rsplit('@').next()?.rsplit_once(':')?;
    Some((host.to_owned(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_server_of_a_url() {
        let found = host_and_port("postgres://postgres@127.0.0.1:15432/postgres?x=1:2");
        assert_eq!(found, Some(("127.0.0.1".to_owned(), 15432)));
        assert_eq!(host_and_port("postgres:///postgres"), None);
    }
}
