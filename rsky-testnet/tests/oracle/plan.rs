//! What a run does, by variables of the environment: with its seed, all that is needed to repeat it.

use rsky_testnet::network::world::{Mix, Party, Trouble, WorldOptions};
use rsky_testnet::servers::{Generation, free_port};

const SEED: &str = "RSKY_WORLD_SEED";
const GENERATION: &str = "RSKY_WORLD_GENERATION";
const SERVERS: &str = "RSKY_WORLD_SERVERS";
const TROUBLE: &str = "RSKY_WORLD_TROUBLE";
const HOURS: &str = "RSKY_WORLD_HOURS";
/// Events of the history and of the stream, with a comma between.
const EVENTS: &str = "RSKY_WORLD_EVENTS";
/// The hosts of did:web accounts; their ports are a part of the world.
const WEB: &str = "RSKY_WORLD_WEB";

/// Milliseconds between two events of a stream that is to last hours.
const PACE_MS: u64 = 2000;

/// Accounts that are did:webs, where the environment names none.
const WEBS: usize = 4;

/// How a run goes.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub generation: Generation,
    pub servers: Servers,
    pub trouble: Vec<Trouble>,
    /// Hosts of did:web accounts.
    pub web: Vec<String>,
    /// Events of the history, and of the stream.
    pub events: [u64; 2],
    pub accounts: usize,
    /// Milliseconds between two events of the stream, in the world's own time.
    pub pace_ms: u64,
    /// How often each daemon is killed while the stream is read and indexed.
    pub rounds: u64,
    /// Accounts that are deleted at the end.
    pub departures: usize,
}

/// What happens to Redis and Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Servers {
    /// Nothing.
    Stay,
    /// They are killed and started again, with what they had acknowledged.
    Killed,
    /// They are killed, and Redis comes back with an older state while the stream is read.
    SetBack,
}

impl Plan {
    /// What the environment says, for this test; what it does not say is as in the test command.
    pub fn of_environment(test: &str) -> Self {
        let said = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let mut plan = Self {
            seed: said(SEED).map_or(20_261_129, |seed| seed.parse().expect("a seed is a number")),
            generation: said(GENERATION).map_or(Generation::D, |name| generation(&name)),
            servers: said(SERVERS).map_or(Servers::Killed, |name| servers(&name)),
            trouble: trouble(&said(TROUBLE).unwrap_or_else(|| "all".to_owned())),
            web: said(WEB).map_or_else(free_hosts, |names| names.split(',').map(str::to_owned).collect()),
            events: [1500, 2500],
            accounts: 60,
            pace_ms: 200,
            rounds: 2,
            departures: 1,
        };
        if let Some(hours) = said(HOURS) {
            plan.last(hours.parse().expect("a number of hours"));
        }
        if let Some(events) = said(EVENTS) {
            let counts: Vec<u64> = events.split(',').map(|count| count.parse().unwrap()).collect();
            plan.events = counts.try_into().expect("two numbers of events");
        }
        let said = [SEED, GENERATION, SERVERS, TROUBLE, HOURS, EVENTS]
            .map(|name| said(name).map(|value| format!("{name}={value} ")));
        let said: String = said.into_iter().flatten().collect();
        let web = plan.web.join(",");
        println!("{plan:?}; to repeat: {said}{WEB}={web} cargo test --workspace --test oracle {test}");
        plan
    }

    /// A world of half the size in another generation; servers and relay do nothing wrong.
    pub fn of_generation(generation: Generation) -> Self {
        let (servers, trouble) = (Servers::Stay, Vec::new());
        Self {
            seed: 20_261_129,
            generation,
            servers,
            trouble,
            web: Vec::new(),
            events: [700, 1000],
            accounts: 60,
            pace_ms: 200,
            rounds: 2,
            departures: 1,
        }
    }

    /// A stream of so many hours of the world's time, with kills in each of them.
    fn last(&mut self, hours: u64) {
        let live = hours * 3_600_000 / PACE_MS;
        self.events = [live / 3, live];
        self.accounts = 60 + 10 * hours as usize;
        self.pace_ms = PACE_MS;
        self.rounds = hours.max(2);
    }

    /// Most events between two kills in the part of the stream that each round has: `of_hundred` of it.
    pub fn between_kills(&self, of_hundred: u64) -> i64 {
        (self.events[1] * of_hundred / 100 / self.rounds.max(1)) as i64
    }

    /// The world: small enough for the test command, and with what is rare happening often.
    pub fn world(&self) -> WorldOptions {
        WorldOptions {
            seed: self.seed,
            accounts: self.accounts,
            history: self.events[0],
            live: self.events[1],
            overlap: 120,
            labels: 80,
            mix: Mix::Dense,
            departures: self.departures,
            pace_ms: self.pace_ms,
            trouble: self.trouble.clone(),
            web: self.web.clone(),
            ..WorldOptions::default()
        }
    }

    pub fn moments(&self) -> Moments {
        Moments(self.seed)
    }
}

fn generation(name: &str) -> Generation {
    match name {
        "d" => Generation::D,
        "b" => Generation::B,
        "u" => Generation::U,
        other => panic!("{GENERATION} is d, b or u, not {other:?}"),
    }
}

fn servers(name: &str) -> Servers {
    match name {
        "stay" => Servers::Stay,
        "killed" => Servers::Killed,
        "set-back" => Servers::SetBack,
        other => panic!("{SERVERS} is stay, killed or set-back, not {other:?}"),
    }
}

fn free_hosts() -> Vec<String> {
    (0..WEBS).map(|_| format!("localhost:{}", free_port().unwrap())).collect()
}

fn trouble(names: &str) -> Vec<Trouble> {
    match names {
        "none" => Vec::new(),
        "all" => Trouble::ALL.iter().copied().filter(|kind| kind.party() != Party::Resync).collect(),
        names => names.split(',').map(|name| name.parse().unwrap()).collect(),
    }
}

/// Numbers that follow from the seed: when something is killed.
pub struct Moments(u64);

impl Moments {
    /// A number from 1 to `most`.
    pub fn below(&mut self, most: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        1 + ((self.0 >> 33) as i64) % most.max(1)
    }
}
