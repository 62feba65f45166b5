//! A connection that stays open, for who asks often: one psql that is fed through a pipe.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, bail};

use super::psql::psql;

/// What is printed after the rows of a statement; nothing that a row could be.
const END: &str = "--end-of-rows--";
/// Of the connection: a statement that takes longer fails.
const OPTIONS: &str = "-c statement_timeout=60s";

/// See [`Database::session`](super::Database::session). It ends with this value, or with this process.
#[derive(Debug)]
pub struct Session {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Session {
    /// Connects to `postgres://…`.
    ///
    /// # Errors
    /// There is no psql, or no connection.
    pub fn open(url: &str) -> Result<Self> {
        let mut command = psql(url)?;
        command.env("PGOPTIONS", OPTIONS);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("start psql")?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let mut session = Self {
            child,
            input: input.context("psql has no input")?,
            output: BufReader::new(output.context("psql has no output")?),
        };
        session.rows("SELECT 1")?;
        Ok(session)
    }

    /// Runs one statement and gives its rows, columns separated by `|`. No value may have a line break.
    ///
    /// # Errors
    /// The statement fails (the message is Postgres' own) or takes more than a minute. The session is over then.
    pub fn rows(&mut self, statement: &str) -> Result<Vec<String>> {
        // One that has ended tells why; that its pipe is closed does not.
        let written = writeln!(self.input, "{statement};\n\\echo {END}").and_then(|()| self.input.flush());
        let mut rows = Vec::new();
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).context("read from psql")? == 0 {
                bail!("psql: {}", self.last_words());
            }
            match line.trim_end_matches('\n') {
                END => break,
                row => rows.push(row.to_owned()),
            }
        }
        written.context("write to psql")?;
        Ok(rows)
    }

    fn last_words(&mut self) -> String {
        let mut words = String::new();
        if let Some(mut errors) = self.child.stderr.take() {
            // What could be read before an error is what there is to report.
            drop(errors.read_to_string(&mut words));
        }
        words.trim().to_owned()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
