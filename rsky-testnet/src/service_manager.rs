//! A socket in the place of systemd's: what a daemon tells its service manager.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::daemon::PATIENCE;

/// The receiving end of `NOTIFY_SOCKET`.
#[derive(Debug)]
pub struct ServiceManager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl ServiceManager {
    /// Opens the socket in `folder`, which must not be deep: such paths have a hundred bytes.
    ///
    /// # Panics
    /// It cannot be opened.
    pub fn open(folder: &Path, name: &str) -> Self {
        let path = folder.join(format!("{name}-{}.sock", std::process::id()));
        drop(std::fs::remove_file(&path));
        let socket = UnixDatagram::bind(&path).expect("bind the socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
        Self { socket, path }
    }

    /// The variables it gives to the daemon, with a watchdog of this time.
    pub fn environment(&self, watchdog: Duration) -> [(&'static str, String); 2] {
        let path = self.path.display().to_string();
        [("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", watchdog.as_micros().to_string())]
    }

    /// Waits for a line that begins with `beginning`; all lines up to there.
    ///
    /// # Panics
    /// Nothing comes within [`PATIENCE`], or only other things for a thousand messages.
    pub fn wait_for(&self, beginning: &str) -> Vec<String> {
        let mut lines = Vec::new();
        let mut buffer = [0; 4096];
        for _ in 0..1000 {
            let length = match self.socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => panic!("no {beginning:?} came: {error}; before: {lines:?}"),
            };
            let message = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
            let found = message.lines().any(|line| line.starts_with(beginning));
            lines.extend(message.lines().map(str::to_owned));
            if found {
                return lines;
            }
        }
        panic!("no {beginning:?} in {lines:?}");
    }
}

impl Drop for ServiceManager {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}
