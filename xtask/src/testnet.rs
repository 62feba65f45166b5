//! The simulated network as a child process.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rsky_testnet::network::corpus::{Corpus, recorded};
use rsky_testnet::network::frames::peek;
use rsky_testnet::servers::free_port;

use crate::daemons::Daemon;
use crate::interrupt;

/// How long the network may take until it answers: load is generated first.
const START_LIMIT: Duration = Duration::from_secs(120);
/// The frame types that move the ingester's position (PIPELINE 4.2 and 5).
const FIREHOSE_TYPES: [&str; 3] = ["#commit", "#account", "#identity"];
const LABELER_TYPES: [&str; 1] = ["#labels"];

/// Where a recording ends: the positions the ingester has when it has read all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recording {
    /// Last seq of the firehose; 0 without one.
    pub(crate) last_seq: u64,
    /// Last seq of the labeler; 0 without one.
    pub(crate) last_label_seq: u64,
}

impl Recording {
    /// # Errors
    /// The folder has no frames, or cannot be read.
    fn read(folder: &Path) -> Result<Self> {
        let corpus =
            Corpus::read(folder).with_context(|| format!("read the recording {}", folder.display()))?;
        Ok(Self {
            last_seq: last_of(&corpus.firehose, &FIREHOSE_TYPES),
            last_label_seq: last_of(&corpus.labels, &LABELER_TYPES),
        })
    }
}

/// The seq of the last frame of one of these types.
fn last_of<F: AsRef<[u8]>>(frames: &[F], types: &[&str]) -> u64 {
    let seq = |frame: &F| {
        let found = peek(frame.as_ref());
        found.seq.filter(|_| found.t.is_some_and(|t| types.contains(&t.as_str())))
    };
    frames.iter().rev().find_map(seq).unwrap_or(0)
}

/// How a load is sent.
pub(crate) struct Paced<'a> {
    /// Commits a second.
    pub(crate) rate: u32,
    /// The file in which the network writes down when it sent records.
    pub(crate) notes: &'a Path,
    /// Of the created records, every how many-th is written down.
    pub(crate) every: u32,
}

/// A world to look at: events a second, how many, and how many of them its relay keeps. They last for half a day.
const WORLD: [&str; 8] = ["simulate", "--clock", "--rate", "20", "--live", "1000000", "--retention", "20000"];

/// A running simulated network.
pub(crate) struct Testnet {
    process: Daemon,
    url: String,
    recording: Option<Recording>,
}

impl Testnet {
    /// Serves a recording; by default that of the repository.
    pub(crate) fn replay(corpus: Option<&Path>, logs: &Path) -> Result<Self> {
        let folder = corpus.map_or_else(recorded, Path::to_path_buf);
        let recording = Recording::read(&folder)?;
        Self::start(&["replay", &folder.to_string_lossy()], Some(recording), logs)
    }

    /// Serves a made-up world in which things happen now.
    pub(crate) fn world(logs: &Path) -> Result<Self> {
        Self::start(&WORLD, None, logs)
    }

    /// Serves `count` generated repositories.
    pub(crate) fn repos(count: usize, logs: &Path) -> Result<Self> {
        Self::start(&["repos", "--count", &count.to_string()], None, logs)
    }

    /// Serves `commits` generated commits as fast as they are read.
    pub(crate) fn load(commits: u64, seed: u64, logs: &Path) -> Result<Self> {
        let arguments = ["load", "--frames", &commits.to_string(), "--seed", &seed.to_string()];
        Self::start(&arguments, None, logs)
    }

    /// Serves `commits` generated commits, no two alike, at a given rate.
    pub(crate) fn paced_load(commits: u64, seed: u64, paced: &Paced<'_>, logs: &Path) -> Result<Self> {
        let notes = paced.notes.to_string_lossy();
        let [commits, seed, rate, every] =
            [commits, seed, u64::from(paced.rate), u64::from(paced.every)].map(|number| number.to_string());
        let load = ["load", "--frames", &commits, "--ring", &commits, "--seed", &seed, "--rate", &rate];
        let noted = ["--notes", &notes, "--note-every", &every];
        Self::start(&[load.as_slice(), &noted].concat(), None, logs)
    }

    fn start(arguments: &[&str], recording: Option<Recording>, logs: &Path) -> Result<Self> {
        let port = free_port()?;
        let text = port.to_string();
        let mut all = arguments.to_vec();
        all.extend(["--port", &text]);
        let mut process = Daemon::start("rsky-testnet", logs, &all, &[])?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            process.check()?;
            if Instant::now() > deadline {
                bail!("the simulated network does not answer after {START_LIMIT:?}");
            }
            interrupt::sleep(Duration::from_millis(10))?;
        }
        Ok(Self { process, url: format!("http://127.0.0.1:{port}"), recording })
    }

    /// `http://127.0.0.1:<port>`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The host as in the names of cursor keys: without scheme.
    pub(crate) fn host(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// What is replayed; `None` when it is made up.
    pub(crate) fn recording(&self) -> Option<&Recording> {
        self.recording.as_ref()
    }

    /// Id of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// # Errors
    /// It has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.process.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recording_ends_where_the_reference_had_read_it() {
        let recording = Recording::read(&recorded()).unwrap();
        assert_eq!(recording, Recording { last_seq: 1804, last_label_seq: 39 });
    }
}
