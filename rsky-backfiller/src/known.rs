//! Which listed repositories need not be fetched: queued before at that revision, or indexed.

use rsky_common::redis::{LinkError, RedisLink};

use crate::indexed::Indexed;
use crate::job::Queue;
use crate::remembered::Remembered;

/// What is known about repositories.
#[derive(Debug)]
pub struct Known {
    remembered: Remembered,
    indexed: Option<Indexed>,
    trusts_indexed: bool,
}

impl Known {
    /// `trusts_indexed`: `actor_sync` counts also for accounts that this pipeline has not queued as a whole.
    pub fn new(remembered: Remembered, indexed: Option<Indexed>, trusts_indexed: bool) -> Self {
        Self { remembered, indexed, trusts_indexed }
    }

    /// For each DID and the revision it was listed with, whether it need not be fetched. The accounts of the priority
    /// stream are there because commits were lost. `actor_sync` does not tell: it moves with the next one. And where there
    /// is a database to compare with, it does not help that the revision was queued before: that was without deletes.
    ///
    /// # Errors
    /// Redis' or the connection's.
    pub async fn among(
        &mut self,
        link: &mut RedisLink,
        queue: Queue,
        listed: &[(&str, &str)],
    ) -> Result<Vec<bool>, LinkError> {
        let mut pipeline = redis::pipe();
        for (did, _) in listed {
            pipeline.add_command(self.remembered.look(did));
        }
        let slots: Vec<Vec<u8>> = link.pipeline(&pipeline).await?;
        let slots = listed.iter().zip(slots);
        let (mut known, mut asked) = (Vec::with_capacity(listed.len()), Vec::new());
        for ((did, rev), slot) in slots {
            let is_compared = queue == Queue::Priority && self.indexed.is_some();
            let is_known = !is_compared && self.remembered.knows(&slot, did, rev);
            let counts = self.trusts_indexed || self.remembered.knows_of(&slot, did);
            if !is_known && counts && queue == Queue::Normal && Remembered::is_revision(rev) {
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
}
