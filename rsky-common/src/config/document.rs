//! The documentation of declared settings, made from their declarations.

use std::process::ExitCode;

use super::{CommonConfig, Variable};

/// The summary above what every daemon understands; what stands before it is one daemon's own.
pub const OF_EVERY_DAEMON: &str = "<details><summary>every daemon</summary>\n";

/// What begins a daemon's section of `.env.example`.
const SECTION: &str = "# ---- ";

/// The part of README.md that is about the settings of a daemon, and the part about those of every daemon.
pub fn settings_document<'a>(daemon: &str, variables: impl IntoIterator<Item = &'a Variable>) -> String {
    let is_common =
        |variable: &&Variable| CommonConfig::VARIABLES.iter().any(|one| one.name == variable.name);
    let own = variables.into_iter().filter(|variable| !is_common(variable));
    let mut text = format!("<details><summary>{daemon}</summary>\n");
    write_table(&mut text, own);
    text.push('\n');
    text.push_str(OF_EVERY_DAEMON);
    write_table(&mut text, CommonConfig::VARIABLES.iter().copied());
    text
}

/// Prints [`settings_document`], for people and for the file.
#[expect(clippy::print_stdout, reason = "it is what the subcommand is for")]
pub fn print_settings<'a>(daemon: &str, variables: impl IntoIterator<Item = &'a Variable>) -> ExitCode {
    print!("{}", settings_document(daemon, variables));
    ExitCode::SUCCESS
}

fn write_table<'a>(text: &mut String, variables: impl Iterator<Item = &'a Variable>) {
    text.push_str("\n| setting | form | default | what it does |\n|---|---|---|---|\n");
    for variable in variables {
        let other = variable.alias.map(|alias| format!(" or `{alias}`")).unwrap_or_default();
        let default = match variable.default {
            None => String::new(),
            Some(long) if long.contains(',') && long.len() > 40 => "see `.env.example`".to_owned(),
            Some(value) => format!("`{value}`"),
        };
        let cells = [variable.expects, &default, variable.help].map(|cell| cell.replace('|', "\\|"));
        text.push_str(&format!("| `{}`{other} | {} |\n", variable.name, cells.join(" | ")));
    }
    text.push_str("\n</details>\n");
}

/// Where README.md and `.env.example` do not say what a daemon declares, or say what it does not: for its tests.
pub fn settings_faults(readme: &str, example: &str, daemon: &str, variables: &[&Variable]) -> Vec<String> {
    let document = settings_document(daemon, variables.iter().copied());
    let mut faults: Vec<String> = document
        .lines()
        .filter(|line| !readme.contains(line))
        .map(|line| format!("README.md is old, run cargo xtask docs: {line}"))
        .collect();
    for variable in variables {
        let shown = format!("#{}={}", variable.name, variable.default.unwrap_or_default());
        let set = format!("{}=", variable.name);
        if !example.lines().any(|line| line == shown || line.starts_with(&set)) {
            faults.push(format!(".env.example has no line {shown}"));
        }
    }
    let section = example.split(SECTION).find(|section| section.lines().next() == Some(daemon));
    let names = section.unwrap_or_default().lines().filter_map(|line| {
        let (name, _) = line.trim_start_matches('#').split_once('=')?;
        (!name.contains(' ')).then_some(name)
    });
    for name in names {
        if !variables.iter().any(|variable| variable.name == name) {
            faults.push(format!(".env.example has {name}, which the {daemon} does not read"));
        }
    }
    if section.is_none() {
        faults.push(format!(".env.example has no section {SECTION}{daemon}"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Variable = Variable {
        name: "SIZE",
        alias: Some("LENGTH"),
        expects: "small|large",
        default: Some("small"),
        help: "How much.",
    };

    #[test]
    fn a_row_says_names_form_default_and_consequence() {
        let text = settings_document("d", [&SIZE]);
        assert!(text.contains("| `SIZE` or `LENGTH` | small\\|large | `small` | How much. |"), "{text}");
        assert_eq!(text.matches("REDIS_ALLOW_EVICTION").count(), 1);
    }

    #[test]
    fn what_is_missing_and_what_is_too_much_is_a_fault() {
        let document = settings_document("d", [&SIZE]);
        let readme = document.as_str();
        let good = "# ---- d\n# small|large\n#SIZE=small\n";
        assert_eq!(settings_faults(readme, good, "d", &[&SIZE]), Vec::<String>::new());
        let set = "# ---- d\nSIZE=large\n# ---- e\nOTHER=1\n";
        assert_eq!(settings_faults(readme, set, "d", &[&SIZE]), Vec::<String>::new());
        for (readme, example, count) in [
            ("", good, readme.lines().count() - readme.lines().filter(|line| line.is_empty()).count()),
            (readme, "# ---- d\n#SIZE=large\n", 1),
            (readme, "# ---- d\n#SIZE=small\n#OTHER=1\n", 1),
            (readme, "#SIZE=small\n", 1),
        ] {
            let faults = settings_faults(readme, example, "d", &[&SIZE]);
            assert_eq!(faults.len(), count, "{faults:?}");
        }
    }
}
