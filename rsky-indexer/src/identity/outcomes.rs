//! What answers lead to: rows, another try, a dead letter.

use std::time::Duration;

use rsky_common::clock::now_ms;

use super::account::Account;
use super::actors::{Handles, Known};
use super::hosted::Hosting;
use super::question::{Answer, Answered, Begun, Failure, Peer, Question};
use super::stage::Stage;
use super::waiting::{Ready, Turn};
use crate::acks::{Death, Fate};
use crate::isolate::WhenHeld;
use crate::job::Job;

impl Stage {
    pub(super) async fn take_answers(&mut self, answers: Vec<Answered>) {
        let (mut known, mut news, mut fresh) = (Vec::new(), Vec::new(), Vec::new());
        for Answered { did, question, began_ms, turn, took, probe, cached, outcome } in answers {
            news.extend(cached.map(|cached| (did.clone(), cached)));
            self.waiting.answered(&turn, took);
            if turn == Turn::Directory {
                match &outcome {
                    Err(Failure::Directory { error, patience }) => {
                        self.directory.failed(probe, *patience, error);
                    }
                    _ => self.directory.answered(),
                }
            }
            match outcome {
                Ok(Answer::Next(step)) => {
                    let peer = self.asker.peer(&did, &step);
                    if let Peer::Host(domain) = &peer
                        && !self.may_wait_for(&did, domain)
                    {
                        self.put_off_crowded(&did, domain);
                        continue;
                    }
                    let begun = Some(Begun { question, step, began_ms });
                    self.waiting.ready(Ready { did, begun }, peer);
                }
                Ok(Answer::Handle(handle)) => {
                    let ago = Duration::from_millis(now_ms().saturating_sub(began_ms));
                    self.recent.note(&did, began_ms, ago);
                    let time = self.accounts.get(&did).map_or("", Account::time).to_owned();
                    known.push(Known { did, handle, time });
                }
                Ok(Answer::Hosted(Hosting::Gone)) => self.leaving.push_back(did),
                Ok(Answer::Hosted(hosting)) => {
                    let reason = if hosting == Hosting::Hosted {
                        "account_still_hosted"
                    } else {
                        "account_hosting_unknown"
                    };
                    self.count("kept");
                    self.settled(did, &mut fresh, |account| account.settle_deletions(reason));
                }
                Err(failure) => self.take_failure(did, question, failure, &mut fresh),
            }
        }
        self.write(known, &mut fresh).await;
        self.cache.learn(news).await;
        self.look(fresh).await;
    }

    /// Whether an account may wait for a host that its document names: hosts that are not known to be quick have their shares
    /// of what is in hand.
    fn may_wait_for(&mut self, did: &str, domain: &str) -> bool {
        let places = &self.tasks.places;
        self.waiting.is_quick(domain)
            || self.accounts.get_mut(did).is_none_or(|account| account.enter(did, domain, places))
    }

    /// The domain has its share: the account's entries stay pending, and are read again when half of that is free.
    fn put_off_crowded(&mut self, did: &str, domain: &str) {
        self.put_off_all_of(did, Some(domain.to_owned()));
    }

    /// All entries of an account stay pending, and are read again when there is room, for the domain if one is named.
    pub(super) fn put_off_all_of(&mut self, did: &str, domain: Option<String>) {
        let Some(account) = self.accounts.remove(did) else { return };
        let jobs = account.put_off(domain.as_deref());
        self.metrics.handle_deferred.inc_by(u64::try_from(jobs.len()).unwrap_or(0));
        self.done.extend(jobs);
    }

    fn take_failure(&mut self, did: String, question: Question, failure: Failure, fresh: &mut Vec<String>) {
        self.wait_for_entries_only(&did);
        match failure {
            Failure::Directory { .. } => {
                self.count("directory_failed");
                let silent = self.directory.is_silent();
                match self.accounts.get_mut(&did) {
                    Some(account) if !silent => {
                        let until = account.directory_failed();
                        self.delay(did, until, Some(question));
                    }
                    Some(_) => self.ready(did),
                    None => {}
                }
            }
            Failure::Later { reason, error } => {
                let attempts = self.accounts.get_mut(&did).map_or(0, Account::failed);
                if attempts < self.limits.max_attempts {
                    self.count("failed");
                    if let Some(until) = self.accounts.get(&did).map(Account::again_at) {
                        self.delay(did, until, Some(question));
                    }
                } else {
                    self.settle_dead(did, fresh, reason, &error, attempts);
                }
            }
            Failure::Never { reason, error } => self.settle_dead(did, fresh, reason, &error, 1),
        }
    }

    /// A question had no answer. What nobody waits for is not asked again: a commit of another hour does that.
    pub(super) fn wait_for_entries_only(&mut self, did: &str) {
        let last = self.recent.of(did);
        let Some(account) = self.accounts.get_mut(did) else { return };
        account.give_up_looks();
        self.done.extend(account.settle_idle(last));
        if account.len() == 0 {
            self.accounts.remove(did);
        }
    }

    async fn write(&mut self, known: Vec<Known>, fresh: &mut Vec<String>) {
        if known.is_empty() {
            return;
        }
        let written = self.writer.write::<Handles>(&known.iter().collect::<Vec<_>>(), WhenHeld::PutOff).await;
        let mut known: Vec<Option<Known>> = known.into_iter().map(Some).collect();
        for at in written.abandoned {
            drop(known.get_mut(at).and_then(Option::take));
        }
        for (at, error, attempts) in written.refused {
            if let Some(Known { did, .. }) = known.get_mut(at).and_then(Option::take) {
                self.settle_dead(did, fresh, "refused_by_postgres", &error, attempts);
            }
        }
        for (at, why) in written.put_off {
            if let Some(Known { did, .. }) = known.get_mut(at).and_then(Option::take) {
                self.put_off(did, &why);
            }
        }
        for Known { did, handle, .. } in known.into_iter().flatten() {
            self.count(if handle.is_some() { "resolved" } else { "none" });
            self.settled(did, fresh, |account| account.settle(|| Fate::Indexed));
        }
    }

    /// Entries of an account are done with; if more have come in, it is looked at again.
    pub(super) fn settled(
        &mut self,
        did: String,
        fresh: &mut Vec<String>,
        settle: impl FnOnce(&mut Account) -> Vec<(Job, Fate)>,
    ) {
        let Some(account) = self.accounts.get_mut(&did) else { return };
        self.done.extend(settle(account));
        if account.len() > 0 {
            fresh.push(did);
        } else {
            self.accounts.remove(&did);
        }
    }

    pub(super) fn settle_dead(
        &mut self,
        did: String,
        fresh: &mut Vec<String>,
        reason: &'static str,
        error: &str,
        attempts: u32,
    ) {
        self.count("given_up");
        let dead = || Fate::Dead(Death { reason, error: error.to_owned(), attempts });
        self.settled(did, fresh, |account| account.settle(dead));
    }

    /// Gives an account up with all its entries.
    pub(super) fn bury(&mut self, did: &str, reason: &'static str, error: &str, attempts: u32) {
        self.count("given_up");
        self.held_up.end(did);
        if let Some(mut account) = self.accounts.remove(did) {
            if let Some(delay) = account.delay.take() {
                self.waiting.end_delay(delay.moment);
            }
            // Covers all of them.
            account.next(None);
            let dead = || Fate::Dead(Death { reason, error: error.to_owned(), attempts });
            self.done.extend(account.settle(dead));
        }
    }
}
