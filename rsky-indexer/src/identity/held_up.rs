//! Accounts that are to be deleted and have to wait: for a look at what is left of their stream, or for whoever has some of what
//! they wrote before.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rsky_common::clock::now_iso;
use serde_json::{Value, json};
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;
use tracing::{info, warn};

use super::account::Behind;
use super::ahead::{Ahead, Outcome};
use super::stage::Stage;

/// Shortest and longest pause between two looks for one account.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Accounts shown on the status page.
const SHOWN: usize = 20;

/// See the module. Bounded by the accounts in hand.
#[derive(Debug)]
pub(super) struct HeldUp {
    /// Who looks, unless it is busy: one look at a time.
    ahead: Option<Ahead>,
    to_look: VecDeque<String>,
    looking: JoinSet<LookedAhead>,
    waiting: BTreeMap<String, Wait>,
}

/// What an account waits for.
#[derive(Debug)]
struct Wait {
    why: String,
    since: Instant,
    since_time: String,
    pause: Duration,
}

/// A look has ended.
#[derive(Debug)]
pub(super) struct LookedAhead {
    ahead: Ahead,
    did: String,
    behind: Behind,
    outcome: Outcome,
}

impl HeldUp {
    pub(super) fn new(ahead: Ahead) -> Self {
        Self {
            ahead: Some(ahead),
            to_look: VecDeque::new(),
            looking: JoinSet::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// It is to be looked what is ahead of this account's deletion.
    pub(super) fn push(&mut self, did: String) {
        self.to_look.push_back(did);
    }

    /// How many accounts wait for others.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// A look that has ended; `None` if there is none.
    pub(super) async fn looked(&mut self) -> Option<Result<LookedAhead, JoinError>> {
        self.looking.join_next().await
    }

    /// For people: some of the accounts that wait, and for what.
    pub(super) fn describe(&self) -> Value {
        let show = |(did, wait): (&String, &Wait)| json!({"did": did, "waiting_for": wait.why, "since": wait.since_time, "seconds": wait.since.elapsed().as_secs()});
        self.waiting.iter().take(SHOWN).map(show).collect()
    }

    /// It has to wait; how long until the next look.
    fn wait(&mut self, did: &str, why: String) -> Duration {
        let (shortest, longest) = PAUSES;
        let wait = self.waiting.entry(did.to_owned()).or_insert_with(|| Wait {
            why: String::new(),
            since: Instant::now(),
            since_time: now_iso(),
            pause: shortest / 2,
        });
        wait.why = why;
        wait.pause = (wait.pause * 2).min(longest);
        wait.pause
    }

    /// It waits for nothing, or is gone.
    pub(super) fn end(&mut self, did: &str) {
        if let Some(wait) = self.waiting.remove(did)
            && wait.since.elapsed() > PAUSES.1
        {
            let seconds = wait.since.elapsed().as_secs();
            info!(did, seconds, "what an account wrote before its deletion is finished");
        }
    }
}

impl Stage {
    /// Looks ahead of the next account that waits for it.
    pub(super) fn look_ahead(&mut self) {
        while let Some(mut ahead) = self.held_up.ahead.take_if(|_| !self.held_up.to_look.is_empty()) {
            let next = self.held_up.to_look.pop_front();
            let behind = next.and_then(|did| Some((self.accounts.get(&did)?.behind()?, did)));
            let Some((mut behind, did)) = behind else {
                self.held_up.ahead = Some(ahead);
                continue;
            };
            self.held_up.looking.spawn(async move {
                let looked = std::mem::take(&mut behind.looked);
                let began = Instant::now();
                let (looked, outcome) = ahead.look(&behind.source, &behind.id, &did, looked).await;
                // Looks have half of Redis' time at most, however many accounts go.
                sleep(began.elapsed().min(PAUSES.1)).await;
                behind.looked = looked;
                LookedAhead { ahead, did, behind, outcome }
            });
        }
    }

    pub(super) fn looked_ahead(&mut self, LookedAhead { ahead, did, behind, outcome }: LookedAhead) {
        self.held_up.ahead = Some(ahead);
        let Some(account) = self.accounts.get_mut(&did) else {
            return self.held_up.end(&did);
        };
        account.note_looked(&behind);
        let stream = &behind.source.consumer.stream;
        let why = match outcome {
            Outcome::Looked => {
                if account.behind().is_none() {
                    self.held_up.end(&did);
                }
                return self.decide(did);
            }
            Outcome::Held { id, by } => format!("entry {id} of {stream}, which {by} has"),
            Outcome::NotGiven => {
                format!("the group, to be given again what is before {} of {stream}", behind.id)
            }
            Outcome::Unknown(error) => {
                if !self.held_up.waiting.contains_key(&did) {
                    warn!(
                        did,
                        stream, "look for what an account wrote before its deletion: {error}; again later"
                    );
                }
                format!("an answer about {stream}: {error}")
            }
        };
        let pause = self.held_up.wait(&did, why);
        if self.is_in_the_way(&did) {
            return;
        }
        self.wait_for_entries_only(&did);
        self.delay(did, Instant::now() + pause, None);
    }

    /// Puts an account that has to wait off, where it takes the room that those need for whom it waits: what it waits for may be
    /// with us, and put off for want of room. Its entries come back behind that.
    fn is_in_the_way(&mut self, did: &str) -> bool {
        let domain = self.tasks.places.thick_domain_of(did);
        if domain.is_none() && self.tasks.room.free().is_some() {
            return false;
        }
        self.held_up.waiting.remove(did);
        self.put_off_all_of(did, domain);
        true
    }
}
