//! A scrape held against the declarations.

use std::collections::BTreeSet;

use super::declaration::{Declaration, Group, Kind, Values};

/// What of a scrape is not as declared: names that nobody declared, other types, other labels, values of no closed set, and
/// what should be there from the start and is not. Empty: it is as declared.
pub fn differences(scrape: &str, groups: &[Group]) -> Vec<String> {
    let declared: Vec<&Declaration> = groups.iter().flat_map(|group| group.all.iter().copied()).collect();
    let of = |name: &str| declared.iter().copied().find(|declared| names(declared, name));
    let (mut told, mut seen) = (Vec::new(), BTreeSet::new());
    for line in scrape.lines().filter(|line| !line.is_empty()) {
        if let Some(about) = line.strip_prefix("# TYPE ") {
            let (name, kind) = about.split_once(' ').unwrap_or((about, ""));
            let is_right = of(name).is_some_and(|declared| type_of(declared) == kind);
            if !is_right {
                told.push(format!("{name} is a {kind}, and not declared as one"));
            }
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            match of(name) {
                None => told.push(format!("{name} is not declared")),
                Some(declared) => {
                    seen.insert(declared.name);
                    told.extend(labels_differ(declared, name, labels(line)));
                }
            }
        }
    }
    let missing =
        declared.iter().filter(|declared| declared.absent.is_empty() && !seen.contains(declared.name));
    told.extend(missing.map(|declared| format!("{} is missing", declared.name)));
    told.sort_unstable();
    told.dedup();
    told
}

/// Whether a series of this name belongs to the declaration.
fn names(declared: &Declaration, name: &str) -> bool {
    let part = name.strip_prefix(declared.name);
    match declared.kind {
        Kind::Histogram => matches!(part, Some("" | "_bucket" | "_sum" | "_count")),
        Kind::Counter | Kind::Gauge | Kind::Info => part == Some(""),
    }
}

fn type_of(declared: &Declaration) -> &'static str {
    match declared.kind {
        Kind::Counter => "counter",
        Kind::Gauge | Kind::Info => "gauge",
        Kind::Histogram => "histogram",
    }
}

/// Names and values of a line's labels. Values of ours hold no escaped quotes.
fn labels(line: &str) -> Vec<(&str, &str)> {
    let Some((_, rest)) = line.split_once('{') else { return Vec::new() };
    let Some((inner, _)) = rest.rsplit_once('}') else { return Vec::new() };
    inner
        .split("\",")
        .filter_map(|label| {
            let (name, value) = label.split_once("=\"")?;
            Some((name, value.trim_end_matches('"')))
        })
        .collect()
}

fn labels_differ(declared: &Declaration, name: &str, labels: Vec<(&str, &str)>) -> Option<String> {
    let mut labels = labels;
    if name.ends_with("_bucket") {
        labels.retain(|(name, _)| *name != "le");
    }
    let names: Vec<&str> = labels.iter().map(|(name, _)| *name).collect();
    let wanted: Vec<&str> = declared.labels.iter().map(|label| label.name).collect();
    if names != wanted {
        return Some(format!("{} has the labels {names:?} and should have {wanted:?}", declared.name));
    }
    let is_unfit = |(label, value): (&super::Label, &str)| match label.values {
        Values::OneOf(values) => !values.contains(&value),
        Values::Configured(_) => false,
    };
    let values = declared.labels.iter().zip(labels.iter().map(|(_, value)| *value));
    let unfit = values.clone().any(is_unfit);
    unfit.then(|| format!("{} has a value that is not declared: {labels:?}", declared.name))
}

#[cfg(test)]
mod tests {
    use super::super::declaration::{Label, counter, gauge, histogram};
    use super::*;

    static KIND: &[Label] = &[Label::configured("host", "a host"), Label::one_of("kind", &["a", "b"])];
    static ONE: Declaration = counter("one_total", "x", "One").by(KIND);
    static TIME: Declaration = histogram("time", "seconds", "Time", &[1.0]);
    static LATER: Declaration = gauge("later", "x", "Later").absent("at first");
    static GROUPS: &[Group] = &[Group { heading: "", all: &[&ONE, &TIME, &LATER] }];

    const FINE: &str = "# HELP one_total One.\n# TYPE one_total counter\none_total{host=\"h,x\",kind=\"a\"} 1\n# TYPE time histogram\ntime_bucket{le=\"1.0\"} 0\ntime_sum 0\ntime_count 0\n";

    #[test]
    fn what_is_as_declared_differs_in_nothing() {
        assert_eq!(differences(FINE, GROUPS), Vec::<String>::new());
    }

    #[test]
    fn every_difference_is_told() {
        for (from, to, told) in [
            ("one_total{", "two_total{", "two_total is not declared"),
            ("kind=\"a\"", "kind=\"c\"", "one_total has a value that is not declared"),
            ("host=", "hosts=", "one_total has the labels"),
            ("time_sum 0", "later{x=\"1\"} 0", "later has the labels"),
            ("one_total counter", "one_total gauge", "one_total is a gauge"),
            ("time_bucket{le=\"1.0\"} 0\ntime_sum 0\ntime_count 0\n", "", "time is missing"),
        ] {
            let differs = differences(&FINE.replace(from, to), GROUPS).join("; ");
            assert!(differs.contains(told), "{told}: {differs}");
        }
    }
}
