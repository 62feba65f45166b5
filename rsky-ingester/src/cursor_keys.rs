//! Under which keys a host's cursor is kept.
//!
//! A relay is one relay however its address is written: with or without scheme, with a final slash, with the port that is
//! the default anyway, in capitals. So its cursor has one key: the bare form, which is what the reference makes of
//! `relay.example` and of `https://relay.example`. Where it is configured in another way, the reference (and this daemon
//! once) makes another key of that; that one is kept up to date as well, so that either program continues where the other
//! stopped. When there is neither, keys of other ways to write it are looked at: whoever adds a scheme to the
//! configuration shall not lose the place.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisResult};
use rsky_common::redis::{CursorWriter, LinkError, Outcome};
use rsky_common::wire::names;

use crate::host::Host;

/// The keys of one host's cursor for one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorKeys {
    /// Where the cursor is.
    pub key: String,
    /// What the reference calls it, as the host is configured, if that is another name.
    configured: Option<String>,
    /// Other ways to write the host.
    others: Vec<String>,
}

/// How values of a cursor are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Numbers, of which the highest is the latest.
    Numbers,
    /// Whatever a host gives.
    Opaque,
}

impl CursorKeys {
    /// The keys for a stream and a host.
    pub fn new(stream: &str, host: &Host) -> Self {
        let name = |host: &str| format!("{stream}:cursor:{host}");
        let key = name(&host.bare());
        let configured = names::cursor_key(stream, host.configured());
        let configured = (configured != key).then_some(configured);
        let mut others = Vec::new();
        for written in host.ways_to_write() {
            let other = name(&written);
            if other != key && Some(&other) != configured.as_ref() && !others.contains(&other) {
                others.push(other);
            }
        }
        Self { key, configured, others }
    }

    /// Keys that get the cursor's value as well.
    pub fn also(&self) -> Vec<String> {
        self.configured.iter().cloned().collect()
    }

    /// The key and the value from where reading goes on, as far as they are stored. Nothing is changed.
    ///
    /// # Errors
    /// Redis'.
    pub async fn stored(&self, redis: &mut MultiplexedConnection) -> RedisResult<Option<(String, String)>> {
        let keys: Vec<&String> =
            std::iter::once(&self.key).chain(&self.configured).chain(&self.others).collect();
        let stored: Vec<Option<String>> = redis::cmd("MGET").arg(&keys).query_async(redis).await?;
        let chosen = self.choose(&keys, &stored, Values::Numbers);
        Ok(chosen.map(|(key, value)| (key.to_owned(), value.clone())))
    }

    /// Finds the place where reading stopped, whatever the key was called then, and puts it where it belongs.
    ///
    /// # Errors
    /// `Stopped`, or an error of Redis that waiting does not cure.
    pub async fn adopt(&self, writer: &mut CursorWriter, values: Values) -> Result<(), LinkError> {
        let keys: Vec<&String> =
            std::iter::once(&self.key).chain(&self.configured).chain(&self.others).collect();
        let mut command: Cmd = redis::cmd("MGET");
        command.arg(&keys);
        loop {
            let stored: Vec<Option<String>> = writer.link().retry(&command).await?;
            let Some((from, value)) = self.choose(&keys, &stored, values) else { return Ok(()) };
            let own = usize::from(self.configured.is_some()).saturating_add(1);
            if stored.iter().take(own).all(|stored| stored.as_ref() == Some(value)) {
                return Ok(());
            }
            // What another process does meanwhile decides, as everywhere.
            if writer.look().await?.stored.as_ref() != stored.first().unwrap_or(&None).as_ref() {
                continue;
            }
            tracing::info!(key = self.key, value, "reading on from the cursor in {from}");
            if let Outcome::Written { .. } = writer.write(&Default::default(), Some(value)).await? {
                return Ok(());
            }
        }
    }

    /// The key whose value counts, with that value.
    fn choose<'a>(
        &self,
        keys: &[&'a String],
        stored: &'a [Option<String>],
        values: Values,
    ) -> Option<(&'a str, &'a String)> {
        let own = usize::from(self.configured.is_some()).saturating_add(1);
        let found: Vec<(usize, &str, &String)> = keys
            .iter()
            .zip(stored)
            .enumerate()
            .filter_map(|(at, (key, value))| Some((at, key.as_str(), value.as_ref()?)))
            .collect();
        let belongs = |(at, _, _): &&(usize, &str, &String)| *at < own;
        let candidates: Vec<_> = if found.iter().any(|one| belongs(&one)) {
            found.iter().filter(belongs).collect()
        } else {
            found.iter().collect()
        };
        let number = |text: &str| text.parse::<i64>().ok();
        let chosen = match values {
            // What is no number is left where it is: the reader says so.
            Values::Numbers
                if candidates.iter().any(|(at, _, value)| *at == 0 && number(value).is_none()) =>
            {
                candidates.first().copied()
            }
            Values::Numbers => candidates
                .iter()
                .copied()
                .max_by_key(|(at, _, value)| (number(value), std::cmp::Reverse(*at))),
            // The other program writes the configured one; after our own last write both are the same.
            Values::Opaque => {
                candidates.iter().copied().find(|(at, ..)| *at == 1).or_else(|| candidates.first().copied())
            }
        };
        chosen.map(|(_, key, value)| (*key, *value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(host: &str) -> CursorKeys {
        CursorKeys::new("s", &Host::parse(host).unwrap())
    }

    #[test]
    fn one_host_has_one_key_however_it_is_written() {
        for host in [
            "relay.example",
            "https://relay.example",
            "wss://relay.example",
            "http://relay.example",
            "relay.example/",
            "Relay.Example",
            "https://relay.example:443/",
            "ws://relay.example:80",
        ] {
            assert_eq!(keys(host).key, "s:cursor:relay.example", "{host}");
        }
        assert_eq!(keys("http://relay.example:443").key, "s:cursor:relay.example:443");
        assert_eq!(keys("http://127.0.0.1:5590").key, "s:cursor:127.0.0.1:5590");
        assert_eq!(keys("https://relay.example/Path/").key, "s:cursor:relay.example/Path");
    }

    #[test]
    fn what_the_reference_calls_it_is_kept_up_to_date() {
        assert_eq!(keys("https://relay.example").also(), Vec::<String>::new());
        assert_eq!(keys("https://Relay.example/").also(), ["s:cursor:Relay.example/"]);
        assert_eq!(keys("wss://relay.example").also(), ["s:cursor:wss://relay.example"]);
    }

    #[test]
    fn other_ways_to_write_it_are_known() {
        let others = keys("relay.example").others;
        for other in ["wss://relay.example", "relay.example/", "relay.example:443", "wss://relay.example/"] {
            assert!(others.contains(&format!("s:cursor:{other}")), "{other}: {others:?}");
        }
    }

    fn chosen(host: &str, stored: &[(&str, &str)], values: Values) -> Option<String> {
        let keys = keys(host);
        let all: Vec<&String> =
            std::iter::once(&keys.key).chain(&keys.configured).chain(&keys.others).collect();
        let stored: Vec<Option<String>> = all
            .iter()
            .map(|key| {
                let value = stored.iter().find(|(name, _)| **key == format!("s:cursor:{name}"));
                value.map(|(_, value)| (*value).to_owned())
            })
            .collect();
        keys.choose(&all, &stored, values).map(|(_, value)| value.clone())
    }

    #[test]
    fn the_latest_of_its_own_keys_counts_and_others_only_without_them() {
        let numbers = Values::Numbers;
        assert_eq!(chosen("r", &[], numbers), None);
        assert_eq!(chosen("wss://r", &[("r", "5")], numbers).as_deref(), Some("5"));
        assert_eq!(chosen("r", &[("wss://r", "7")], numbers).as_deref(), Some("7"));
        assert_eq!(chosen("r", &[("r", "5"), ("wss://r", "7")], numbers).as_deref(), Some("5"));
        assert_eq!(chosen("wss://r", &[("r", "5"), ("wss://r", "7")], numbers).as_deref(), Some("7"));
        assert_eq!(chosen("r/", &[("r", "10"), ("r/", "9")], numbers).as_deref(), Some("10"));
        assert_eq!(chosen("r", &[("r", "junk"), ("wss://r", "7")], numbers).as_deref(), Some("junk"));
        assert_eq!(chosen("r/", &[("r", "b"), ("r/", "a")], Values::Opaque).as_deref(), Some("a"));
        assert_eq!(chosen("r", &[("r", "b"), ("r/", "a")], Values::Opaque).as_deref(), Some("b"));
    }

    #[test]
    fn a_cursor_that_is_no_number_is_not_passed_over() {
        let stored = [("r", "junk"), ("r/", "9")];
        assert_eq!(chosen("r/", &stored, Values::Numbers).as_deref(), Some("junk"));
        let stored = [("r", "5"), ("r/", "junk")];
        assert_eq!(chosen("r/", &stored, Values::Numbers).as_deref(), Some("5"));
    }

    #[test]
    fn no_other_way_to_write_it_outdoes_its_own_key() {
        for host in ["r", "r/"] {
            for other in &keys(host).others {
                let other = other.strip_prefix("s:cursor:").unwrap();
                let stored = [("r", "5"), (other, "7")];
                assert_eq!(chosen(host, &stored, Values::Numbers).as_deref(), Some("5"), "{host} {other}");
            }
        }
    }
}
