//! The queue by hand: putting repositories in, looking at it, dealing with dead letters.

mod dead_letters;
mod enqueue;
mod status;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Subcommand;
use redis::aio::MultiplexedConnection;
use rsky_common::redis::RedisServer;
use rsky_common::runtime::daemon;

use crate::config::Config;

/// Time for an answer of Redis.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// What can be done by hand.
#[derive(Debug, Subcommand)]
pub enum Tool {
    /// Queues repositories.
    Enqueue(enqueue::Enqueue),
    /// Shows lengths, rates, hosts and an estimate of the time left.
    Status(status::Status),
    /// Lists, shows, retries or drops repositories that were given up.
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLetters),
}

/// Runs a tool to its end.
#[expect(clippy::print_stderr, reason = "a command for people; nothing is logged here")]
pub fn run(tool: Tool, config: Config) -> ExitCode {
    daemon::install_crypto();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome =
        runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(dispatch(tool, &config)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // A closed pipe (`| head`) is the reader's way of saying that it has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("backfiller: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

async fn dispatch(tool: Tool, config: &Config) -> anyhow::Result<()> {
    let server = RedisServer::new(&config.common.redis_url)?;
    let mut redis = server.connect(PATIENCE).await?;
    let mut out = io::stdout().lock();
    match tool {
        Tool::Enqueue(enqueue) => enqueue.run(config, &mut redis, &mut out).await?,
        Tool::Status(status) => status.run(config, &mut redis, &mut out).await?,
        Tool::DeadLetters(letters) => letters.run(config, &mut redis, &mut out).await?,
    }
    Ok(out.flush()?)
}

type Redis = MultiplexedConnection;
