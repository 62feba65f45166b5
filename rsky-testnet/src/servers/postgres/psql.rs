//! Statements through the command line client: no driver, no runtime.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::super::install;
use super::super::process::run;

/// Time for one call of psql; a COPY of a benchmark's tables takes seconds.
const LIMIT: Duration = Duration::from_secs(600);

/// Runs one or more statements as `psql -c` does (several in one transaction) and gives the rows, columns separated
/// by `|`, without the last newline.
///
/// # Errors
/// No connection within 10 s, a statement fails (the message is Postgres' own), or 10 minutes have passed.
pub fn sql(url: &str, statement: &str) -> Result<String> {
    sql_within(url, statement, LIMIT)
}

pub(super) fn sql_within(url: &str, statement: &str, limit: Duration) -> Result<String> {
    let mut psql = psql(url)?;
    psql.args(["-c", statement]);
    Ok(run(psql, limit)?.trim_end_matches('\n').to_owned())
}

/// Applies SQL files in the given order, all in one transaction.
pub(super) fn apply(url: &str, files: &[PathBuf]) -> Result<()> {
    let mut psql = psql(url)?;
    psql.arg("--single-transaction");
    for file in files {
        psql.arg("-f").arg(file);
    }
    run(psql, LIMIT)?;
    Ok(())
}

pub(super) fn psql(url: &str) -> Result<Command> {
    let mut psql = Command::new(install::postgres()?.psql);
    psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url]).env("PGCONNECT_TIMEOUT", "10");
    Ok(psql)
}
