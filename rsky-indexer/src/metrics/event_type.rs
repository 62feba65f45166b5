//! What kind of event an entry is, for the metrics: a closed set, whatever the network sends.

use crate::collections;

/// An event's type, with its collection. The default is that of what was passed over unread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EventType {
    /// It was not taken apart.
    #[default]
    Unread,
    /// The end of a backfilled repository.
    Repo,
    /// `#account`.
    Account,
    /// `#identity`.
    Identity,
    /// A record was created.
    Create(Place),
    /// A record was replaced.
    Update(Place),
    /// A record was deleted.
    Delete(Place),
}

/// The place of a collection among those that have a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(usize);

/// Types other than of records, and their names.
const PLAIN: [&str; 4] = ["unread", "repo", "account", "identity"];
const ACTIONS: [&str; 3] = ["create", "update", "delete"];

impl Place {
    /// Of a collection by its NSID; those without a rule have one place together.
    pub fn of(nsid: &str) -> Self {
        let place = collections::ALL.iter().position(|collection| collection.nsid == nsid);
        Self(place.unwrap_or(collections::ALL.len()))
    }

    /// The collection's NSID.
    pub fn nsid(self) -> &'static str {
        collections::ALL.get(self.0).map_or("other", |collection| collection.nsid)
    }
}

impl EventType {
    /// How many types there are.
    pub fn count() -> usize {
        PLAIN.len() + ACTIONS.len() * (collections::ALL.len() + 1)
    }

    /// A number below [`Self::count`].
    pub fn index(self) -> usize {
        let of = |action: usize, place: Place| PLAIN.len() + action * (collections::ALL.len() + 1) + place.0;
        match self {
            Self::Unread => 0,
            Self::Repo => 1,
            Self::Account => 2,
            Self::Identity => 3,
            Self::Create(place) => of(0, place),
            Self::Update(place) => of(1, place),
            Self::Delete(place) => of(2, place),
        }
    }

    /// The label's value, as the reference has it (PIPELINE §7).
    pub fn label(self) -> String {
        let of = |action: &str, place: Place| format!("{action}-{}", place.nsid());
        match self {
            Self::Unread | Self::Repo | Self::Account | Self::Identity => {
                PLAIN.get(self.index()).copied().unwrap_or_default().to_owned()
            }
            Self::Create(place) => of("create", place),
            Self::Update(place) => of("update", place),
            Self::Delete(place) => of("delete", place),
        }
    }

    /// The collection, of a record's event.
    pub fn collection(self) -> Option<&'static str> {
        match self {
            Self::Create(place) | Self::Update(place) | Self::Delete(place) => Some(place.nsid()),
            Self::Unread | Self::Repo | Self::Account | Self::Identity => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_numbered_and_named_without_collision() {
        let mut all = vec![EventType::Unread, EventType::Repo, EventType::Account, EventType::Identity];
        let nsids = collections::ALL.iter().map(|collection| collection.nsid).chain(["com.example.x"]);
        for place in nsids.map(Place::of) {
            all.extend([EventType::Create(place), EventType::Update(place), EventType::Delete(place)]);
        }
        let mut numbers: Vec<usize> = all.iter().map(|kind| kind.index()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..EventType::count()).collect::<Vec<_>>());
        let mut labels: Vec<String> = all.iter().map(|kind| kind.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), EventType::count());
        let post = EventType::Create(Place::of("app.bsky.feed.post"));
        assert_eq!(post.label(), "create-app.bsky.feed.post");
        assert_eq!(EventType::Delete(Place::of("x.y.z")).label(), "delete-other");
    }
}
