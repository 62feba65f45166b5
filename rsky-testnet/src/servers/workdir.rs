//! Data directories of servers, and the removal of those a killed process left behind.
//!
//! Every process holds a locked file in its own run directory for as long as it lives; a run directory whose lock can
//! be taken belongs to nobody and is removed by the next process that starts a server.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use super::process::{User, command, effective_uid, run};

/// The run directories this process holds, with their locks.
static RUNS: Mutex<Vec<(PathBuf, File)>> = Mutex::new(Vec::new());
static NEXT: AtomicU32 = AtomicU32::new(0);

/// The build directory: `CARGO_TARGET_DIR`, else `target/` of the workspace.
pub fn target_dir() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let workspace = workspace.canonicalize().unwrap_or(workspace);
    workspace
        .join(std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from))
}

/// A new directory `<name>-<n>` which `user` (default: we) owns and can reach: under the build directory, or under
/// the system's temporary directory where that user may not enter the former.
pub(super) fn fresh(name: &str, user: Option<&User>) -> Result<PathBuf> {
    let mut refused = None;
    let temporary = format!("rsky-servers-{}", effective_uid().unwrap_or(0));
    for root in [target_dir().join("servers"), std::env::temp_dir().join(temporary)] {
        match fresh_under(&root, name, user) {
            Ok(directory) => return Ok(directory),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| anyhow::anyhow!("no place for server data")))
}

/// Waits for a lock that all processes which share the build directory respect, until the value is dropped.
pub(super) fn lock(name: &str) -> Result<File> {
    let root = target_dir().join("servers");
    fs::create_dir_all(&root).with_context(|| format!("create {}", root.display()))?;
    let file = File::create(root.join(format!(".{name}.lock")))?;
    file.lock()?;
    Ok(file)
}

fn fresh_under(root: &Path, name: &str, user: Option<&User>) -> Result<PathBuf> {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let directory = run_directory(root)?.join(format!("{name}-{number}"));
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    prepare(&directory, user).inspect_err(|_| drop(fs::remove_dir_all(&directory)))?;
    Ok(directory)
}

/// Gives an existing directory to `user` and checks that they can write there.
pub(super) fn prepare(directory: &Path, user: Option<&User>) -> Result<()> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    let Some(user) = user else { return Ok(()) };
    chown(directory, Some(user.uid), Some(user.gid))
        .with_context(|| format!("chown {}", directory.display()))?;
    let mut probe = command("/bin/sh", Some(user));
    probe.current_dir("/").args(["-c", "cd \"$0\" && test -w ."]).arg(directory);
    run(probe, std::time::Duration::from_secs(10))
        .with_context(|| format!("user {} cannot use {}", user.name, directory.display()))?;
    Ok(())
}

/// The run directory of this process under `root`, created (and abandoned ones removed) at the first call.
fn run_directory(root: &Path) -> Result<PathBuf> {
    let mut runs = RUNS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((held, _)) = runs.iter().find(|(held, _)| held.parent() == Some(root)) {
        return Ok(held.clone());
    }
    fs::create_dir_all(root).with_context(|| format!("create {}", root.display()))?;
    let guard = File::create(root.join(".lock"))?;
    guard.lock()?;
    remove_abandoned(root);
    let run = root.join(format!("run-{}", std::process::id()));
    fs::create_dir_all(&run)?;
    fs::set_permissions(&run, fs::Permissions::from_mode(0o711))?;
    let lock = File::create(run.join("lock"))?;
    lock.lock()?;
    runs.push((run.clone(), lock));
    Ok(run)
}

/// Removes the run directories of processes that are gone. Errors are of no consequence: the next start tries again.
fn remove_abandoned(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("run-")) {
        let abandoned = File::open(entry.path().join("lock")).is_ok_and(|lock| lock.try_lock().is_ok());
        if abandoned {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}
