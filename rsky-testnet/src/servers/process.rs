//! Child processes that can be signalled, paused and waited for, and that never outlive us.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How often the state of a child is looked at while waiting.
const POLL: Duration = Duration::from_millis(5);
/// How long a process may take to end that was killed, on a very busy machine.
const KILL_LIMIT: Duration = Duration::from_secs(60);

/// The signals servers and daemons are driven with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the signals say it")]
pub enum Signal {
    Term,
    Int,
    Kill,
    Stop,
    Cont,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Int => "INT",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Cont => "CONT",
        }
    }
}

/// A user of this machine, from /etc/passwd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Numeric user id.
    pub uid: u32,
    /// Numeric id of the user's first group.
    pub gid: u32,
}

impl User {
    /// Whom Postgres runs as: `None` (ourselves) unless we are root, which Postgres refuses; then `postgres`, or
    /// `nobody` where that user is missing.
    pub fn for_postgres() -> Result<Option<Self>> {
        if !am_root() {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| Self::parse(&passwd, name))
            .map(Some)
            .context("neither a user postgres nor nobody exists, and Postgres does not run as root")
    }

    fn parse(passwd: &str, name: &str) -> Option<Self> {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let found = fields.next()?;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            (found == name).then(|| Self { name: name.to_owned(), uid, gid })
        })
    }
}

/// Our effective user id; `None` where /proc does not say.
pub(super) fn effective_uid() -> Option<u32> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    uids.split_whitespace().nth(1)?.parse().ok()
}

/// Whether our effective user is root.
pub(super) fn am_root() -> bool {
    effective_uid() == Some(0)
}

/// A command for `program`, as `user` if given, which the kernel kills when we die (where `setpriv` exists).
pub fn command(program: impl AsRef<OsStr>, user: Option<&User>) -> Command {
    let setpriv = super::install::find_in_path("setpriv");
    let mut words: Vec<std::ffi::OsString> = Vec::new();
    match (user, &setpriv) {
        (Some(user), Some(setpriv)) => {
            words.push(setpriv.into());
            words.extend([
                format!("--reuid={}", user.uid).into(),
                format!("--regid={}", user.gid).into(),
                "--clear-groups".into(),
                "--".into(),
            ]);
        }
        (Some(user), None) => {
            let runuser = ["runuser".into(), "-u".into(), user.name.clone().into(), "--".into()];
            words.extend(runuser);
        }
        (None, _) => {}
    }
    // A second setpriv, because the kernel forgets the death signal when the user changes.
    if let Some(setpriv) = setpriv {
        words.extend([setpriv.into(), "--pdeathsig=KILL".into(), "--".into()]);
    }
    words.push(program.as_ref().to_owned());
    let mut words = words.into_iter();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}

/// Runs a short command to its end and gives its standard output.
///
/// # Errors
/// It cannot be started, does not end within `limit` (it is killed then), or ends unsuccessfully; the error carries
/// its standard error output.
pub fn run(mut command: Command, limit: Duration) -> Result<String> {
    let name = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = spawn(command).with_context(|| format!("start {name}"))?;
    let output = collect(child, limit).with_context(|| format!("run {name}"))?;
    if !output.status.success() {
        bail!("{name}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn collect(mut child: Child, limit: Duration) -> Result<Output> {
    let stdout = read_aside(child.stdout.take());
    let stderr = read_aside(child.stderr.take());
    let deadline = Instant::now() + limit;
    let mut poll = Duration::from_millis(1);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("not done within {limit:?}");
        }
        std::thread::sleep(poll);
        poll = (poll * 2).min(Duration::from_millis(20));
    };
    let join = |reader: std::thread::JoinHandle<Vec<u8>>| reader.join().unwrap_or_default();
    Ok(Output { status, stdout: join(stdout), stderr: join(stderr) })
}

fn read_aside(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What could be read before an error is what there is to report.
            drop(pipe.read_to_end(&mut bytes));
        }
        bytes
    })
}

type Order = (Command, SyncSender<io::Result<Child>>);

/// Starts a child from a thread that lives as long as the process: the kernel's death signal is bound to the
/// *thread* that forked, and the thread of a single test ends long before the test binary does.
fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<SyncSender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = sync_channel::<Order>(1);
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                // An asker that is gone needs no answer, and its child was never seen: end it.
                if let Err(lost) = answer.send(command.spawn())
                    && let Ok(mut child) = lost.0
                {
                    drop(child.kill());
                }
            }
        });
        orders
    });
    let (answer, result) = sync_channel(1);
    spawner.send((command, answer)).map_err(io::Error::other)?;
    result.recv().map_err(io::Error::other)?
}

/// A running (or ended) child with a log file, killed with its own children on drop.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` in a process group of its own (Ctrl-C reaches us, and we decide), its output appended to
    /// `log`.
    pub fn spawn(mut command: Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log);
        let file = file.with_context(|| format!("open {}", log.display()))?;
        command.process_group(0).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let name = format!("{command:?}");
        let child = spawn(command).with_context(|| format!("start {name}"))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// The process id; it stays ours until the exit was collected, so signals cannot hit a stranger.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, `None` while it runs.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits up to `limit` for the end; `None` when it still runs then.
    pub fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        loop {
            match self.exited()? {
                Some(status) => return Ok(Some(status)),
                None if Instant::now() > deadline => return Ok(None),
                None => std::thread::sleep(POLL),
            }
        }
    }

    /// Sends a signal to the process itself; nothing happens when it has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.exited()?.is_none() { send(signal, &[self.pid()]) } else { Ok(()) }
    }

    /// Sends a signal to the process and its direct children (the backends of Postgres). The parent comes first when
    /// stopping, so that it cannot start new ones meanwhile. To be killed is as by [`Process::kill`].
    pub fn signal_all(&mut self, signal: Signal) -> Result<()> {
        if self.exited()?.is_some() {
            return Ok(());
        }
        let pid = self.pid();
        match signal {
            Signal::Cont => {
                send(signal, &children(pid))?;
                send(signal, &[pid])
            }
            Signal::Kill => self.kill(),
            Signal::Term | Signal::Int | Signal::Stop => {
                send(signal, &[pid])?;
                send(signal, &children(pid))
            }
        }
    }

    /// Kills the process and its children, and waits until all of them have ended: a backend that takes its time, on a busy
    /// machine, keeps the next Postgres from starting.
    pub fn kill(&mut self) -> Result<()> {
        if self.exited()?.is_some() {
            return Ok(());
        }
        let pid = self.pid();
        // It cannot start new ones meanwhile.
        send(Signal::Stop, &[pid])?;
        let children = children(pid);
        let all: Vec<u32> = children.iter().copied().chain([pid]).collect();
        send(Signal::Kill, &all)?;
        self.child.wait()?;
        let until = Instant::now() + KILL_LIMIT;
        while let Some(child) = children.iter().find(|child| runs(**child)) {
            ensure!(Instant::now() < until, "process {child} has not ended though it was killed");
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// The last `lines` lines of the log.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exited().is_ok_and(|status| status.is_none()) && self.kill().is_err() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// The direct children of a process.
fn children(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Whether a process has not ended. One that nobody has waited for has.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before the state may have anything in it, brackets too.
    let state = stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim_start());
    !state.is_empty() && !state.starts_with(['Z', 'X'])
}

/// Signals through the shell's own `kill`, which exists everywhere and needs no unsafe code. Of several processes
/// some may be gone already.
fn send(signal: Signal, pids: &[u32]) -> Result<()> {
    if pids.is_empty() {
        return Ok(());
    }
    let list = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!("kill -s {} {list}", signal.name())]).stderr(Stdio::null());
    let status = shell.status().context("start /bin/sh")?;
    if !status.success() && pids.len() == 1 {
        bail!("cannot send SIG{} to process {list}", signal.name());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_user_by_whole_name() {
        let passwd = "postgresx:x:1:2::/:/bin/sh\npostgres:x:101:104:admin:/var:/bin/bash\nbroken\n";
        let user = User::parse(passwd, "postgres").unwrap();
        assert_eq!((user.uid, user.gid), (101, 104));
        assert!(User::parse(passwd, "nobody").is_none());
    }

    #[test]
    fn what_is_killed_has_ended_with_its_children() {
        let mut shell = command("/bin/sh", None);
        shell.args(["-c", "sleep 1000 & sleep 1000; :"]);
        let folder = super::super::workdir::fresh("process", None).unwrap();
        let mut process = Process::spawn(shell, &folder.join("log")).unwrap();
        let pid = process.pid();
        while children(pid).len() < 2 {
            std::thread::sleep(POLL);
        }
        let children = children(pid);
        assert!(children.iter().all(|child| runs(*child)));
        process.kill().unwrap();
        assert!(!children.iter().any(|child| runs(*child)));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn run_reports_output_failure_and_timeout() {
        let shell = |script: &str| {
            let mut shell = command("/bin/sh", None);
            shell.args(["-c", script]);
            shell
        };
        assert_eq!(run(shell("echo out"), Duration::from_secs(5)).unwrap(), "out\n");
        let failed = run(shell("echo why >&2; exit 3"), Duration::from_secs(5)).unwrap_err();
        assert!(format!("{failed:#}").contains("why"), "{failed:#}");
        let started = Instant::now();
        let late = run(shell("exec sleep 60"), Duration::from_millis(100)).unwrap_err();
        assert!(format!("{late:#}").contains("not done"), "{late:#}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
