//! Where a subscription reads, as the writer and the reader agree on it.

use rsky_common::redis::Found;
use rsky_common::runtime::CancellationToken;

/// The writer's answer to where reading goes on.
#[derive(Clone, Debug)]
pub struct Place {
    /// After which number; `None`: the host decides. `Err`: the stored cursor makes no sense.
    pub after: Result<Option<i64>, String>,
    /// What comes live is to be looked at only.
    pub probe: bool,
    /// Cancelled when what comes from there is of no use any more: reading has to start elsewhere.
    pub over: CancellationToken,
}

/// What a cursor that is not the one this process left says about the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is further on: somebody else writes what this process reads.
    Ahead(i64),
    /// It is further back, gone, or as it was while what was written without it is in doubt: to be read again.
    Back(Option<i64>),
    /// It cannot be read.
    Unreadable,
}

/// Takes a look at the cursor for what it says. `ours`: the number this process left there.
pub fn change(found: &Found, ours: Option<i64>) -> Change {
    match found.stored.as_deref().map(str::parse::<i64>) {
        Some(Err(_)) => Change::Unreadable,
        Some(Ok(stored)) if ours.is_none_or(|ours| stored > ours) => Change::Ahead(stored),
        Some(Ok(stored)) => Change::Back(Some(stored)),
        None => Change::Back(None),
    }
}

/// A number that was read from Redis, or why it is none.
pub fn number(key: &str, stored: Option<&str>) -> Result<Option<i64>, String> {
    match stored.map(str::parse::<i64>) {
        None => Ok(None),
        Some(Ok(cursor)) => Ok(Some(cursor)),
        Some(Err(_)) => {
            let text = rsky_common::admin::shown(stored.unwrap_or_default(), 40);
            Err(format!("{key} holds \"{text}\", which is no cursor"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_tells_ahead_from_back() {
        let found = |stored: Option<&str>| Found {
            expected: None,
            stored: stored.map(str::to_owned),
            doubtful: false,
        };
        assert_eq!(change(&found(Some("9")), Some(5)), Change::Ahead(9));
        assert_eq!(change(&found(Some("5")), Some(5)), Change::Back(Some(5)));
        assert_eq!(change(&found(Some("3")), Some(5)), Change::Back(Some(3)));
        assert_eq!(change(&found(Some("3")), None), Change::Ahead(3));
        assert_eq!(change(&found(None), Some(5)), Change::Back(None));
        assert_eq!(change(&found(Some("x")), Some(5)), Change::Unreadable);
    }

    #[test]
    fn what_is_no_number_is_said_and_not_read_as_one() {
        assert_eq!(number("key", None), Ok(None));
        assert_eq!(number("key", Some("7")), Ok(Some(7)));
        assert_eq!(number("key", Some("7x")), Err("key holds \"7x\", which is no cursor".to_owned()));
    }
}
