//! What a world is made of: with the seed, all that decides it.

use super::trouble::Trouble;

/// The size and the nature of a [`World`](super::World). The same options give the same world, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorldOptions {
    /// Chooses everything else.
    pub seed: u64,
    /// Accounts in all, at least 4. Nine of ten are there from the beginning, the others sign up while it runs.
    pub accounts: usize,
    /// Events before the relay's stream begins: what a backfill finds.
    pub history: u64,
    /// Events after that.
    pub live: u64,
    /// Of the history, how many of the last events the relay's stream still repeats.
    pub overlap: u64,
    /// Frames of labels.
    pub labels: u64,
    /// Hosts (PDSes) that share the accounts, at least 1.
    pub hosts: usize,
    /// What the accounts do.
    pub mix: Mix,
    /// Accounts that end with their last event: deleted, their repositories gone.
    pub departures: usize,
    /// Mean milliseconds between two events of the stream in the world's own time, at least 1.
    pub pace_ms: u64,
    /// Whose time the events have.
    pub time: Time,
    /// What goes wrong on purpose.
    pub trouble: Vec<Trouble>,
    /// `name:port` of a host for each did:web account; the first accounts are such. Of plain http, so `localhost` or `127.0.0.1`.
    pub web: Vec<String>,
}

/// When the events happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Time {
    /// The history ends with the year 2025, and live events follow at a pace of their own. Always the same.
    #[default]
    OfTheWorld,
    /// The history ends when the world is made, and live events happen when they are first asked for. No second world has the
    /// same times, so there is no telling what must become of it row by row.
    OfTheClock,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            accounts: 200,
            history: 5_000,
            live: 20_000,
            overlap: 100,
            labels: 200,
            hosts: 3,
            mix: Mix::Natural,
            departures: 1,
            pace_ms: 200,
            time: Time::OfTheWorld,
            trouble: Vec::new(),
            web: Vec::new(),
        }
    }
}

/// The proportions of what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// As on the production network: 70 % likes, 11 % posts, 10 % reposts, 4 % follows.
    Natural,
    /// The same things, the rare ones often: gates, quotes, lists, replacements, deletions. More goes wrong in fewer
    /// events.
    Dense,
}

impl std::str::FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "natural" => Ok(Self::Natural),
            "dense" => Ok(Self::Dense),
            other => Err(format!("{other:?} is neither natural nor dense")),
        }
    }
}

/// What an event is, before it is known of whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Like,
    Post,
    Repost,
    Follow,
    Delete,
    Update,
    Block,
    List,
    ListItem,
    ListBlock,
    Gate,
    StarterPack,
    Verification,
    Generator,
    /// Records that no rule lets in, or that no rule knows.
    Odd,
    /// A change of handle, host, key or status.
    Account,
}

impl Mix {
    /// Weights, of some thousand.
    pub(super) fn weights(self) -> &'static [(Kind, usize)] {
        use Kind as K;
        match self {
            Self::Natural => &[
                (K::Like, 700),
                (K::Post, 110),
                (K::Repost, 100),
                (K::Follow, 40),
                (K::Delete, 24),
                (K::Update, 6),
                (K::Block, 5),
                (K::List, 1),
                (K::ListItem, 4),
                (K::ListBlock, 1),
                (K::Gate, 2),
                (K::StarterPack, 1),
                (K::Verification, 1),
                (K::Generator, 1),
                (K::Odd, 2),
                (K::Account, 2),
            ],
            Self::Dense => &[
                (K::Like, 220),
                (K::Post, 340),
                (K::Repost, 90),
                (K::Follow, 80),
                (K::Delete, 80),
                (K::Update, 50),
                (K::Block, 15),
                (K::List, 8),
                (K::ListItem, 25),
                (K::ListBlock, 6),
                (K::Gate, 45),
                (K::StarterPack, 6),
                (K::Verification, 10),
                (K::Generator, 6),
                (K::Odd, 9),
                (K::Account, 10),
            ],
        }
    }
}
