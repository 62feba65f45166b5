//! Where the watching begins, and where it may go on.

use std::collections::BTreeMap;
use std::str::FromStr;

use rsky_common::redis::tail::BEGINNING;

use crate::identity::EntryId;

/// Where to begin, as it is said on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum From {
    /// With what comes from now on.
    Now,
    /// Behind an id, in every stream.
    Behind(String),
    /// Behind an id of each stream.
    Each(BTreeMap<String, String>),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "$" {
            return Ok(Self::Now);
        }
        if !text.contains('=') {
            return Ok(Self::Behind(id(text)?));
        }
        let each = text.split(',').map(|part| {
            // A name may hold anything else.
            let (stream, place) =
                part.rsplit_once('=').ok_or_else(|| format!("{part}: expected stream=id"))?;
            Ok((stream.to_owned(), id(place)?))
        });
        Ok(Self::Each(each.collect::<Result<_, String>>()?))
    }
}

impl From {
    /// Behind which id a stream is read; `None`: from now on.
    pub(super) fn of(&self, stream: &str) -> Option<&str> {
        match self {
            Self::Now => None,
            Self::Behind(id) => Some(id),
            Self::Each(each) => each.get(stream).map(String::as_str),
        }
    }

    /// The streams that are named.
    pub(super) fn named(&self) -> impl Iterator<Item = &str> {
        let each = if let Self::Each(each) = self { Some(each.keys()) } else { None };
        each.into_iter().flatten().map(String::as_str)
    }
}

fn id(text: &str) -> Result<String, String> {
    let wrong = || format!("{text}: expected $, 0, or an id as 1700000000000-0");
    let (ms, number) = text.split_once('-').unwrap_or((text, "0"));
    let part = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    Ok(written((part(ms)?, part(number)?)))
}

/// An id as Redis writes it.
pub(super) fn written((ms, number): EntryId) -> String {
    format!("{ms}-{number}")
}

/// The id before another: what is read behind it begins with the other.
pub(super) fn before((ms, number): EntryId) -> EntryId {
    match (ms, number) {
        (0, 0) => (0, 0),
        (ms, 0) => (ms.saturating_sub(1), u64::MAX),
        (ms, number) => (ms, number.saturating_sub(1)),
    }
}

/// Where a stream begins that is not there yet.
pub(super) fn beginning() -> String {
    BEGINNING.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_printed() {
        assert_eq!("$".parse::<From>(), Ok(From::Now));
        assert_eq!("0".parse::<From>(), Ok(From::Behind("0-0".to_owned())));
        let each: From = "a=5-1,b=x=7".parse().unwrap();
        assert_eq!((each.of("a"), each.of("b=x"), each.of("c")), (Some("5-1"), Some("7-0"), None));
        assert_eq!(each.named().collect::<Vec<_>>(), ["a", "b=x"]);
        for wrong in ["", "x", "5-x", "a=,b=1", "1-1-1", "-1"] {
            assert!(wrong.parse::<From>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_id_before_another() {
        assert_eq!(before((5, 0)), (4, u64::MAX));
        assert_eq!(before((5, 3)), (5, 2));
        assert_eq!(before((0, 0)), (0, 0));
    }
}
