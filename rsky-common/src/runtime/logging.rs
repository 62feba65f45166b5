//! The tracing subscriber of a daemon.

use std::io::{IsTerminal as _, stdout};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

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
    let filter = EnvFilter::try_new(&config.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    let coloured = stdout().is_terminal();
    let installed = match config.format {
        LogFormat::Text => builder.with_ansi(coloured).with_writer(Lines { coloured }).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if installed.is_err() {
        tracing::debug!("logging was set up already");
    }
}

/// Most bytes of a log line.
const LINE: usize = 16 * 1024;

/// Writes each event as one line, whatever peers have put into its texts: a newline or a terminal's escape of theirs must
/// not look like a line of ours. (In JSON they are escaped anyway.)
#[derive(Clone, Copy, Debug)]
struct Lines {
    /// Whether escapes are the formatter's colours.
    coloured: bool,
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

impl std::io::Write for Lines {
    /// The formatter gives an event at a time, with its final newline.
    fn write(&mut self, event: &[u8]) -> std::io::Result<usize> {
        std::io::Write::write_all(
            &mut stdout().lock(),
            one_line(&String::from_utf8_lossy(event), self.coloured).as_bytes(),
        )?;
        Ok(event.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        stdout().lock().flush()
    }
}

fn one_line(event: &str, coloured: bool) -> String {
    let text = event.strip_suffix('\n').unwrap_or(event);
    let kept = text.get(..text.floor_char_boundary(LINE)).unwrap_or_default();
    let mut line = String::with_capacity(kept.len().saturating_add(1));
    for character in kept.chars() {
        if character.is_control() && !(coloured && character == '\u{1b}') {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    if kept.len() < text.len() {
        line.push_str(&format!("… ({} bytes)", text.len()));
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_of_bounded_length() {
        assert_eq!(one_line("a\nERROR forged\r\u{1b}[2Kb\n", false), "a\\nERROR forged\\r\\u{1b}[2Kb\n");
        assert_eq!(one_line("\u{1b}[32mINFO\u{1b}[0m a\nb\n", true), "\u{1b}[32mINFO\u{1b}[0m a\\nb\n");
        let long = one_line(&"x".repeat(100_000), false);
        assert!(long.len() < LINE + 64 && long.ends_with("(100000 bytes)\n"));
    }
}
