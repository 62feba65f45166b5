//! One of the daemons as a process of a test: its environment, log, admin pages and end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::servers::{Process, Signal, command};

/// How long anything may take before a test fails. Far above what it takes; nothing is measured with it.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Time between two looks at a condition.
const POLL: Duration = Duration::from_millis(5);

/// Waits for a condition.
///
/// # Panics
/// It did not come true within [`PATIENCE`].
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: did not happen within {PATIENCE:?}");
        std::thread::sleep(POLL);
    }
}

/// Waits until something has come to an end, however long it takes, as long as it moves: `state` says where it stands.
///
/// # Panics
/// It stood still for [`PATIENCE`].
#[track_caller]
pub fn wait_for_end<S: PartialEq + std::fmt::Debug>(what: &str, end: &S, mut state: impl FnMut() -> S) {
    let (mut before, mut moved_at) = (state(), Instant::now());
    while before != *end {
        std::thread::sleep(POLL);
        let now = state();
        if now != before {
            (before, moved_at) = (now, Instant::now());
        }
        assert!(moved_at.elapsed() < PATIENCE, "{what}: stood still for {PATIENCE:?} at {before:?}");
    }
}

/// How a daemon is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The binary.
    pub program: PathBuf,
    /// Where its log is kept.
    pub folder: PathBuf,
    /// Variables of the test's own environment that it must not see.
    pub hidden: &'static [&'static str],
    /// Its settings.
    pub environment: Vec<(String, String)>,
    /// Whether it sees nothing of the test's own environment.
    pub bare: bool,
    /// Bytes of address space it may take; `None`: what there is.
    pub address_space: Option<u64>,
}

impl Launch {
    /// With the settings `fixed`, of which `own` replaces those of the same name.
    pub fn new(
        program: &str,
        folder: &str,
        hidden: &'static [&'static str],
        fixed: &[(&str, &str)],
        own: &[(&str, &str)],
    ) -> Self {
        let kept = fixed.iter().filter(|(name, _)| own.iter().all(|(other, _)| other != name));
        let environment = kept.chain(own).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment = environment.collect();
        Self {
            program: program.into(),
            folder: folder.into(),
            hidden,
            environment,
            bare: false,
            address_space: None,
        }
    }

    /// The same, with nothing of the test's own environment.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    /// The same in at most so many bytes of address space (RLIMIT_AS): an allocation beyond them fails, which ends the
    /// daemon. Address space is more than memory: code, stacks and what the allocator has set aside count as well. What
    /// an idle daemon takes of it tells [`Daemon::peak_address_space`].
    #[must_use]
    pub fn within(mut self, bytes: u64) -> Self {
        self.address_space = Some(bytes);
        self
    }

    fn spawn(&self, log: &Path) -> Process {
        drop(std::fs::remove_file(log));
        let mut daemon = match self.address_space {
            None => command(&self.program, None),
            Some(bytes) => limited(&self.program, bytes),
        };
        if self.bare {
            daemon.env_clear();
        }
        for name in self.hidden {
            daemon.env_remove(name);
        }
        daemon.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Process::spawn(daemon, log).expect("start the daemon")
    }
}

/// A command for a program in a limited address space. The shell sets the limit, which needs no unsafe code, and becomes
/// the program.
fn limited(program: &Path, bytes: u64) -> Command {
    let mut shell = command("/bin/sh", None);
    shell.args(["-c", r#"ulimit -v "$1" && exec "$2""#, "sh", &(bytes >> 10).to_string()]).arg(program);
    shell
}

/// A daemon that was started. It ends with this value.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    launch: Launch,
    log: PathBuf,
}

impl Daemon {
    /// Starts it.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(launch: Launch) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = launch.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let log = launch.folder.join(format!("{name}-{}-{number}.log", std::process::id()));
        Self { process: launch.spawn(&log), launch, log }
    }

    /// SIGKILL.
    ///
    /// # Panics
    /// It cannot be sent.
    pub fn kill(&mut self) {
        self.process.kill().expect("kill the daemon");
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// It cannot be sent.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal).expect("send a signal");
    }

    /// Kills it and starts it again with the same settings and an empty log.
    ///
    /// # Panics
    /// One of the two fails.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.process = self.launch.spawn(&self.log);
    }

    /// SIGTERM; the exit code.
    ///
    /// # Panics
    /// It does not end within [`PATIENCE`].
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal(Signal::Term);
        self.exit_code()
    }

    /// Waits for its end; the exit code.
    ///
    /// # Panics
    /// It does not end within [`PATIENCE`].
    pub fn exit_code(&mut self) -> Option<i32> {
        self.process.wait(PATIENCE).expect("wait for the daemon").expect("the daemon ends").code()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.process.exited().expect("look at the daemon").is_none()
    }

    /// What it has logged since it was started (again).
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Peak of resident memory, in bytes.
    ///
    /// # Panics
    /// It has ended.
    pub fn peak_memory(&self) -> u64 {
        self.bytes_of("VmHWM:")
    }

    /// Peak of the address space, in bytes: what [`Launch::within`] limits.
    ///
    /// # Panics
    /// It has ended.
    pub fn peak_address_space(&self) -> u64 {
        self.bytes_of("VmPeak:")
    }

    /// A figure of the kernel's about the process.
    fn bytes_of(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.process.pid());
        let status = std::fs::read_to_string(path).expect("the daemon runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel tells");
        let kib = line.trim().strip_suffix("kB").and_then(|kib| kib.trim().parse::<u64>().ok());
        kib.expect("a number of kB") * 1024
    }

    /// A page of the admin port: status and body.
    ///
    /// # Panics
    /// It does not open the port, or does not answer, within [`PATIENCE`].
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut address = String::new();
        wait_until("the admin port", || {
            let log = self.log();
            let found =
                log.split("admin pages on http://").nth(1).and_then(|rest| rest.split_whitespace().next());
            address = found.unwrap_or_default().to_owned();
            !address.is_empty()
        });
        let mut stream = TcpStream::connect(&address).expect("the admin port is open");
        stream.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("ask");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("a status"), body.to_owned())
    }

    /// The sum of a metric's series whose labels contain `label`; `None` when there is none.
    ///
    /// # Panics
    /// As [`Daemon::get`].
    pub fn metric(&self, name: &str, label: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics");
        let lines =
            text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name) && line.contains(label));
        let values: Vec<f64> = lines.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }
}

impl Drop for Daemon {
    #[expect(clippy::print_stderr, reason = "the log of a test that failed is what explains it")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.process.log_tail(25));
        } else {
            drop(std::fs::remove_file(&self.log));
        }
    }
}
