//! A URL with credentials that never reach a log.

use std::fmt;

/// A connection URL. `Debug` and `Display` hide the user information; [`Secret::expose`] gives it whole.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a URL (or any other text with a password in it).
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The text with its password. For the connecting code only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else { return f.write_str("***") };
        // A password may itself hold '@' or '/', so everything up to the last '@' is taken for user information; the
        // query may hold a password too.
        let (hidden, shown) = match rest.rsplit_once('@') {
            Some((_, host)) => ("***@", host),
            None => ("", rest),
        };
        let (shown, query) = shown.split_once('?').map_or((shown, ""), |(before, _)| (before, "?***"));
        write!(f, "{scheme}://{hidden}{shown}{query}")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_user_information_and_query() {
        let shown = |url: &str| Secret::new(url).to_string();
        assert_eq!(shown("redis://user:pa@ss/w@host:6379/1"), "redis://***@host:6379/1");
        assert_eq!(shown("redis://host:6379"), "redis://host:6379");
        assert_eq!(shown("postgres://h/db?user=a&password=b"), "postgres://h/db?***");
        assert_eq!(shown("hunter2"), "***");
        assert_eq!(format!("{:?}", Secret::new("redis://:pw@h")), "redis://***@h");
    }
}
