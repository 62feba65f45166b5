//! `cargo xtask up`: the whole pipeline on this machine.

mod drained;
mod live;
mod pipeline;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use self::drained::Drained;
pub(crate) use self::drained::past_is_over;
use self::live::Live;
pub(crate) use self::pipeline::Pipeline;
use crate::interrupt;

/// What to look at when a replay is over.
const NEXT: &str = "
next: cargo xtask up         a network in which things happen now: open the three pages it names
      docs/ARCHITECTURE.md   how an event travels
      README.md              \"Running it for real\"";
/// What to look at while it runs.
const MEANWHILE: &str = "\
Open the first address of each daemon in a browser: whether all is well, the pipeline as a
picture, the last half hour. Ctrl-C ends it.
";

#[derive(Args)]
pub(crate) struct Options {
    /// A relay to follow instead of the simulated network; may be given several times
    #[arg(long, value_name = "URL")]
    pub(crate) relay: Vec<String>,
    /// A labeler to follow instead of the simulated one
    #[arg(long, value_name = "URL")]
    pub(crate) labeler: Option<String>,
    /// Replay a recording until everything has drained, print the row counts, and end
    #[arg(long, conflicts_with_all = ["relay", "labeler"])]
    pub(crate) once: bool,
    /// A recording to replay; with --once that of the repository when absent
    #[arg(long, value_name = "PATH", conflicts_with = "relay")]
    pub(crate) corpus: Option<PathBuf>,
    /// With --once: how long draining may take
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "once")]
    pub(crate) limit: u64,
    /// Take the binaries in this folder instead of building them in release mode
    #[arg(long, value_name = "FOLDER")]
    pub(crate) binaries: Option<PathBuf>,
}

/// Where events come from.
pub(crate) enum Source {
    /// Relays that were named.
    Real,
    /// A simulated network that goes on.
    World,
    /// A recording, which ends.
    Replay,
}

impl Options {
    pub(crate) fn source(&self) -> Source {
        if !self.relay.is_empty() {
            Source::Real
        } else if self.once || self.corpus.is_some() {
            Source::Replay
        } else {
            Source::World
        }
    }

    /// Those of the simulated network.
    pub(crate) fn world() -> Self {
        Self { relay: Vec::new(), labeler: None, once: false, corpus: None, limit: 300, binaries: None }
    }
}

/// Runs the pipeline until Ctrl-C, or with `--once` until it has drained.
///
/// # Errors
/// Something could not be built or started, a daemon has died, or with `--once` something was left.
pub(crate) fn up(options: &Options) -> Result<()> {
    let mut pipeline = Pipeline::start(options)?;
    println!("{}", pipeline.addresses());
    if !options.once {
        println!("{MEANWHILE}");
    }
    let outcome = follow(&mut pipeline, options);
    let ended_by_signal = outcome.as_ref().is_err_and(|error| error.is::<interrupt::Interrupted>());
    let stopped = pipeline.stop();
    match outcome {
        // Ctrl-C is how a run without --once ends, so it is a success if everything stopped cleanly.
        Err(_) if ended_by_signal && !options.once => stopped,
        Err(error) => Err(error),
        Ok(()) => stopped,
    }
}

fn follow(pipeline: &mut Pipeline, options: &Options) -> Result<()> {
    let started = Instant::now();
    let mut live = Live::new(started);
    loop {
        interrupt::sleep(Duration::from_secs(1))?;
        pipeline.check()?;
        println!("{}", live.line(pipeline)?);
        if !options.once {
            continue;
        }
        let state = Drained::look(pipeline)?;
        if state.is_complete() {
            println!("\ndrained after {} s\n{}", started.elapsed().as_secs(), pipeline.row_counts()?);
            println!("{}\n{}", state.note(), NEXT);
            return Ok(());
        }
        if started.elapsed() > Duration::from_secs(options.limit) {
            println!("\n{}", pipeline.row_counts()?);
            anyhow::bail!("not drained after {} s: {}", options.limit, state.missing());
        }
    }
}
