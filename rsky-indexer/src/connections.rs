//! The process's connections to Postgres, shared by all who need one.
//!
//! A connection is taken for one piece of work and given back after it. So whoever has work gets by with the connections
//! there are: fewer than lanes because `DB_POOL_MAX_SIZE` is small, because the role's or the server's own limit is lower,
//! or because a pooler has no more to give. If lanes kept theirs, idle ones would sit on the few there are, and what the
//! others were given would never be written.
//!
//! The one that was used last is taken first: its statements are prepared. Whoever has to wait is served in turn.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rsky_common::postgres::PostgresServer;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

/// Longest wait for a connection that others have.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a new connection is asked for before it is given up, when others lose theirs meanwhile.
const TRIES: u32 = 3;

/// How long a connection may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(1);

/// See the module. Clones share them.
#[derive(Debug, Clone)]
pub struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    server: PostgresServer,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    most: usize,
    /// In somebody's hands, or being opened.
    busy: usize,
    idle: Vec<PgConnection>,
    /// Who waits, in turn; only while nothing is idle. One whose sender is dropped tries anew.
    waiting: VecDeque<oneshot::Sender<Lease>>,
}

impl Connections {
    /// At most so many (at least one), opened when they are needed.
    pub fn new(server: PostgresServer, most: usize) -> Self {
        let state = State { most: most.max(1), busy: 0, idle: Vec::new(), waiting: VecDeque::new() };
        Self(Arc::new(Shared { server, state: Mutex::new(state) }))
    }

    /// How many are in somebody's hands.
    pub fn busy(&self) -> usize {
        self.0.state().busy
    }

    /// How many there may be.
    pub fn most(&self) -> usize {
        self.0.state().most
    }

    /// Takes one: an idle one, a new one, or the next that is given back.
    ///
    /// # Errors
    /// None is to be had: Postgres gives no new one, and nobody gives one back in some 10 s.
    pub async fn take(&self) -> Result<Lease, sqlx::Error> {
        let until = Instant::now() + PATIENCE;
        let mut refused = sqlx::Error::PoolTimedOut;
        let mut failures = 0;
        while failures < TRIES {
            match self.0.idle_or_place() {
                Found::Idle(lease) => return Ok(lease),
                Found::Place(mut place) => match self.0.server.connect().await {
                    Ok(connection) => {
                        place.was_open = true;
                        return Ok(Lease { connection, place });
                    }
                    Err(error) => (refused, failures) = (error, failures + 1),
                },
                Found::Nothing => {}
            }
            // Whoever has one gives it back sooner or later.
            let Some(next) = self.0.queue() else { break };
            match timeout_at(until, next).await {
                Ok(Ok(lease)) => return Ok(lease),
                Ok(Err(_)) => {}
                Err(_) => break,
            }
        }
        Err(refused)
    }
}

enum Found {
    Idle(Lease),
    Place(Place),
    Nothing,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle_or_place(self: &Arc<Self>) -> Found {
        let mut state = self.state();
        let idle = state.idle.pop();
        if idle.is_none() && state.busy >= state.most {
            return Found::Nothing;
        }
        state.busy += 1;
        let place = Place { owner: Arc::clone(self), was_open: idle.is_some(), is_taken: true };
        match idle {
            Some(connection) => Found::Idle(Lease { connection, place }),
            None => Found::Place(place),
        }
    }

    /// Waits in turn; `None` where there is nobody to wait for.
    fn queue(&self) -> Option<oneshot::Receiver<Lease>> {
        let mut state = self.state();
        if state.busy == 0 && state.idle.is_empty() {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        // Where one was given back meanwhile, the sender is dropped, which says: try anew.
        if state.idle.is_empty() {
            state.waiting.push_back(sender);
        }
        Some(receiver)
    }
}

/// The right to have a connection open. Dropped, it is free.
#[derive(Debug)]
struct Place {
    owner: Arc<Shared>,
    was_open: bool,
    is_taken: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_taken {
            return;
        }
        let mut state = self.owner.state();
        state.busy = state.busy.saturating_sub(1);
        if self.was_open {
            // Those that lie idle have probably gone the same way.
            state.idle.clear();
        }
        if state.busy == 0 {
            // Nobody is left to give one back.
            state.waiting.clear();
        } else if self.was_open {
            drop(state.waiting.pop_front());
        }
    }
}

/// A connection in somebody's hands. One that is dropped is closed; [`Lease::give_back`] is for one that is in order, with
/// no transaction open.
#[derive(Debug)]
pub struct Lease {
    connection: PgConnection,
    place: Place,
}

impl Lease {
    /// For whoever is next.
    pub fn give_back(self) {
        let owner = Arc::clone(&self.place.owner);
        let mut lease = self;
        loop {
            let mut state = owner.state();
            let Some(next) = state.waiting.pop_front() else {
                let Self { connection, mut place } = lease;
                place.is_taken = false;
                state.busy = state.busy.saturating_sub(1);
                state.idle.push(connection);
                return;
            };
            drop(state);
            match next.send(lease) {
                Ok(()) => return,
                // Does not wait any more.
                Err(back) => lease = back,
            }
        }
    }

    /// Closes it. Best effort: a lost connection cannot be closed politely, and must not be waited for.
    pub async fn close(self) {
        let Self { connection, place } = self;
        drop(timeout(FAREWELL, connection.close()).await);
        drop(place);
    }
}

impl Deref for Lease {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}
