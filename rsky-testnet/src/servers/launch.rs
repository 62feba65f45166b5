//! What starting a server has in common, whichever it is: a folder, a port that nobody else takes first, and an answer.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::process::{Process, User};
use super::{ports, workdir};

/// New ports tried when somebody else was faster.
const PORT_ATTEMPTS: u32 = 5;
/// Pause between two questions whether it answers.
const POLL: Duration = Duration::from_millis(10);

/// Where a server has its data and its log.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    is_temporary: bool,
}

impl Folder {
    /// This one (created if need be, and left in place), or else a new one that is removed on drop; `user` owns it.
    pub(super) fn make(chosen: Option<&Path>, name: &str, user: Option<&User>) -> Result<Self> {
        let Some(chosen) = chosen else {
            return Ok(Self { path: workdir::fresh(name, user)?, is_temporary: true });
        };
        fs::create_dir_all(chosen)?;
        if user.is_some() {
            workdir::prepare(chosen, user)?;
        }
        Ok(Self { path: chosen.canonicalize()?, is_temporary: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_temporary {
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

/// A server that listens on a port it is given.
pub(super) trait Launch: Sized {
    /// Starts it on this port and waits until it answers.
    fn launch_on(&mut self, port: u16) -> Result<()>;

    /// Its process, if it has one.
    fn process(&mut self) -> &mut Option<Process>;

    /// Starts it on a port that was free, and on another one if somebody else was faster.
    fn launch(mut self) -> Result<Self> {
        for _ in 1..PORT_ATTEMPTS {
            match self.launch_on(ports::free_port()?) {
                Err(_) if lost_its_port(self.process().take()) => {}
                done => return done.map(|()| self),
            }
        }
        bail!("no port could be kept in {PORT_ATTEMPTS} attempts")
    }
}

fn lost_its_port(process: Option<Process>) -> bool {
    process.is_some_and(|process| process.log_tail(10).contains("Address already in use"))
}

/// Waits until a server says that it is there.
///
/// # Errors
/// It ended, or did not say so within `limit`; the message has the end of its log.
pub(super) fn until_it_answers(
    name: &str,
    process: &mut Process,
    limit: Duration,
    mut answers: impl FnMut() -> bool,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = process.exited()? {
            bail!("{name} ended at start ({status}): {}", process.log_tail(5));
        }
        if answers() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{name} does not answer after {limit:?}: {}", process.log_tail(5));
        }
        sleep(POLL);
    }
}
