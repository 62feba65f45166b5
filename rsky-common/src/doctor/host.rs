//! The machine and the network: names, HTTPS, the clock, memory.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::{Client, header};
use tokio::time::timeout;
use url::Url;

use super::Finding;
use crate::runtime::memory_plan::Report;

/// Time for a name to be looked up.
const LOOK_UP: Duration = Duration::from_secs(5);
/// Time for an answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How far two clocks may be apart. Lags are measured between them, and TLS fails when they are days apart.
pub const CLOCKS: Duration = Duration::from_secs(30);

/// Whether a name leads to an address.
pub async fn name(about: &str, host: &str, port: u16) -> Finding {
    match timeout(LOOK_UP, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(mut addresses)) => match addresses.next() {
            Some(address) => Finding::fine(about, format!("the name {host} leads to {}", address.ip())),
            None => {
                Finding::broken(about, format!("the name {host} leads to no address"), "correct the setting")
            }
        },
        Ok(Err(error)) => Finding::broken(
            about,
            format!("the name {host} cannot be looked up: {error}"),
            "correct the setting, or the name servers (/etc/resolv.conf)",
        ),
        Err(_) => Finding::broken(
            about,
            format!("the name {host} was not looked up within {} s", LOOK_UP.as_secs()),
            "see whether the name servers answer (/etc/resolv.conf)",
        ),
    }
}

/// Whether a host answers over HTTP, with a certificate that is trusted, and has about our time. Any answer will do.
pub async fn answers(about: &str, client: &Client, url: Url) -> Vec<Finding> {
    let host = url.host_str().unwrap_or_default().to_owned();
    let asked = timeout(ANSWER, client.get(url).send()).await;
    let answer = match asked {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            let error = error.without_url();
            let mut said = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(inner) = source {
                said.push_str(&format!(": {inner}"));
                source = inner.source();
            }
            let todo = if said.contains("certificate") {
                "see whether it is the right host; a certificate of your own belongs to the system's roots"
            } else {
                "see whether it is up, and whether a firewall lets us out (proxies are not used)"
            };
            return vec![Finding::broken(about, format!("{host} does not answer: {said}"), todo)];
        }
        Err(_) => {
            return vec![Finding::broken(
                about,
                format!("{host} does not answer within {} s", ANSWER.as_secs()),
                "see whether it is up, and whether a firewall lets us out (proxies are not used)",
            )];
        }
    };
    let mut findings =
        vec![Finding::fine(about, format!("{host} answers (HTTP {})", answer.status().as_u16()))];
    let date = answer.headers().get(header::DATE).and_then(|value| value.to_str().ok());
    if let Some(theirs) = date.and_then(|date| httpdate::parse_http_date(date).ok()) {
        findings.push(clock(&host, theirs));
    }
    findings
}

/// Our clock beside another.
pub fn clock(whose: &str, theirs: SystemTime) -> Finding {
    let now = SystemTime::now();
    let (apart, which) = match now.duration_since(theirs) {
        Ok(behind) => (behind, "behind ours"),
        Err(error) => (error.duration(), "ahead of ours"),
    };
    if apart <= CLOCKS {
        return Finding::fine("clock", format!("that of {whose} is as ours"));
    }
    Finding::look(
        "clock",
        format!("that of {whose} is {} s {which}: lags are wrong by as much", apart.as_secs()),
        "set both by NTP (timedatectl)",
    )
}

/// A moment by its seconds since the epoch.
pub fn moment(seconds: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH)
}

/// The plan of memory.
pub fn memory(plan: Option<&Report>) -> Finding {
    match plan {
        None => Finding::fine("memory", "nothing is planned"),
        Some(plan) => match plan.warning() {
            None => Finding::fine("memory", plan.to_string().trim_start_matches("memory: ").to_owned()),
            Some(warning) => Finding::look(
                "memory",
                warning.trim_start_matches("memory: ").to_owned(),
                "raise the limit (MemoryMax, mem_limit), or lower what was set by hand",
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn clocks_that_are_apart_are_said() {
        let at = |seconds: i64| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            clock("x", moment(now.checked_add_signed(seconds).unwrap()))
        };
        assert_eq!(at(0).level, Level::Fine);
        assert!(at(-3600).says.contains("behind ours") && at(-3600).level == Level::Look);
        assert!(at(3600).says.contains("ahead of ours"));
    }

    #[tokio::test]
    async fn a_name_that_leads_nowhere_is_broken() {
        assert_eq!(name("dns", "localhost", 1).await.level, Level::Fine);
        assert_eq!(name("dns", "no.such.host.invalid", 1).await.level, Level::Broken);
    }
}
