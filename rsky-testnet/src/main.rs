//! The simulated AT network as a program: simulates a world, replays a recording, or makes load.

#![allow(clippy::print_stdout, reason = "the address is this program's output")]

mod simulate;

use std::fs::File;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use rsky_testnet::network::load::{CommitRing, LoadOptions, Notes};
use rsky_testnet::network::repos::Library;
use rsky_testnet::network::{Network, NetworkBuilder, RepoAnswer};
use tokio::signal::unix::{SignalKind, signal};

/// A simulated AT network: relay, PDS, PLC directory, handle server and labeler.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a world made from a seed: accounts, repositories, relays, hosts, directory, handles, labeler.
    Simulate(simulate::SimulateArguments),
    /// Tell whether a database holds what must have become of a world; ends with 1 when it does not.
    ///
    /// The world's history must have been indexed before its stream was read, repository by repository as listed
    /// (BACKFILLER_CONCURRENCY=1), and everything must have drained.
    Oracle(simulate::OracleArguments),
    /// Serve a recorded corpus folder, gzip-compressed or not.
    Replay {
        /// The folder, with firehose.frames and labels.frames.
        folder: PathBuf,
        /// Port of 127.0.0.1; a free one when absent.
        #[arg(long, default_value_t = 0)]
        port: u16,
        /// Frames a second for every subscriber; as fast as they are read when absent.
        #[arg(long)]
        rate: Option<NonZeroU32>,
        /// Begin at the end for relay subscribers without a cursor, as a real relay does.
        #[arg(long)]
        from_end: bool,
    },
    /// Serve synthetic commits as fast as they are read.
    Load {
        /// Port of 127.0.0.1; a free one when absent.
        #[arg(long, default_value_t = 0)]
        port: u16,
        /// Frames in all; endless when absent.
        #[arg(long)]
        frames: Option<u64>,
        /// The same seed gives the same frames.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Accounts.
        #[arg(long, default_value_t = 2_500)]
        dids: usize,
        /// Frames made at the start, which then come again and again.
        #[arg(long, default_value_t = 20_000)]
        ring: usize,
        /// Frames a second for every subscriber; as fast as they are read when absent.
        #[arg(long)]
        rate: Option<NonZeroU32>,
        /// A file to write down in when records were sent: microseconds since 1970, number of the frame, URI; without URI
        /// for the last frame.
        #[arg(long, requires = "frames")]
        notes: Option<PathBuf>,
        /// Of the created records, every how many-th is noted.
        #[arg(long, default_value_t = NonZeroUsize::MIN)]
        note_every: NonZeroUsize,
    },
    /// Serve generated repositories, of 10 to 50 000 records, and their DID documents.
    Repos {
        /// Port of 127.0.0.1; a free one when absent.
        #[arg(long, default_value_t = 0)]
        port: u16,
        /// Repositories.
        #[arg(long, default_value_t = 40)]
        count: usize,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    // Listening for the signals before anything is started: none is missed.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut end = async || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    match Arguments::parse().command {
        Command::Simulate(arguments) => {
            let world = simulate::simulate(&arguments).await?;
            end().await;
            world.stop().await
        }
        Command::Oracle(arguments) => {
            tokio::task::spawn_blocking(move || simulate::compare(&arguments)).await.context("compare")?
        }
        command => {
            let network = network(command).await?.start().await?;
            println!("{}", network.url());
            end().await;
            network.stop().await
        }
    }
}

async fn network(command: Command) -> Result<NetworkBuilder> {
    let builder = Network::builder();
    Ok(match command {
        Command::Replay { folder, port, rate, from_end } => {
            builder.corpus(folder).port(port).rate(rate).from_end(from_end)
        }
        Command::Load { port, frames, seed, dids, ring, rate, notes, note_every } => {
            let options = LoadOptions { seed, dids, ring, ..LoadOptions::default() };
            let ring = tokio::task::spawn_blocking(move || Arc::new(CommitRing::generate(options)));
            let ring = ring.await.context("generate the load")?;
            let script = match (notes, frames) {
                (Some(path), Some(frames)) => {
                    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
                    ring.noted_script(frames, Notes::new(&ring, frames, note_every, file))
                }
                (_, frames) => ring.script(frames),
            };
            builder.relay(script).port(port).rate(rate)
        }
        Command::Repos { port, count } => {
            let library = tokio::task::spawn_blocking(move || Library::build(count));
            let mut builder = builder.port(port);
            for (did, car) in library.await.context("build the repositories")?.repos {
                // The server puts its own address in the place of the PDS.
                builder = builder.document(Library::document(&did, "http://localhost"));
                builder = builder.repo(&did, RepoAnswer::Car(car.into()));
            }
            builder
        }
        Command::Simulate(_) | Command::Oracle(_) => anyhow::bail!("not a network of fixed frames"),
    })
}
