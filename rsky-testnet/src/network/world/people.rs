//! What happens to accounts: handles, hosts, keys, status, departure.

use super::event::{Event, What};
use super::keys::SigningKey;
use super::simulation::{Pending, World};

impl World {
    /// A change of an account; `None` where there is none to tell of: in a history nobody sees them, and an account's
    /// identity changes once at most, as directories are not asked about one more than once a minute.
    pub(super) fn change(&mut self, who: usize) -> Option<Event> {
        let hosts = self.options().hosts.max(1);
        let history = self.is_history();
        let number = self.number();
        let account = &mut self.accounts[who];
        let kind = self.rng.below(10);
        if history {
            // What is left of it when the stream begins: the last handle, host and key.
            match kind {
                0..=3 => account.handle = format!("h{number}.{}", account.handle),
                4..=6 => account.host = self.rng.below(hosts),
                _ => {
                    account.key = SigningKey::from_bytes(self.rng.bytes());
                    account.rotated = true;
                }
            }
            return None;
        }
        if kind < 7 {
            if account.moved {
                return None;
            }
            account.moved = true;
        }
        match kind {
            0..=2 => {
                account.handle = format!("n{number}.world.test");
                account.proven = self.rng.below(8) > 0;
                Some(self.identity(who))
            }
            3..=4 => {
                account.host = (account.host + 1) % hosts;
                let status = Pending::Account { active: true, status: None };
                self.pending.push_back((who, status));
                Some(self.identity(who))
            }
            5..=6 => {
                account.key = SigningKey::from_bytes(self.rng.bytes());
                self.pending.push_back((who, Pending::Signature));
                Some(self.identity(who))
            }
            7 => Some(self.account(who, true, None)),
            _ => {
                let status = ["deactivated", "suspended", "takendown", "desynchronized", "throttled"];
                let status = status[self.rng.below(status.len())];
                Some(self.account(who, false, Some(status)))
            }
        }
    }

    /// An account is deleted, its repository gone.
    pub(super) fn departure(&mut self) -> Event {
        let who = self.someone();
        self.accounts[who].gone = true;
        self.departed += 1;
        self.account(who, false, Some("deleted"))
    }

    pub(super) fn identity(&self, who: usize) -> Event {
        self.event(who, What::Identity { handle: self.accounts[who].handle.clone() })
    }

    pub(super) fn account(&self, who: usize, active: bool, status: Option<&'static str>) -> Event {
        self.event(who, What::Account { active, status })
    }
}
