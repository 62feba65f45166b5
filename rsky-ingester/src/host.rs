//! The hosts that are read from, as configured.

use url::Url;

/// A relay or labeler. With or without scheme; none means https and wss (DECISIONS, names).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    configured: String,
    secure: bool,
    rest: String,
}

impl Host {
    /// `None`: not a host.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
        let secure = match scheme {
            "https" | "wss" => true,
            "http" | "ws" => false,
            _ => return None,
        };
        let host = Self { configured: text.to_owned(), secure, rest: rest.trim_end_matches('/').to_owned() };
        let url = Url::parse(&host.http_url()).ok()?;
        let plain = url.query().is_none() && url.fragment().is_none() && url.password().is_none();
        (plain && url.host().is_some() && !rest.contains(char::is_whitespace)).then_some(host)
    }

    /// As it was configured: what the metrics' labels are made of.
    pub fn configured(&self) -> &str {
        &self.configured
    }

    /// With the scheme for requests, without a final slash.
    pub fn http_url(&self) -> String {
        format!("{}://{}", if self.secure { "https" } else { "http" }, self.rest)
    }

    /// With the scheme for subscriptions, without a final slash.
    pub fn socket_url(&self) -> String {
        format!("{}://{}", if self.secure { "wss" } else { "ws" }, self.rest)
    }

    /// Without scheme, final slash and a port that goes without saying, the name in small letters: one form for all ways
    /// to write one host.
    pub fn bare(&self) -> String {
        let (authority, path) = self.split();
        let authority = authority.to_ascii_lowercase();
        let authority = authority.strip_suffix(self.default_port()).unwrap_or(&authority);
        format!("{authority}{path}")
    }

    /// The bare form as it may have been configured: with the default port, with the scheme of a subscription, with a
    /// final slash.
    pub fn ways_to_write(&self) -> Vec<String> {
        let bare = self.bare();
        let (authority, path) = bare.split_at(bare.find('/').unwrap_or(bare.len()));
        let mut hosts = vec![bare.clone()];
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if !has_port {
            hosts.push(format!("{authority}{}{path}", self.default_port()));
        }
        let scheme = if self.secure { "wss://" } else { "ws://" };
        let with_scheme: Vec<String> = hosts.iter().map(|host| format!("{scheme}{host}")).collect();
        hosts.extend(with_scheme);
        let with_slash: Vec<String> = hosts.iter().map(|host| format!("{host}/")).collect();
        hosts.extend(with_slash);
        hosts
    }

    fn split(&self) -> (&str, &str) {
        self.rest.split_at(self.rest.find('/').unwrap_or(self.rest.len()))
    }

    fn default_port(&self) -> &'static str {
        if self.secure { ":443" } else { ":80" }
    }

    /// What entries of `repo_backfill` say the repository's host is (PIPELINE 3.3): as configured, with a scheme that
    /// can be fetched from.
    pub fn in_entries(&self) -> String {
        let fetchable = self.configured.starts_with("http://") || self.configured.starts_with("https://");
        if fetchable { self.configured.clone() } else { self.http_url() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_optional_and_honoured() {
        for (text, http, socket, entries) in [
            ("bsky.network", "https://bsky.network", "wss://bsky.network", "https://bsky.network"),
            ("https://bsky.network/", "https://bsky.network", "wss://bsky.network", "https://bsky.network/"),
            (
                "http://127.0.0.1:5590",
                "http://127.0.0.1:5590",
                "ws://127.0.0.1:5590",
                "http://127.0.0.1:5590",
            ),
            ("ws://relay:80/path", "http://relay:80/path", "ws://relay:80/path", "http://relay:80/path"),
            ("[::1]:9", "https://[::1]:9", "wss://[::1]:9", "https://[::1]:9"),
        ] {
            let host = Host::parse(text).unwrap();
            assert_eq!((host.http_url().as_str(), host.socket_url().as_str()), (http, socket), "{text}");
            assert_eq!(host.in_entries(), entries);
            assert_eq!(host.configured(), text);
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in ["", "ftp://x", "https://", "a b", "https://x?y=1", "x#y", "https://u:p@x"] {
            assert_eq!(Host::parse(text), None, "{text}");
        }
    }
}
