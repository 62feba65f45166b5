//! `indexer inspect`: where a record or an account is, and what mends it if it is not where it should be.
//!
//! ```text
//! target ─┬─ pds      what its PDS says
//!         ├─ tables   what stands in the tables
//!         └─ streams  what waits, is put off, or was given up      ─► facts ─► verdict ─► report
//! ```
//!
//! Read only. The three are asked side by side, each with limits of its own, and what one does not answer is a fact like
//! the others.

mod facts;
mod pds;
mod report;
mod settings;
mod streams;
mod tables;
mod target;
mod verdict;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use rsky_common::config::{self, Environment};
use rsky_common::runtime::daemon;

use crate::pipeline::NAME;
use facts::{Asked, Facts};
use settings::Settings;
use target::Target;
use verdict::State;

/// Exit code when something is not where it should be (yet).
const EXIT_AMISS: u8 = 3;

/// Says where a record or an account is: at its PDS, in the tables, waiting in a stream, or given up; and what mends it.
///
/// Changes nothing. Streams are searched from their oldest entry on, in small steps, as far as --limit; how far is shown.
///
/// Exit code 0: it is where it should be; 3: it is not, or not yet; 1: that could not be found out; 64: the settings are not
/// usable.
#[derive(Debug, Args)]
#[command(after_long_help = config::help(Settings::variables()))]
pub struct Inspect {
    /// A DID, a handle, or the at-uri of a record.
    what: String,
    /// Prints the facts and the verdict as JSON.
    #[arg(long)]
    json: bool,
    /// Entries that are looked at of each stream.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
}

/// Runs the command to its end.
#[expect(clippy::print_stderr, reason = "a command for people; nothing is logged here")]
pub fn run(command: &Inspect, environment: Environment) -> ExitCode {
    let settings = match Settings::read(environment) {
        Ok(settings) => settings,
        Err(error) => return daemon::refuse(NAME, &error),
    };
    daemon::install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let outcome = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(Box::pin(inspect(command, &settings))));
    match outcome {
        Ok(State::InOrder) => ExitCode::SUCCESS,
        Ok(State::Waits | State::Amiss) => ExitCode::from(EXIT_AMISS),
        Ok(State::Unknown) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("indexer inspect: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn inspect(command: &Inspect, settings: &Settings) -> anyhow::Result<State> {
    let target = Target::parse(&command.what)?;
    let mut tables = tables::open(settings).await;
    let did = match target.did(&settings.network).await {
        Ok(did) => did,
        // A handle that leads nowhere now may stand in the tables.
        Err(error) => tables.did_of_handle(&target.name).await.ok().flatten().ok_or(error)?,
    };
    let path = target.path;
    let to_terminal = io::stderr().is_terminal();
    let (pds, tables, streams) = tokio::join!(
        pds::ask(&did, path.as_ref(), &settings.network),
        tables.ask(&did, path.as_ref()),
        streams::search(settings, &did, path.as_ref(), command.limit, to_terminal),
    );
    // By then others should have taken an entry over.
    let long_ms = u64::try_from(settings.claim_idle.as_millis()).unwrap_or(u64::MAX).saturating_mul(2);
    let facts = Facts { did, path, pds, tables: Asked::of(tables), streams, long_ms };
    let verdict = verdict::judge(&facts);
    let mut out = io::stdout().lock();
    let written = if command.json {
        let json = serde_json::json!({ "facts": facts, "verdict": verdict });
        serde_json::to_writer_pretty(&mut out, &json).map_err(io::Error::from).and_then(|()| writeln!(out))
    } else {
        report::write(&mut out, &facts, &verdict)
    };
    match written.and_then(|()| out.flush()) {
        // A closed pipe (`| head`) is the reader's way of saying that it has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("write the report"),
        _ => Ok(verdict.state),
    }
}
