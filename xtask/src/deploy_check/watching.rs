//! The queries of dashboards and alert rules, asked of a Prometheus that scrapes the daemons.

use anyhow::{Context, Result, bail};

use super::ours;
use super::queries::{Query, alerts, dashboards, filled_in, queries_of};
use crate::admin;

/// Runs every query; how many there were, and how many had an answer. `None`: fewer than half, as in the first minute. One
/// that Prometheus refuses is an error.
///
/// # Errors
/// Prometheus does not answer, or refuses a query.
pub(super) fn queries_run(port: u16) -> Result<Option<String>> {
    let rules = std::fs::read_to_string(ours("deploy/prometheus/alerts.yml"))?;
    let mut queries: Vec<Query> = alerts(&rules);
    for (name, dashboard) in dashboards()? {
        queries.extend(queries_of(&name, &dashboard));
    }
    let mut answered = 0;
    for query in &queries {
        let path = format!("/api/v1/query?query={}", encoded(&filled_in(&query.text)));
        let answer = admin::get(port, &path).with_context(|| format!("{}: {}", query.place, query.text))?;
        let answer: serde_json::Value = serde_json::from_str(&answer)?;
        if answer.get("status").and_then(|status| status.as_str()) != Some("success") {
            bail!("{}: {}: {answer}", query.place, query.text);
        }
        let result = answer.pointer("/data/result").and_then(|result| result.as_array());
        answered += usize::from(result.is_some_and(|result| !result.is_empty()));
    }
    // Rules that fire, and rates of what has not happened, have none on a healthy stack.
    let said =
        format!("takes all {} queries of dashboards and rules; {answered} have an answer", queries.len());
    Ok((answered * 2 > queries.len()).then_some(said))
}

/// A query as part of a URL.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_travel_in_urls() {
        assert_eq!(encoded("a{b=\"c d\"}"), "a%7Bb%3D%22c%20d%22%7D");
    }
}
