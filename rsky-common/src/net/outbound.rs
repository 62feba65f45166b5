use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::{Attempt, Policy};
use thiserror::Error as ThisError;
use url::{Host, Url};

use super::is_public;

/// Redirects followed in a row.
const MOST_REDIRECTS: usize = 5;

/// Why a host is not contacted.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub enum Refused {
    /// Neither https nor, where private addresses are allowed, http.
    #[error("scheme {0} is not allowed")]
    Scheme(String),
    /// A port of another service.
    #[error("port {0} is not allowed")]
    Port(u16),
    /// User name or password in the URL.
    #[error("URL with credentials")]
    Credentials,
    /// No host in the URL.
    #[error("URL without a host")]
    NoHost,
    /// The name leads to no public address.
    #[error("{0} is not a public address (ALLOW_PRIVATE_ADDRESSES=true allows it)")]
    Address(IpAddr),
    /// An address of the link, where only machinery answers, such as a cloud's metadata service.
    #[error("{0} is a link-local address")]
    LinkLocal(IpAddr),
    /// More redirects than anybody needs.
    #[error("more than {MOST_REDIRECTS} redirects")]
    Redirects,
}

/// What may be contacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outbound {
    /// Whether addresses that are not public, and plain http, are allowed: development, private networks.
    pub allow_private: bool,
}

impl Outbound {
    /// Checks everything about a URL that can be seen without looking its name up.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn check(&self, url: &Url) -> Result<(), Refused> {
        let scheme = url.scheme();
        if scheme != "https" && !(scheme == "http" && self.allow_private) {
            return Err(Refused::Scheme(scheme.to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::Credentials);
        }
        // Ports below 1024 other than those of the web belong to services that might take a request for something else.
        let port = url.port_or_known_default().unwrap_or(0);
        if !matches!(port, 80 | 443 | 1024..) && !self.allow_private {
            return Err(Refused::Port(port));
        }
        let literal = match url.host() {
            None => return Err(Refused::NoHost),
            Some(Host::Domain(_)) => return Ok(()),
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
        };
        // A literal address is connected to without asking the resolver, so it is looked at here.
        self.check_address(literal)
    }

    fn check_address(&self, address: IpAddr) -> Result<(), Refused> {
        if !self.allow_private && !is_public(address) {
            return Err(Refused::Address(address));
        }
        let is_link_local = match address.to_canonical() {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        if is_link_local { Err(Refused::LinkLocal(address)) } else { Ok(()) }
    }

    /// A client that connects to nothing else, and checks every redirect. Each request's own URL is to be checked
    /// with [`Outbound::check`] by the caller. Proxies of the environment are not used: they would connect for us.
    pub fn client(self) -> reqwest::ClientBuilder {
        reqwest::Client::builder()
            .no_proxy()
            .referer(false)
            .dns_resolver(Arc::new(Resolver(self)))
            .redirect(Policy::custom(move |attempt| self.redirect(attempt)))
    }

    fn redirect(self, attempt: Attempt<'_>) -> reqwest::redirect::Action {
        if attempt.previous().len() > MOST_REDIRECTS {
            return attempt.error(Refused::Redirects);
        }
        match self.check(attempt.url()) {
            Ok(()) => attempt.follow(),
            Err(refused) => attempt.error(refused),
        }
    }
}

/// No client can be made: nothing could be reached over HTTPS.
#[derive(Debug, ThisError)]
#[error(
    "HTTPS cannot be set up (are there root certificates? Debian has them in the package ca-certificates): {0}"
)]
pub struct NoHttps(reqwest::Error);

/// The client that a builder makes.
///
/// # Errors
/// TLS cannot be set up, most often because there are no root certificates.
pub fn build(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, NoHttps> {
    builder.build().map_err(NoHttps)
}

/// The refusal at the root of a failed request, if that is what it failed of.
pub fn refusal(error: &reqwest::Error) -> Option<Refused> {
    let mut next: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = next {
        if let Some(refused) = error.downcast_ref::<Refused>() {
            return Some(refused.clone());
        }
        next = error.source();
    }
    None
}

/// Gives only the addresses that may be connected to: the connection is made to one of these, so there is no second
/// look-up that could answer differently.
struct Resolver(Outbound);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let outbound = self.0;
        Box::pin(async move {
            let (mut allowed, mut refused) = (Vec::new(), None);
            for address in tokio::net::lookup_host((name.as_str(), 0)).await? {
                match outbound.check_address(address.ip()) {
                    Ok(()) => allowed.push(address),
                    Err(why) => refused = Some(why),
                }
            }
            match refused {
                Some(refused) if allowed.is_empty() => Err(refused.into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allow_private: bool, url: &str) -> Result<(), Refused> {
        Outbound { allow_private }.check(&Url::parse(url).unwrap())
    }

    #[test]
    fn urls_are_restricted() {
        for url in [
            "https://pds.example",
            "https://pds.example:8443/",
            "https://8.8.8.8/",
            "https://[2606:4700::1]/",
        ] {
            assert_eq!(check(false, url), Ok(()), "{url}");
        }
        assert_eq!(check(false, "http://pds.example"), Err(Refused::Scheme("http".to_owned())));
        assert_eq!(check(true, "http://127.0.0.1:99"), Ok(()));
        assert_eq!(check(true, "file:///etc/passwd"), Err(Refused::Scheme("file".to_owned())));
        assert_eq!(check(true, "https://user@pds.example"), Err(Refused::Credentials));
        assert_eq!(check(true, "https://:pw@pds.example"), Err(Refused::Credentials));
        assert_eq!(check(false, "https://pds.example:25"), Err(Refused::Port(25)));
        // Every spelling of an address that the URL standard knows.
        for url in [
            "https://127.0.0.1",
            "https://127.1",
            "https://2130706433",
            "https://0x7f.1",
            "https://0177.0.0.1",
            "https://169.254.169.254",
            "https://[::1]",
            "https://[::ffff:127.0.0.1]",
            "https://[::ffff:a9fe:a9fe]",
        ] {
            assert!(matches!(check(false, url), Err(Refused::Address(_))), "{url}");
        }
    }

    async fn get(url: &str, allow_private: bool) -> Result<reqwest::Response, Option<Refused>> {
        crate::runtime::daemon::install_crypto();
        let client = Outbound { allow_private }.client().build().unwrap();
        client.get(url).send().await.map_err(|error| refusal(&error))
    }

    #[tokio::test]
    async fn a_name_that_leads_to_this_machine_is_refused_when_it_is_looked_up() {
        let refused = get("https://localhost:4/", false).await.unwrap_err();
        assert!(matches!(refused, Some(Refused::Address(_))), "{refused:?}");
        // Allowed, it is tried: the port is closed, which is no refusal.
        assert_eq!(get("https://localhost:4/", true).await.unwrap_err(), None);
    }

    #[test]
    fn the_link_is_out_of_bounds_also_where_private_addresses_are_allowed() {
        for url in ["http://169.254.169.254/latest", "http://[fe80::1]/", "http://[::ffff:a9fe:a9fe]/"] {
            assert!(matches!(check(true, url), Err(Refused::LinkLocal(_))), "{url}");
        }
    }

    #[tokio::test]
    async fn redirects_are_held_to_the_same_rules() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        crate::runtime::daemon::install_crypto();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        for to in [
            "https://127.0.0.1/",
            "https://169.254.169.254/latest/meta-data",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://localhost/",
            "http://pds.example/",
            "https://u:p@pds.example/",
            "https://pds.example:25/",
        ] {
            // As if the first host were a public one.
            let client =
                Outbound { allow_private: false }.client().resolve("pds.example", here).build().unwrap();
            let asked = tokio::spawn(client.get(format!("http://pds.example:{}/", here.port())).send());
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            let answer = format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            let error = asked.await.unwrap().unwrap_err();
            assert!(refusal(&error).is_some(), "{to}: {error:?}");
        }
    }
}
