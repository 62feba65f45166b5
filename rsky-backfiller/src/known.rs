//! Which listed repositories need not be fetched: queued or compared before at that revision, or indexed.

use std::time::{Duration, Instant};

use redis::Value;
use rsky_common::atproto::tid::is_tid;
use rsky_common::redis::{LinkError, RedisLink};

use crate::indexed::Indexed;
use crate::job::Queue;
use crate::remembered::{Remembered, Table, has};

/// Time between two looks at how much was forgotten.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What is known about repositories.
#[derive(Debug)]
pub struct Known {
    remembered: Remembered,
    indexed: Option<Indexed>,
    trusts_indexed: bool,
    passes_over: bool,
    forgotten: u64,
    look_at: Instant,
}

impl Known {
    /// `trusts_indexed`: `actor_sync` counts also for accounts that this pipeline has not queued as a whole. Unless
    /// `passes_over`, everything is fetched.
    pub fn new(
        remembered: Remembered,
        indexed: Option<Indexed>,
        trusts_indexed: bool,
        passes_over: bool,
    ) -> Self {
        Self { remembered, indexed, trusts_indexed, passes_over, forgotten: 0, look_at: Instant::now() }
    }

    /// For each DID and the revision it was listed with, whether it need not be fetched. The accounts of the priority
    /// stream are there because commits were lost. `actor_sync` does not tell: it moves with the next one. And where there
    /// is a database to compare with, only that it was compared at that revision or a later one helps: several relays
    /// report the same loss.
    ///
    /// # Errors
    /// Redis' or the connection's.
    pub async fn among(
        &mut self,
        link: &mut RedisLink,
        queue: Queue,
        listed: &[(&str, &str)],
    ) -> Result<Vec<bool>, LinkError> {
        // Opened in any case: what is queued now is remembered for later.
        if !self.remembered.open(link).await? || !self.passes_over {
            return Ok(vec![false; listed.len()]);
        }
        self.warn_of_forgetting(link).await?;
        let is_compared = queue == Queue::Priority && self.indexed.is_some();
        let table = if is_compared { Table::Compared } else { Table::Queued };
        let mut pipeline = redis::pipe();
        for look in listed.iter().filter_map(|(did, _)| self.remembered.look(table, did)) {
            pipeline.add_command(look);
        }
        let found: Vec<Value> = link.pipeline(&pipeline).await?;
        let (mut known, mut asked) = (Vec::with_capacity(listed.len()), Vec::new());
        for ((did, rev), found) in listed.iter().zip(&found) {
            let found = if let Value::BulkString(bytes) = found { Some(bytes.as_slice()) } else { None };
            let is_known = has(found, rev);
            let counts = self.trusts_indexed || found.is_some();
            if !is_known && counts && queue == Queue::Normal && is_tid(rev) {
                asked.push((*did, *rev));
            }
            known.push(is_known);
        }
        if let Some(indexed) = &mut self.indexed {
            let found = indexed.among(&asked).await;
            for ((did, rev), known) in listed.iter().zip(&mut known) {
                // An entry with another revision of the same account has its own answer.
                *known |= found.contains(&((*did).to_owned(), (*rev).to_owned()));
            }
        }
        Ok(known)
    }

    /// What is forgotten is fetched again: said when it begins, and while it goes on.
    async fn warn_of_forgetting(&mut self, link: &mut RedisLink) -> Result<(), LinkError> {
        if self.look_at > Instant::now() {
            return Ok(());
        }
        self.look_at = Instant::now() + LOOK_AGAIN;
        let forgotten: Option<u64> = link.query(&self.remembered.forgotten()).await?;
        let forgotten = forgotten.unwrap_or(0);
        if forgotten > self.forgotten {
            tracing::warn!(
                forgotten,
                "the table of queued revisions is full: repositories are forgotten and will be fetched again; \
                 more BACKFILLER_UNCHANGED_MEMORY holds more (20 bytes a repository)"
            );
        }
        self.forgotten = forgotten;
        Ok(())
    }
}
