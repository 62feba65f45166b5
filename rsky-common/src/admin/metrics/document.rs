//! The documentation of declared metrics, made from their declarations.

use std::process::ExitCode;

use super::COMMON;
use super::declaration::{Declaration, Group, Kind, Values};

/// The heading of what every daemon tells; what stands before it is about one daemon.
pub const OF_EVERY_DAEMON: &str = "## Every daemon\n";

/// The part of docs/METRICS.md that is about a daemon, and the part about every daemon.
pub fn document(daemon: &str, groups: &[Group]) -> String {
    let mut text = format!("## {daemon}\n");
    groups.iter().for_each(|group| write_group(&mut text, group));
    text.push('\n');
    text.push_str(OF_EVERY_DAEMON);
    COMMON.iter().for_each(|group| write_group(&mut text, group));
    text
}

/// Prints [`document`], for people and for the file.
#[expect(clippy::print_stdout, reason = "it is what the subcommand is for")]
pub fn print_document(daemon: &str, groups: &[Group]) -> ExitCode {
    print!("{}", document(daemon, groups));
    ExitCode::SUCCESS
}

/// Where docs/METRICS.md does not say what a daemon declares, and names that are declared twice: for its tests.
pub fn metrics_faults(file: &str, daemon: &str, groups: &[Group]) -> Vec<String> {
    let of_all = groups.iter().chain(COMMON).flat_map(|group| group.all);
    let mut names: Vec<&str> = of_all.map(|declared| declared.name).collect();
    names.sort_unstable();
    let twice = names.windows(2).filter_map(|pair| match pair {
        [one, other] if one == other => Some(format!("{one} is declared twice")),
        _ => None,
    });
    let text = document(daemon, groups);
    let old = text.split("\n## ").filter(|part| !file.contains(part));
    old.map(|part| format!("docs/METRICS.md is old, run cargo xtask docs: {part}")).chain(twice).collect()
}

fn write_group(text: &mut String, group: &Group) {
    text.push_str(&format!(
        "\n### {}\n\n| metric | labels | unit | what it tells |\n|---|---|---|---|\n",
        group.heading
    ));
    group.all.iter().for_each(|declared| write_row(text, declared));
}

fn write_row(text: &mut String, declared: &Declaration) {
    let kind = match declared.kind {
        Kind::Counter => "counter",
        Kind::Gauge | Kind::Info => "gauge",
        Kind::Histogram => "histogram",
    };
    let labels: Vec<String> = declared
        .labels
        .iter()
        .map(|label| match label.values {
            Values::OneOf(values) => {
                let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
                format!("`{}`: {}", label.name, values.join(" "))
            }
            Values::Configured(what) => format!("`{}`: {what}", label.name),
        })
        .collect();
    let absent = match declared.absent {
        "" => String::new(),
        when => format!("; absent {when}"),
    };
    text.push_str(&format!(
        "| `{}` | {} | {}, {kind} | {}{absent} |\n",
        declared.name,
        labels.join("; "),
        declared.unit,
        declared.help
    ));
}

#[cfg(test)]
mod tests {
    use super::super::declaration::{Label, counter};
    use super::*;

    #[test]
    fn a_row_says_name_labels_unit_type_and_meaning() {
        static ONE: Declaration = counter("a_total", "things", "Things by kind")
            .by(&[Label::one_of("kind", &["x", ""]), Label::configured("host", "a relay")])
            .absent("while nobody knows");
        static GROUPS: &[Group] = &[Group { heading: "H", all: &[&ONE] }];
        let text = document("d", GROUPS);
        let row = "| `a_total` | `kind`: `x` ``; `host`: a relay | things, counter | Things by kind; absent while nobody knows |";
        assert!(text.starts_with("## d\n\n### H\n\n| metric") && text.contains(row), "{text}");
        assert_eq!(metrics_faults(&text, "d", GROUPS), Vec::<String>::new());
        assert_eq!(metrics_faults("", "d", &[GROUPS, GROUPS].concat()).len(), 3);
        assert!(text.contains("## Every daemon\n") && text.contains("| `process_open_fds` |"), "{text}");
    }
}
