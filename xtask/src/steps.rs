//! Programs that run in the foreground: cargo and its like.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rsky_testnet::servers::{self, target_dir};

use crate::interrupt;

/// How long a step may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// The root of the workspace.
pub(crate) fn workspace() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().unwrap_or(root)
}

/// The cargo that runs us, in the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = servers::command(program, None);
    // What `cargo run` tells us about ourselves; build scripts that look at such variables (ring's) would run again
    // at every change between `cargo xtask` and plain cargo.
    let ours =
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_NAME", "CARGO_BIN_NAME", "CARGO_PRIMARY_PACKAGE"];
    for (name, _) in std::env::vars_os() {
        if ours.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    cargo.current_dir(workspace()).args(arguments);
    cargo
}

/// The folder of `--binaries`, for the life of the process.
static GIVEN: OnceLock<PathBuf> = OnceLock::new();

/// Takes the binaries of this folder, if there is one, instead of building them.
pub(crate) fn take_binaries_from(folder: Option<&Path>) {
    if let Some(folder) = folder {
        GIVEN.get_or_init(|| folder.to_owned());
    }
}

/// Where the binaries are.
pub(crate) fn binaries() -> PathBuf {
    GIVEN.get().cloned().unwrap_or_else(|| target_dir().join("release"))
}

/// Builds the daemons and the simulated network in release mode, unless there are others to take.
///
/// # Errors
/// The build fails.
pub(crate) fn build_release(packages: &[&str]) -> Result<()> {
    if GIVEN.get().is_some() {
        return Ok(());
    }
    println!("building {} (release)", packages.join(", "));
    let mut build = cargo(&["build", "--release", "--bins"]);
    for package in packages {
        build.args(["--package", package]);
    }
    let status = run(build)?;
    if !status.success() {
        bail!("the release build failed ({status})");
    }
    Ok(())
}

/// The path of a binary that [`build_release`] made, or that is taken instead.
///
/// # Errors
/// It is not there.
pub(crate) fn release_binary(name: &str) -> Result<PathBuf> {
    let path = binaries().join(name);
    path.canonicalize().with_context(|| format!("{} has not been built", path.display()))
}

/// Runs a command on our terminal to its end; a signal to us ends it and everything it started.
///
/// # Errors
/// It cannot be started, or we were interrupted.
pub(crate) fn run(command: Command) -> Result<ExitStatus> {
    run_until(command, None)?.context("a command without a time limit was ended by it")
}

/// As [`run`], and ended in the same way when it takes longer than `limit`: `None` then.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_within(command: Command, limit: Duration) -> Result<Option<ExitStatus>> {
    run_until(command, Instant::now().checked_add(limit))
}

fn run_until(mut command: Command, until: Option<Instant>) -> Result<Option<ExitStatus>> {
    // Its own process group, so that the tests below cargo can be ended with it, and Ctrl-C is ours to act on.
    command.process_group(0).stdin(Stdio::null());
    let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if let Err(interrupted) = interrupt::sleep(Duration::from_millis(50)) {
            end_group(&mut child)?;
            return Err(interrupted);
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            end_group(&mut child)?;
            return Ok(None);
        }
    }
}

/// SIGTERM, and SIGKILL after a while.
fn end_group(child: &mut Child) -> Result<()> {
    signal_group("TERM", child.id());
    let deadline = Instant::now() + GRACE;
    while child.try_wait()?.is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    signal_group("KILL", child.id());
    child.wait()?;
    Ok(())
}

fn signal_group(signal: &str, group: u32) {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!("kill -s {signal} -{group}")]).stderr(Stdio::null());
    // A group that is gone needs no signal.
    drop(shell.status());
}
