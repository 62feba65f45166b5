//! Which metrics and labels a query names, and which there are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::ours;

/// Names in a query, each with the labels that its selector names.
pub(super) type Names = BTreeMap<String, BTreeSet<String>>;

/// Labels that Prometheus adds.
const OF_PROMETHEUS: &[&str] = &["job", "instance", "le", "__name__"];
/// Words of the language that stand where a name could. Functions are known by what follows them.
const WORDS: &[&str] = &["and", "or", "unless", "bool", "offset", "inf", "nan"];
/// Words after which labels are listed in parentheses.
const BEFORE_LABELS: &[&str] = &["by", "without", "on", "ignoring", "group_left", "group_right"];
/// A metric of Prometheus itself.
const OWN: &str = "up";

/// What docs/METRICS.md says there is: series by name, with their labels. A test of each daemon holds the file to the
/// declarations.
pub(super) fn declared() -> Names {
    declared_in(&fs::read_to_string(ours("docs/METRICS.md")).unwrap())
}

fn declared_in(text: &str) -> Names {
    let mut names = Names::new();
    for row in text.lines().filter_map(|line| line.strip_prefix("| `")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let (Some(name), Some(labels), Some(unit)) = (cells.first(), cells.get(1), cells.get(2)) else {
            continue;
        };
        let name = name.trim_end_matches('`');
        // Labels are the words in backticks before a colon.
        let labels: BTreeSet<String> = labels
            .split("`: ")
            .filter_map(|part| Some(part.rsplit_once('`')?.1.to_owned()))
            .filter(|label| !label.is_empty())
            .collect();
        let suffixes: &[&str] =
            if unit.ends_with("histogram") { &["_bucket", "_sum", "_count"] } else { &[""] };
        for suffix in suffixes {
            names.insert(format!("{name}{suffix}"), labels.clone());
        }
    }
    names
}

/// What a query names that is not there: metrics, and labels that a metric does not have.
pub(super) fn unknown(query: &str, declared: &Names) -> Vec<String> {
    let mut told = Vec::new();
    for (name, labels) in names(query) {
        if name == OWN {
            continue;
        }
        let Some(has) = declared.get(&name) else {
            told.push(format!("no metric {name}"));
            continue;
        };
        let unknown = labels.iter().filter(|label| !has.contains(*label));
        told.extend(
            unknown
                .filter(|label| !OF_PROMETHEUS.contains(&label.as_str()))
                .map(|label| format!("{name} has no label {label}")),
        );
    }
    told
}

/// The metrics that a query names, and the labels it selects them by.
fn names(query: &str) -> Names {
    let mut found = Names::new();
    let mut rest = query.trim_start();
    let mut before = String::new();
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            rest = after_string(rest);
        } else if first == '{' {
            let (labels, named, after) = selector(rest);
            let all = if before.is_empty() { named } else { vec![std::mem::take(&mut before)] };
            for name in all {
                found.entry(name).or_default().extend(labels.iter().cloned());
            }
            rest = after;
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            let after = after.trim_start();
            rest = after;
            before = String::new();
            if BEFORE_LABELS.contains(&word) {
                rest = after.split_once(')').map_or("", |(_, after)| after);
            } else if !WORDS.contains(&word) && !is_function(after) {
                before = word.to_owned();
                found.entry(word.to_owned()).or_default();
            }
        } else if first == '[' {
            rest = rest.split_once(']').map_or("", |(_, after)| after);
        } else if first.is_ascii_digit() {
            // A number, perhaps with an exponent.
            rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.');
        } else {
            before = String::new();
            rest = rest.get(first.len_utf8()..).unwrap_or("");
        }
        rest = rest.trim_start();
    }
    found
}

/// Whether what comes before this is a function or an aggregation: `rate(…)`, `sum by (…) (…)`.
fn is_function(after: &str) -> bool {
    let next = after.split([' ', '(']).next().unwrap_or_default();
    after.starts_with('(') || matches!(next, "by" | "without")
}

fn after_string(text: &str) -> &str {
    text.get(1..).and_then(|inner| inner.split_once('"')).map_or("", |(_, after)| after)
}

/// Labels of a selector in braces, the names its `__name__` stands for, and what comes after it.
fn selector(text: &str) -> (Vec<String>, Vec<String>, &str) {
    let (inner, after) = text.get(1..).and_then(|inner| inner.split_once('}')).unwrap_or(("", ""));
    let (mut labels, mut named) = (Vec::new(), Vec::new());
    let mut rest = inner;
    while let Some((label, value)) = rest.split_once('"') {
        let label = label.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '_').to_owned();
        let (value, next) = value.split_once('"').unwrap_or((value, ""));
        if label == "__name__" {
            named = alternatives(value);
        }
        labels.push(label);
        rest = next;
    }
    (labels, named, after)
}

/// What `a|b` and `(a|b)_c` stand for.
fn alternatives(pattern: &str) -> Vec<String> {
    match pattern.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
        Some((either, rest)) => either.split('|').map(|one| format!("{one}{rest}")).collect(),
        None => pattern.split('|').map(str::to_owned).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_in(query: &str) -> Vec<String> {
        names(query).into_iter().map(|(name, labels)| format!("{name}{labels:?}")).collect()
    }

    #[test]
    fn metrics_and_their_labels_are_found_in_queries() {
        for (query, found) in [
            (
                r#"sum by (a, b) (rate(x_total{c="d e", f=~"g|h"}[5m])) > 0.01 * y"#,
                vec![r#"x_total{"c", "f"}"#, "y{}"],
            ),
            (
                r#"{__name__=~"(i|b)_bytes"} unless on () max(z) == 1"#,
                vec![r#"b_bytes{"__name__"}"#, r#"i_bytes{"__name__"}"#, "z{}"],
            ),
            (
                r#"{__name__=~"p|q", s="t"} == 1 and bool 1e9"#,
                vec![r#"p{"__name__", "s"}"#, r#"q{"__name__", "s"}"#],
            ),
            (r#"label_replace(v, "of", "$1", "job", "(.*)") offset 5m"#, vec!["v{}"]),
        ] {
            assert_eq!(names_in(query), found, "{query}");
        }
    }

    #[test]
    fn what_is_not_declared_is_told() {
        let table = "| metric | labels | unit | what |\n|---|---|---|---|\n\
            | `x_total` | `stream`: a stream; `kind`: `a` `b` | things, counter | Things |\n\
            | `t_seconds` |  | seconds, histogram | Time |\n";
        let declared = declared_in(table);
        let none: Vec<String> = Vec::new();
        assert_eq!(
            unknown(r#"x_total{stream="s", kind="a", job="j"} + t_seconds_sum + up"#, &declared),
            none
        );
        assert_eq!(unknown(r#"x_total{host="s"}"#, &declared), ["x_total has no label host"]);
        assert_eq!(unknown("t_seconds + y", &declared), ["no metric t_seconds", "no metric y"]);
    }
}
