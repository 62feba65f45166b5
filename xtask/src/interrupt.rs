//! Ctrl-C, SIGTERM and SIGHUP end a command in order; a second one ends it at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

static SEEN: AtomicBool = AtomicBool::new(false);

/// The command was ended by a signal.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Starts to listen for signals, for the rest of the process.
pub(crate) fn watch() {
    std::thread::spawn(|| {
        if let Err(error) = listen() {
            eprintln!("signals are not handled: {error}");
        }
    });
}

fn listen() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            if SEEN.swap(true, Ordering::SeqCst) {
                // The kernel ends the servers and daemons with us.
                std::process::exit(130);
            }
            eprintln!("\nstopping; once more to stop at once");
        }
    })
}

/// `Err(Interrupted)` once a signal was seen.
pub(crate) fn check() -> anyhow::Result<()> {
    if SEEN.load(Ordering::SeqCst) { Err(Interrupted.into()) } else { Ok(()) }
}

/// Sleeps, but not past a signal.
pub(crate) fn sleep(duration: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + duration;
    loop {
        check()?;
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}
