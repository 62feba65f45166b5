//! `<daemon> doctor`: what a daemon stands on, looked at before it does, or when something is wrong.
//!
//! One line for each thing looked at: fine, to be looked at, or broken, and then what to do. Nothing is changed, every check
//! has a limit on its time, and one that fails keeps no other from being made. What is common to the daemons is here:
//! [`host`] for the machine and the network, [`server`] for Redis, [`groups`] for what waits in it and who reads it.

pub mod groups;
pub mod host;
pub mod server;

pub(crate) mod reply;

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use reqwest::Client;

use crate::admin::shown;
use crate::config::{ConfigError, Secret};
use crate::net::NoHttps;
use crate::runtime::daemon::{install_crypto, refuse};
use crate::runtime::memory_plan::Report;
use crate::runtime::{MemoryLimit, Planned};

/// Longest time for one check.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Most characters of a line.
const SHOWN: usize = 700;
/// Exit code when something should be looked at and nothing is broken.
const EXIT_LOOK: u8 = 3;

/// How a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Fine,
    /// Works, and somebody should look at it; or it could not be looked at.
    Look,
    /// Does not work, or will not for long.
    Broken,
}

/// What came of looking at one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it stands.
    pub level: Level,
    /// What it is.
    pub about: String,
    /// What was seen.
    pub says: String,
    /// What to do.
    pub todo: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn fine(about: impl Into<String>, says: impl Into<String>) -> Self {
        Self { level: Level::Fine, about: about.into(), says: says.into(), todo: None }
    }

    /// Should be looked at.
    pub fn look(about: impl Into<String>, says: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { level: Level::Look, about: about.into(), says: says.into(), todo: Some(todo.into()) }
    }

    /// Broken.
    pub fn broken(about: impl Into<String>, says: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { level: Level::Broken, about: about.into(), says: says.into(), todo: Some(todo.into()) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Fine => "fine",
            Level::Look => "look",
            Level::Broken => "BROKEN",
        };
        write!(f, "{level:<7}{:<12} {}", self.about, shown(&self.says, SHOWN))?;
        match &self.todo {
            Some(todo) => write!(f, " -> {todo}"),
            None => Ok(()),
        }
    }
}

/// Makes checks and tells of each at once.
#[derive(Debug, Default)]
pub struct Doctor {
    counts: [u64; 3],
}

impl Doctor {
    /// Tells of a finding.
    pub fn note(&mut self, finding: &Finding) {
        let [fine, look, broken] = &mut self.counts;
        *match finding.level {
            Level::Fine => fine,
            Level::Look => look,
            Level::Broken => broken,
        } += 1;
        // A reader that has seen enough changes nothing about the verdict.
        drop(writeln!(io::stdout().lock(), "{finding}"));
    }

    /// What every daemon begins with: settings to be corrected, the plan of memory, and whether there are root certificates.
    /// The client is for the checks that ask somebody.
    pub fn begin<S: AsRef<str>>(
        &mut self,
        notices: &[S],
        memory: Option<&Report>,
        https: Result<Client, NoHttps>,
    ) -> Option<Client> {
        for notice in notices {
            self.note(&Finding::look("settings", notice.as_ref(), "correct or remove it"));
        }
        self.note(&host::memory(memory));
        match https {
            Ok(client) => {
                self.note(&Finding::fine("https", "root certificates are there"));
                Some(client)
            }
            Err(error) => {
                let todo = "install root certificates (ca-certificates)";
                self.note(&Finding::broken("https", error.to_string(), todo));
                None
            }
        }
    }

    /// Makes a check within its time, and tells of what it found.
    pub async fn check(&mut self, about: &str, look: impl Future<Output = Vec<Finding>>) {
        match tokio::time::timeout(TIMEOUT, look).await {
            Ok(findings) => findings.iter().for_each(|finding| self.note(finding)),
            Err(_) => self.note(&Finding::broken(
                about,
                format!("no answer within {} s", TIMEOUT.as_secs()),
                "see whether it hangs, and what lies between",
            )),
        }
    }

    /// A line at the end, and the exit code: 0 when all is fine, 3 when something should be looked at, 1 when something is
    /// broken.
    pub fn end(self) -> ExitCode {
        let [fine, look, broken] = self.counts;
        drop(writeln!(io::stdout().lock(), "{broken} broken, {look} to look at, {fine} fine"));
        match (broken, look) {
            (0, 0) => ExitCode::SUCCESS,
            (0, _) => ExitCode::from(EXIT_LOOK),
            _ => ExitCode::FAILURE,
        }
    }
}

/// Runs the checks of a daemon to their end: those of its configuration, as it is planned with on this machine.
#[expect(clippy::print_stderr, reason = "a command for people; nothing is logged here")]
pub fn run<C, const N: usize, F, Fut>(daemon: &str, config: Result<C, ConfigError>, checks: F) -> ExitCode
where
    C: Planned<N>,
    F: FnOnce(C, Doctor) -> Fut,
    Fut: Future<Output = Doctor>,
{
    let config = match config {
        Ok(config) => config.within(MemoryLimit::detect()),
        Err(error) => return refuse(daemon, &error),
    };
    install_crypto();
    match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime.block_on(Box::pin(checks(config, Doctor::default()))).end(),
        Err(error) => {
            eprintln!("{daemon} doctor: cannot start the runtime: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Host and port of a URL with secrets, where it has any (a Unix socket has none).
pub fn authority(url: &Secret, port: u16) -> Option<(String, u16)> {
    let url = url::Url::parse(url.expose()).ok()?;
    let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
    (!host.is_empty()).then(|| (host, url.port().unwrap_or(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line() {
        let line = Finding::broken("redis", "no\nconnection", "start it").to_string();
        assert!(!line.contains('\n') && line.starts_with("BROKEN redis        no"), "{line}");
        assert!(line.ends_with("connection -> start it"), "{line}");
        assert!(Finding::fine("dns", "x".repeat(10_000)).to_string().len() < 1000);
    }

    #[test]
    fn the_worst_decides() {
        let mut doctor = Doctor::default();
        assert_eq!(format!("{:?}", Doctor::default().end()), format!("{:?}", ExitCode::SUCCESS));
        doctor.note(&Finding::fine("a", ""));
        doctor.note(&Finding::look("a", "", ""));
        doctor.note(&Finding::broken("a", "", ""));
        assert_eq!(format!("{:?}", doctor.end()), format!("{:?}", ExitCode::FAILURE));
    }

    #[test]
    fn authorities_show_no_secret() {
        let of = |url: &str| authority(&Secret::new(url.to_owned()), 6379);
        assert_eq!(of("redis://u:p@r.example/1"), Some(("r.example".to_owned(), 6379)));
        assert_eq!(of("postgres://u@[::1]:5433/d"), Some(("::1".to_owned(), 5433)));
        assert_eq!(of("unix:///run/redis.sock"), None);
    }
}
