//! The form in which a repository that was put off waits in the sorted set, and in which it comes back.
//!
//! `<queue>|<attempts>[,<suspected>[,<read up to>]]|<entry's value>`. What is put off twice in the same form is one member:
//! one wish.

use rsky_common::redis::consumer::Entry;
use rsky_common::wire::names::FIELD_REPO;

use crate::job::{Job, Queue};
use crate::outcome::Class;
use crate::unread::Reached;

/// Fields of an entry that is tried again, beside `repo`.
const ATTEMPTS: &str = "attempts";
const SUSPECTED: &str = "suspected";
const READ_UP_TO: &str = "read_up_to";

/// What is kept of a job that is put off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutOff<'a> {
    /// Where it comes back to.
    pub queue: Queue,
    /// Failed tries so far.
    pub attempts: u32,
    /// What the last try found wrong with its content.
    pub suspected: Option<Class>,
    /// For a second comparison, what was read before it.
    pub read_up_to: Option<Reached>,
    /// The entry's value, as it was.
    pub payload: &'a str,
}

impl<'a> PutOff<'a> {
    /// What is kept of a job.
    pub fn of(job: &'a Job) -> Self {
        let Job { queue, attempts, suspected, read_up_to, payload, .. } = job;
        Self {
            queue: *queue,
            attempts: *attempts,
            suspected: *suspected,
            read_up_to: read_up_to.clone(),
            payload,
        }
    }

    /// The member of the set.
    pub fn member(&self) -> String {
        let queue = if self.queue == Queue::Priority { 'p' } else { 'n' };
        let mut tried = self.attempts.to_string();
        if self.suspected.is_some() || self.read_up_to.is_some() {
            tried.push(',');
            tried.push_str(self.suspected.map_or("", Class::name));
        }
        if let Some(reached) = &self.read_up_to {
            tried.push(',');
            tried.push_str(&reached.to_text());
        }
        format!("{queue}|{tried}|{}", self.payload)
    }

    /// Reads a member.
    pub fn read(member: &'a str) -> Option<Self> {
        let mut parts = member.splitn(3, '|');
        let queue = match parts.next()? {
            "p" => Queue::Priority,
            "n" => Queue::Normal,
            _ => return None,
        };
        let mut tried = parts.next()?.split(',');
        Some(Self {
            queue,
            attempts: tried.next()?.parse().ok()?,
            suspected: tried.next().and_then(Class::named),
            read_up_to: tried.next().and_then(Reached::read),
            payload: parts.next()?,
        })
    }

    /// The fields of the entry as which it comes back.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![(FIELD_REPO, self.payload.to_owned()), (ATTEMPTS, self.attempts.to_string())];
        fields.extend(self.suspected.map(|class| (SUSPECTED, class.name().to_owned())));
        fields.extend(self.read_up_to.as_ref().map(|reached| (READ_UP_TO, reached.to_text())));
        fields
    }
}

/// What an entry's fields say of earlier tries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tried {
    /// Failed tries so far.
    pub attempts: u32,
    /// What the last one found wrong with its content.
    pub suspected: Option<Class>,
    /// For a second comparison, what was read before it.
    pub read_up_to: Option<Reached>,
}

impl Tried {
    /// Reads the fields.
    pub fn of(entry: &Entry) -> Self {
        let text = |name: &str| entry.field(name).and_then(|value| str::from_utf8(value).ok());
        Self {
            attempts: text(ATTEMPTS).and_then(|number| number.parse().ok()).unwrap_or(0),
            suspected: text(SUSPECTED).and_then(Class::named),
            read_up_to: text(READ_UP_TO).and_then(Reached::read),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_back() {
        let reached = Reached { live: "5-1".to_owned(), backfill: "0-0".to_owned() };
        for suspected in [None, Some(Class::BadTree)] {
            for read_up_to in [None, Some(reached.clone())] {
                let payload = "{\"a\":\"|,\"}";
                let put_off = PutOff { queue: Queue::Priority, attempts: 3, suspected, read_up_to, payload };
                let member = put_off.member();
                assert_eq!(PutOff::read(&member), Some(put_off));
            }
        }
        let before =
            PutOff { queue: Queue::Normal, attempts: 0, suspected: None, read_up_to: None, payload: "" };
        assert_eq!(PutOff::read("n|0|"), Some(before), "what another version wrote");
        for bad in ["", "x|0|", "n|x|", "n|0"] {
            assert_eq!(PutOff::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn entries_tell_what_was_tried() {
        let reached = Reached { live: "5-1".to_owned(), backfill: "0-0".to_owned() };
        let put_off = PutOff {
            queue: Queue::Normal,
            attempts: 2,
            suspected: Some(Class::BadCar),
            read_up_to: Some(reached.clone()),
            payload: "x",
        };
        let fields = put_off.fields().into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let tried = Tried { attempts: 2, suspected: Some(Class::BadCar), read_up_to: Some(reached) };
        assert_eq!(Tried::of(&Entry { id: "1-1".to_owned(), fields }), tried);
        assert_eq!(Tried::of(&Entry { id: "1-1".to_owned(), fields: Vec::new() }), Tried::default());
    }
}
