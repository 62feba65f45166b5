//! Queries of alert rules and dashboards: where they are.

use std::fs;

use anyhow::{Context, Result};

use super::ours;

/// A query, and where it stands.
#[derive(Debug)]
pub(super) struct Query {
    /// File and panel, or alert.
    pub(super) place: String,
    /// The expression.
    pub(super) text: String,
}

/// The alerts of a file of rules, by name, with their expressions. It is read by lines, as it is laid out.
pub(super) fn alerts(rules: &str) -> Vec<Query> {
    let mut found: Vec<Query> = Vec::new();
    let mut is_expression = false;
    for line in rules.lines() {
        let trimmed = line.trim();
        if let Some(name) = trimmed.strip_prefix("- alert: ") {
            found.push(Query { place: name.to_owned(), text: String::new() });
            is_expression = false;
        } else if let (Some(query), Some(text)) = (found.last_mut(), trimmed.strip_prefix("expr: ")) {
            is_expression = text == ">-";
            query.text = if is_expression { String::new() } else { text.trim_matches('\'').to_owned() };
        } else if is_expression {
            let ends = ["for: ", "labels: ", "annotations:"].iter().any(|key| trimmed.starts_with(key));
            is_expression = !ends;
            if let (false, Some(query)) = (ends, found.last_mut()) {
                query.text.push_str(trimmed);
                query.text.push(' ');
            }
        }
    }
    found
}

/// The dashboards' files, by name.
///
/// # Errors
/// The folder or a file cannot be read, or a file is no JSON.
pub(super) fn dashboards() -> Result<Vec<(String, serde_json::Value)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(ours("deploy/grafana/dashboards"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path)?;
        found.push((name, serde_json::from_str(&text).with_context(|| path.display().to_string())?));
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

/// Every query of a dashboard.
pub(super) fn queries_of(name: &str, dashboard: &serde_json::Value) -> Vec<Query> {
    let panels = dashboard.get("panels").and_then(|panels| panels.as_array()).into_iter().flatten();
    panels
        .flat_map(|panel| {
            let title = panel.get("title").and_then(|title| title.as_str()).unwrap_or_default().to_owned();
            let targets = panel.get("targets").and_then(|targets| targets.as_array()).into_iter().flatten();
            targets.filter_map(move |target| {
                let text = target.get("expr")?.as_str()?.to_owned();
                Some(Query { place: format!("{name}: {title}"), text })
            })
        })
        .collect()
}

/// A query as Prometheus takes it: with the variables of the dashboards filled in.
pub(super) fn filled_in(text: &str) -> String {
    text.replace("$__rate_interval", "5m").replace("$instance", ".*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_of_rules_are_read_over_lines() {
        let rules = "- alert: A\n  expr: x > 1\n  for: 5m\n- alert: B\n  expr: >-\n    y\n    > 2\n  labels: {a: b}\n- alert: C\n  expr: '{__name__=~\"z\"}'\n";
        let found: Vec<(String, String)> =
            alerts(rules).into_iter().map(|query| (query.place, query.text.trim().to_owned())).collect();
        let wanted = [("A", "x > 1"), ("B", "y > 2"), ("C", "{__name__=~\"z\"}")];
        assert_eq!(found, wanted.map(|(name, text)| (name.to_owned(), text.to_owned())));
    }
}
