//! What operators watch with, held to what there is to be watched: metrics, runbooks, tests. Nothing of it needs Prometheus.

use std::collections::BTreeSet;
use std::fs;

use super::names::{declared, unknown};
use super::ours;
use super::queries::{alerts, dashboards, queries_of};

fn read(path: &str) -> String {
    fs::read_to_string(ours(path)).unwrap()
}

#[test]
fn every_metric_of_an_alert_exists() {
    let declared = declared();
    let alerts = alerts(&read("deploy/prometheus/alerts.yml"));
    assert!(alerts.len() > 20, "{}", alerts.len());
    for alert in alerts {
        let unknown = unknown(&alert.text, &declared);
        assert!(
            unknown.is_empty() && !alert.text.is_empty(),
            "{}: {unknown:?} in {}",
            alert.place,
            alert.text
        );
    }
}

/// An alert without a runbook is noise, and a runbook without an alert is never opened.
#[test]
fn every_alert_has_its_runbook_and_its_test() {
    let (rules, tests) = (read("deploy/prometheus/alerts.yml"), read("deploy/prometheus/alerts_test.yml"));
    let operations = read("docs/OPERATIONS.md");
    let (_, runbooks) = operations.split_once("\n## Runbooks\n").expect("a section of runbooks");
    let sections: BTreeSet<&str> = runbooks.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let alerts = alerts(&rules);
    for name in alerts.iter().map(|alert| alert.place.as_str()) {
        let anchor = format!("runbook: docs/OPERATIONS.md#{}\n", name.to_lowercase());
        assert!(rules.contains(&anchor), "{name} does not name its runbook");
        assert!(sections.contains(name), "docs/OPERATIONS.md has no section {name}");
        let fires = tests.contains(&format!("alertname: {name}\n        exp_alerts:\n"));
        assert!(fires, "alerts_test.yml does not show {name} firing");
    }
    let names: BTreeSet<&str> = alerts.iter().map(|alert| alert.place.as_str()).collect();
    assert_eq!(
        sections.difference(&names).collect::<Vec<_>>(),
        Vec::<&&str>::new(),
        "runbooks without an alert"
    );
}

#[test]
fn every_metric_of_a_dashboard_exists() {
    let declared = declared();
    let mut count = 0;
    for (name, dashboard) in dashboards().unwrap() {
        for query in queries_of(&name, &dashboard) {
            let unknown = unknown(&query.text, &declared);
            assert!(unknown.is_empty(), "{}: {unknown:?} in {}", query.place, query.text);
            count += 1;
        }
    }
    assert!(count > 80, "{count}");
}

#[test]
fn dashboards_are_distinct_and_use_the_provisioned_source() {
    let source = read("deploy/grafana/provisioning/datasources/prometheus.yml");
    assert!(source.contains("\n    uid: prometheus\n"), "{source}");
    let provider = read("deploy/grafana/provisioning/dashboards/rsky.yml");
    let compose = read("docker-compose.yml");
    assert!(
        provider.contains("path: /etc/grafana/dashboards") && compose.contains(":/etc/grafana/dashboards:ro")
    );
    let mut uids = BTreeSet::new();
    let all = dashboards().unwrap();
    for (name, dashboard) in &all {
        let uid = dashboard["uid"].as_str().unwrap();
        assert!(uids.insert(uid), "{name}: uid {uid} twice");
        for panel in dashboard["panels"].as_array().unwrap() {
            let is_row = panel["type"] == "row";
            assert!(is_row || panel["datasource"]["uid"] == "prometheus", "{name}: {}", panel["title"]);
            assert!(
                is_row || panel["description"].as_str().is_some_and(|text| !text.is_empty()),
                "{}",
                panel["title"]
            );
        }
    }
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["backfiller.json", "indexer.json", "ingester.json", "overview.json"]);
}
