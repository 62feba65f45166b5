//! The form in which a repository that was put off waits in the sorted set, and in which it comes back.
//!
//! `<queue>|<attempts>[,<suspected>]|<entry's value>`. What is put off twice in the same form is one member: one wish.

use rsky_common::redis::consumer::Entry;
use rsky_common::wire::names::FIELD_REPO;

use crate::job::{Job, Queue};
use crate::outcome::Class;

/// Fields of an entry that is tried again, beside `repo`.
const ATTEMPTS: &str = "attempts";
const SUSPECTED: &str = "suspected";

/// What is kept of a job that is put off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutOff<'a> {
    /// Where it comes back to.
    pub queue: Queue,
    /// Failed tries so far.
    pub attempts: u32,
    /// What the last try found wrong with its content.
    pub suspected: Option<Class>,
    /// The entry's value, as it was.
    pub payload: &'a str,
}

impl<'a> PutOff<'a> {
    /// What is kept of a job.
    pub fn of(job: &'a Job) -> Self {
        let Job { queue, attempts, suspected, payload, .. } = job;
        Self { queue: *queue, attempts: *attempts, suspected: *suspected, payload }
    }

    /// The member of the set.
    pub fn member(&self) -> String {
        let queue = if self.queue == Queue::Priority { 'p' } else { 'n' };
        let suspected = self.suspected.map(|class| format!(",{}", class.name())).unwrap_or_default();
        format!("{queue}|{}{suspected}|{}", self.attempts, self.payload)
    }

    /// Reads a member.
    pub fn read(member: &'a str) -> Option<Self> {
        let mut parts = member.splitn(3, '|');
        let queue = match parts.next()? {
            "p" => Queue::Priority,
            "n" => Queue::Normal,
            _ => return None,
        };
        let tried = parts.next()?;
        let (attempts, suspected) = tried.split_once(',').unwrap_or((tried, ""));
        Some(Self {
            queue,
            attempts: attempts.parse().ok()?,
            suspected: Class::named(suspected),
            payload: parts.next()?,
        })
    }

    /// The fields of the entry as which it comes back.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![(FIELD_REPO, self.payload.to_owned()), (ATTEMPTS, self.attempts.to_string())];
        fields.extend(self.suspected.map(|class| (SUSPECTED, class.name().to_owned())));
        fields
    }
}

/// Tries so far and what is suspected, from an entry's fields.
pub fn tried(entry: &Entry) -> (u32, Option<Class>) {
    let text = |name: &str| entry.field(name).and_then(|value| str::from_utf8(value).ok());
    let attempts = text(ATTEMPTS).and_then(|number| number.parse().ok()).unwrap_or(0);
    (attempts, text(SUSPECTED).and_then(Class::named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_back() {
        for suspected in [None, Some(Class::BadTree)] {
            let put_off =
                PutOff { queue: Queue::Priority, attempts: 3, suspected, payload: "{\"a\":\"|,\"}" };
            assert_eq!(PutOff::read(&put_off.member()), Some(put_off));
        }
        let before = PutOff { queue: Queue::Normal, attempts: 0, suspected: None, payload: "" };
        assert_eq!(PutOff::read("n|0|"), Some(before), "what another version wrote");
        for bad in ["", "x|0|", "n|x|", "n|0"] {
            assert_eq!(PutOff::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn entries_tell_what_was_tried() {
        let put_off =
            PutOff { queue: Queue::Normal, attempts: 2, suspected: Some(Class::BadCar), payload: "x" };
        let fields = put_off.fields().into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        assert_eq!(tried(&Entry { id: "1-1".to_owned(), fields }), (2, Some(Class::BadCar)));
        assert_eq!(tried(&Entry { id: "1-1".to_owned(), fields: Vec::new() }), (0, None));
    }
}
