//! The commands about worlds: to serve one, and to tell whether a database holds what must have become of it.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;

use anyhow::{Error, Result, bail};
use clap::{Args, ValueEnum};
use rsky_testnet::network::world::{Mix, Serving, Time, Trouble, WorldNetwork, WorldOptions};
use rsky_testnet::oracle::{self, Outcome, Telling};
use rsky_testnet::servers::{Generation, Session};

/// What a world is made of.
#[derive(Args)]
pub(crate) struct WorldArguments {
    /// The same seed and options give the same world, byte for byte.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Accounts; one of ten signs up while the world runs.
    #[arg(long, default_value_t = 200)]
    accounts: usize,
    /// Events before the relay's stream begins: what a backfill finds.
    #[arg(long, default_value_t = 5_000)]
    history: u64,
    /// Events of the relay's stream.
    #[arg(long, default_value_t = 20_000)]
    live: u64,
    /// How many of the last events of the history the stream repeats.
    #[arg(long, default_value_t = 100)]
    overlap: u64,
    /// Frames of the labeler.
    #[arg(long, default_value_t = 200)]
    labels: u64,
    /// Hosts (PDSes) that share the accounts.
    #[arg(long, default_value_t = 3)]
    hosts: usize,
    /// Accounts that are deleted by the last events.
    #[arg(long, default_value_t = 1)]
    departures: usize,
    /// Mean milliseconds between two events of the stream, in the world's own time.
    #[arg(long, default_value_t = 200)]
    pace_ms: u64,
    /// Proportions: as on the production network, or with what is rare there happening often.
    #[arg(long, value_enum, default_value_t = MixName::Natural)]
    mix: MixName,
    /// What goes wrong on purpose: names, separated by commas, or `all`; a name that is none has all of them listed.
    /// Everything is sent nevertheless, and right in the end.
    #[arg(long, value_delimiter = ',', value_name = "KINDS")]
    trouble: Vec<String>,
    /// localhost:PORT of each account that is a did:web, separated by commas: its document is served there, by plain http.
    #[arg(long, value_delimiter = ',', value_name = "HOSTS")]
    web: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum MixName {
    Natural,
    Dense,
}

impl WorldArguments {
    fn options(&self) -> Result<WorldOptions> {
        let trouble = match self.trouble.as_slice() {
            [all] if all == "all" => Trouble::ALL.to_vec(),
            names => names.iter().map(|name| name.parse()).collect::<Result<_, _>>().map_err(Error::msg)?,
        };
        Ok(WorldOptions {
            seed: self.seed,
            accounts: self.accounts,
            history: self.history,
            live: self.live,
            overlap: self.overlap,
            labels: self.labels,
            hosts: self.hosts,
            departures: self.departures,
            pace_ms: self.pace_ms,
            mix: match self.mix {
                MixName::Natural => Mix::Natural,
                MixName::Dense => Mix::Dense,
            },
            time: Time::OfTheWorld,
            trouble,
            web: self.web.clone(),
        })
    }
}

/// How it is served.
#[derive(Args)]
pub(crate) struct SimulateArguments {
    #[command(flatten)]
    world: WorldArguments,
    /// Events have the clock's time instead of the world's own: the history ends now, live events happen when they are first
    /// read (see --rate). For looking at a pipeline that works; the oracle knows nothing of such a world.
    #[arg(long)]
    clock: bool,
    /// The address to listen on.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// The name by which others reach it, which DID documents have; the address when absent.
    #[arg(long)]
    name: Option<String>,
    /// Port for the relay, the directory, handles and the labeler; a free one when 0. Hosts and further relays have free
    /// ports.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Frames a second for every subscriber; as fast as they are read when absent.
    #[arg(long)]
    rate: Option<NonZeroU32>,
    /// Frames that relays keep, some 3 KB of memory each. An older cursor is answered with OutdatedCursor, one of the future
    /// with FutureCursor, and who falls behind with ConsumerTooSlow.
    #[arg(long, default_value_t = 100_000)]
    retention: usize,
    /// Relays with the same events, under numbers of their own.
    #[arg(long, default_value_t = 1)]
    relays: usize,
}

/// Serves a world; prints the address of the first relay, then those of the others.
///
/// # Errors
/// A port is taken.
pub(crate) async fn simulate(arguments: &SimulateArguments) -> Result<WorldNetwork> {
    let serving = Serving {
        port: arguments.port,
        rate: arguments.rate,
        retention: arguments.retention,
        relays: arguments.relays,
        address: arguments.address,
        name: arguments.name.clone(),
    };
    let time = if arguments.clock { Time::OfTheClock } else { Time::OfTheWorld };
    let network = WorldNetwork::start(WorldOptions { time, ..arguments.world.options()? }, serving).await?;
    for relay in network.relays() {
        println!("{}", relay.url());
    }
    Ok(network)
}

/// Which database, and what was done.
#[derive(Args)]
pub(crate) struct OracleArguments {
    #[command(flatten)]
    world: WorldArguments,
    /// The database: postgres://…
    #[arg(long, value_name = "URL")]
    postgres: String,
    /// The generation of its schema (docs/COMPATIBILITY.md).
    #[arg(long, value_enum, default_value_t = GenerationName::D)]
    generation: GenerationName,
    /// What INDEXER_NOTIFICATIONS was.
    #[arg(long, value_enum, default_value_t = TellingName::Reference)]
    notifications: TellingName,
}

#[derive(Clone, Copy, ValueEnum)]
enum GenerationName {
    D,
    B,
    U,
}

#[derive(Clone, Copy, ValueEnum)]
enum TellingName {
    Reference,
    Live,
    Off,
}

/// Compares a database with what must have become of a world, and prints every table that differs.
///
/// # Errors
/// A row differs, or the database cannot be read.
pub(crate) fn compare(arguments: &OracleArguments) -> Result<()> {
    let telling = match arguments.notifications {
        TellingName::Reference => Telling::Reference,
        TellingName::Live => Telling::Live,
        TellingName::Off => Telling::Off,
    };
    let generation = match arguments.generation {
        GenerationName::D => Generation::D,
        GenerationName::B => Generation::B,
        GenerationName::U => Generation::U,
    };
    let mut outcome = Outcome::new(&arguments.world.options()?, generation, telling, None)?;
    outcome.allow_for_looks(&mut Session::open(&arguments.postgres)?)?;
    let differences = oracle::compare(&arguments.postgres, &outcome.tables())?;
    println!("{differences}");
    if !differences.is_empty() {
        bail!("{} tables differ", differences.tables.len());
    }
    Ok(())
}
