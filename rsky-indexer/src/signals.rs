//! SIGINT and SIGTERM for a command that has something to tell at its end.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The first signal asks the command to end soon, the second ends it at once.
pub(crate) struct Signals {
    /// Cancelled by the first.
    pub(crate) stop: CancellationToken,
    /// Cancelled by the second.
    pub(crate) at_once: CancellationToken,
}

impl Signals {
    /// # Errors
    /// The system's.
    pub(crate) fn listen() -> io::Result<Self> {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let signals = Self { stop: CancellationToken::new(), at_once: CancellationToken::new() };
        let told = [signals.stop.clone(), signals.at_once.clone()];
        tokio::spawn(async move {
            for token in told {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = int.recv() => {}
                }
                token.cancel();
            }
        });
        Ok(signals)
    }
}
