//! The tracing subscriber of a daemon.

use tracing_subscriber::EnvFilter;

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Filter directives in `tracing`'s syntax; checked by [`LogConfig::checked_filter`].
    pub filter: String,
    /// The shape of a line.
    pub format: LogFormat,
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; coloured when standard output is a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogConfig {
    /// The filter if it can be parsed.
    pub fn checked_filter(text: &str) -> Option<String> {
        EnvFilter::try_new(text).ok().map(|_| text.to_owned())
    }
}

/// Installs the subscriber. A second call in one process changes nothing.
pub fn init(config: &LogConfig) {
    use std::io::IsTerminal;
    let filter = EnvFilter::try_new(&config.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    let installed = match config.format {
        LogFormat::Text => builder.with_ansi(std::io::stdout().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if installed.is_err() {
        tracing::debug!("logging was set up already");
    }
}
