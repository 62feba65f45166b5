//! What an account wrote ahead of its deletion and nobody has finished yet, whichever consumer of the group has it.
//!
//! Within a process the deletion comes after it ([`crate::order`]). Another process may have been given it before, and be slower,
//! or dead until somebody takes it over; written after the account was taken out, it would stay. So before its host is asked
//! about the account, the stream is looked through up to the deletion: entries are deleted when they are finished, so what is
//! left there is what is not, and none of it can become more. A look costs no more than what all consumers have in their
//! hands, in steps that are bounded, and none of it twice: what was looked through once holds nothing of the account any more.

use rsky_common::redis::consumer::Entry;
use rsky_common::redis::search;
use rsky_common::redis::{LinkError, RedisLink, tail};
use rsky_common::wire;

use crate::acks::{Source, entry_id};

/// Steps of a look, before others have their turn.
const STEPS: usize = 8;

/// Looks through streams, for one account at a time.
#[derive(Debug)]
pub(super) struct Ahead {
    link: RedisLink,
}

/// How far a stream was looked through ahead of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Looked {
    /// From its beginning to before here.
    Until(String),
    /// To this entry of the account, which is not finished.
    To(String),
    /// To the end: there is nothing.
    Through,
}

impl Default for Looked {
    fn default() -> Self {
        Self::Until("-".to_owned())
    }
}

/// What a look brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is to go on, or has come to the end.
    Looked,
    /// There is something: which entry, and who has it.
    Held { id: String, by: String },
    /// The group has not been given again what is before the entry, since it was made anew.
    NotGiven,
    /// Redis does not say.
    Unknown(String),
}

impl Ahead {
    pub(super) fn new(link: RedisLink) -> Self {
        Self { link }
    }

    /// Looks on ahead of an entry of an account; gives how far, too.
    pub(super) async fn look(
        &mut self,
        source: &Source,
        id: &str,
        did: &str,
        mut looked: Looked,
    ) -> (Looked, Outcome) {
        match self.look_on(source, id, did, &mut looked).await {
            Ok(outcome) => (looked, outcome),
            Err(error) => (looked, Outcome::Unknown(error.to_string())),
        }
    }

    async fn look_on(
        &mut self,
        source: &Source,
        id: &str,
        did: &str,
        looked: &mut Looked,
    ) -> Result<Outcome, LinkError> {
        let consumer = &source.consumer;
        let until = format!("({id}");
        for _ in 0..STEPS {
            let from = match &*looked {
                Looked::Through => break,
                Looked::Until(from) => from.clone(),
                Looked::To(id) => match self.holder(source, id).await? {
                    Some(by) => return Ok(Outcome::Held { id: id.clone(), by }),
                    None => format!("({id}"),
                },
            };
            let step = search::step_over(&mut self.link, &consumer.stream, &from, &until, did).await?;
            for entry in step.found.iter().filter(|entry| is_of(source, entry, did)) {
                if let Some(by) = self.holder(source, &entry.id).await? {
                    *looked = Looked::To(entry.id.clone());
                    return Ok(Outcome::Held { id: entry.id.clone(), by });
                }
            }
            *looked = match step.next {
                Some(next) => Looked::Until(next),
                None => {
                    if !self.is_given(source, id).await? {
                        *looked = Looked::default();
                        return Ok(Outcome::NotGiven);
                    }
                    Looked::Through
                }
            };
        }
        self.link.succeeded();
        Ok(Outcome::Looked)
    }

    /// Whether the group has been given everything up to this entry, or all there is: a stream that was made anew may have less. Who
    /// may not ask is told nothing: it has been given the entry.
    async fn is_given(&mut self, source: &Source, id: &str) -> Result<bool, LinkError> {
        let given = match source.consumer.given_until(&mut self.link).await {
            Ok(given) => given,
            Err(error) if error.is_forbidden() => return Ok(true),
            Err(error) => return Err(error),
        };
        let given = given.map_or((0, 0), |given| entry_id(&given));
        if given >= entry_id(id) {
            return Ok(true);
        }
        let state = tail::state(&mut self.link, &source.consumer.stream).await?;
        Ok(state.is_none_or(|state| given >= entry_id(&state.last)))
    }

    /// Who has an entry that is not finished; `None`: it is finished, its rows are written and it waits here beside the lanes, or
    /// nobody will ever be given it (its consumer was deleted by hand).
    async fn holder(&mut self, source: &Source, id: &str) -> Result<Option<String>, LinkError> {
        if source.is_beside_the_lanes(id) {
            return Ok(None);
        }
        match source.consumer.delivery(&mut self.link, id).await {
            Ok(delivery) => Ok(delivery.map(|delivery| delivery.consumer)),
            // Who may not ask that sees at least when it is gone.
            Err(error) if error.is_forbidden() => {
                let entry = source.consumer.entry(&mut self.link, id).await?;
                Ok(entry.map(|_| "a consumer unknown, since XPENDING is not allowed".to_owned()))
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether an entry is one of the account, and not one that only speaks of it.
fn is_of(source: &Source, entry: &Entry, did: &str) -> bool {
    let payload = entry.field(source.field).and_then(|payload| std::str::from_utf8(payload).ok());
    payload.and_then(|payload| wire::parse(payload).ok()).is_some_and(|event| event.did() == Some(did))
}
