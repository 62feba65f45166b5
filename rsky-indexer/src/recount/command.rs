//! The command around a recount: its settings, the signals that stop it, and what it prints.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use rsky_common::config::{ConfigError, Environment, Settings, Variable};
use rsky_common::postgres::PostgresSettings;
use rsky_common::runtime::daemon;
use sqlx::{Connection as _, PgConnection};

use super::progress::Progress;
use super::selection::{Arguments, Selection};
use super::{MAX_PAGE, Options, Outcome};
use crate::config::{DATABASE_SCHEMA, DATABASE_STATEMENT_CACHE, DATABASE_URL, database};
use crate::database::{self, Inspected};
use crate::signals::Signals;

/// The exit code of a recount that was told to stop before its end.
pub const EXIT_STOPPED: u8 = 130;

/// How long a connection may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(5);

/// The variables it reads, a part of the daemon's, for `--help`; the others (Redis above all) are not asked for.
pub fn variables() -> Vec<&'static Variable> {
    vec![&DATABASE_URL, &DATABASE_SCHEMA, &DATABASE_STATEMENT_CACHE]
}

fn settings(environment: Environment) -> Result<PostgresSettings, ConfigError> {
    let mut settings = Settings::new(environment);
    let read = database(&mut settings);
    settings.finish(read)
}

/// Runs it as a process: figures on standard output, progress and errors on standard error. The code is 0 when everything
/// was done, [`EXIT_STOPPED`] when it was stopped, 1 after an error and 2 where the arguments make no sense.
pub fn run(arguments: Arguments, environment: Environment) -> ExitCode {
    let selection = match arguments.selection() {
        Ok(selection) => selection,
        Err(error) => return complain(&error, ExitCode::from(2)),
    };
    let settings = match settings(environment) {
        Ok(settings) => settings,
        Err(error) => return complain(&error.to_string(), ExitCode::FAILURE),
    };
    daemon::install_crypto();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("cannot start the runtime: {error}"), ExitCode::FAILURE),
    };
    match runtime.block_on(Box::pin(recount(&settings, &selection))) {
        Ok(outcome) => report(&outcome),
        Err(error) => complain(&format!("{error:#}"), ExitCode::FAILURE),
    }
}

async fn recount(settings: &PostgresSettings, selection: &Selection) -> anyhow::Result<Outcome> {
    // The step at hand is rolled back by Postgres as soon as it notices that nobody is there any more.
    let signals = Signals::listen().context("cannot listen for signals")?;
    let server = database::server(settings)?;
    let mut connection: PgConnection = server.connect().await.context("connect to Postgres")?;
    let Inspected { preamble, persistent, .. } = database::inspect(&server, &mut connection).await?;
    let mut stderr = io::stderr();
    let is_terminal = stderr.is_terminal();
    let mut progress = Progress::new(&mut stderr, is_terminal);
    let options = Options { persistent, preamble, page: MAX_PAGE };
    let outcome = tokio::select! {
        outcome = super::recount(&mut connection, options, selection, &signals.stop, &mut progress) => outcome,
        () = signals.at_once.cancelled() => {
            progress.end();
            let (figures, resume_after) = (progress.figures(), progress.place());
            return Ok(Outcome { figures, stopped: true, resume_after });
        }
    };
    progress.end();
    // What matters has been committed.
    drop(tokio::time::timeout(FAREWELL, connection.close()).await);
    outcome
}

fn report(outcome: &Outcome) -> ExitCode {
    let figures = outcome.figures;
    let mut text = format!("{} rows looked at, {} wrong and put right\n", figures.looked_at, figures.wrong);
    if let Some(place) = &outcome.resume_after {
        text.push_str(&format!("stopped; go on with: indexer recount --all --resume-after '{place}'\n"));
    } else if outcome.stopped {
        text.push_str("stopped before the end; run it again\n");
    }
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&error.to_string(), ExitCode::FAILURE)
        }
        _ if outcome.stopped => ExitCode::from(EXIT_STOPPED),
        _ => ExitCode::SUCCESS,
    }
}

#[expect(clippy::print_stderr, reason = "a command for people; nothing is logged here")]
fn complain(error: &str, code: ExitCode) -> ExitCode {
    eprintln!("indexer recount: {error}");
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<PostgresSettings, ConfigError> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        settings(Environment::from_pairs(pairs))
    }

    #[test]
    fn redis_is_not_asked_for() {
        let settings = read(&[("DB_POSTGRES_URL", "postgres://h/d"), ("DATABASE_SCHEMA", "bsky")]).unwrap();
        assert_eq!((settings.schema.as_deref(), settings.statement_cache), (Some("bsky"), 100));
        let said = read(&[]).err().unwrap().to_string();
        assert!(said.contains("DATABASE_URL") && !said.contains("REDIS"), "{said}");
    }
}
