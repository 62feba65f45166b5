//! `cargo xtask docs`: the parts of the documentation that are made from the code.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rsky_common::admin::OF_EVERY_DAEMON;
use rsky_common::config;
use rsky_testnet::servers::{self, target_dir};

use crate::steps::{cargo, run, workspace};

/// The daemons, by package and binary.
const DAEMONS: [(&str, &str); 3] =
    [("rsky-ingester", "ingester"), ("rsky-backfiller", "backfiller"), ("rsky-indexer", "indexer")];

/// Time for printing.
const LIMIT: Duration = Duration::from_secs(60);

/// What stands before the tables.
const ABOUT: &str = "\
# Metrics

Made by `cargo xtask docs` from the declarations in the code (`metrics/declared.rs` of each daemon): change them there. Each
daemon prints its part (`indexer metrics`), and serves the figures at `/metrics` on METRICS_HOST:METRICS_PORT.

Every metric is there from the start, for each source that is configured, unless it says when it is absent; every label has
a closed set of values or one that the configuration bounds. Gauges are computed when they are scraped, from what they name;
what is known of Redis was seen at most 30 s ago. Scraping changes nothing. Names of the TypeScript reference and of the
former rsky daemons are kept.

Alert rules over them are in `deploy/prometheus/alerts.yml`, each with a runbook in [OPERATIONS.md](OPERATIONS.md).
";

/// What stands around the settings in README.md.
const SETTINGS: [&str; 2] = ["<!-- settings: made by cargo xtask docs -->\n", "<!-- end of the settings -->"];

/// Writes docs/METRICS.md, and the settings in README.md.
///
/// # Errors
/// A daemon does not build or does not print, or a file cannot be written.
pub(crate) fn docs() -> Result<()> {
    build()?;
    write("docs/METRICS.md", &format!("{ABOUT}{}", of_all("metrics", OF_EVERY_DAEMON)?))?;
    let readme = fs::read_to_string(workspace().join("README.md")).context("read README.md")?;
    let [begin, end] = SETTINGS;
    let (before, rest) = readme.split_once(begin).context("README.md has no place for the settings")?;
    let (_, after) = rest.split_once(end).context("the settings in README.md do not end")?;
    let settings = of_all("settings", config::OF_EVERY_DAEMON)?;
    write("README.md", &format!("{before}{begin}{settings}\n{end}{after}"))
}

/// What the daemons print, each its own part, then the part they have in common.
fn of_all(command: &str, of_every_daemon: &str) -> Result<String> {
    let mut text = String::new();
    let mut last = String::new();
    for (_, binary) in DAEMONS {
        let printed = printed(binary, command)?;
        let (own, common) = printed
            .split_once(of_every_daemon)
            .with_context(|| format!("{binary} {command} does not say what holds for every daemon"))?;
        text.push_str(&format!("\n{}\n", own.trim_end()));
        last = format!("\n{of_every_daemon}{common}");
    }
    Ok(text + &last)
}

fn write(name: &str, text: &str) -> Result<()> {
    fs::write(workspace().join(name), text).with_context(|| format!("write {name}"))?;
    println!("{name} is written");
    Ok(())
}

/// All at once, so that what they have in common is built once.
fn build() -> Result<()> {
    let mut build = cargo(&["build", "--quiet", "--bins"]);
    for (package, _) in DAEMONS {
        build.args(["--package", package]);
    }
    match run(build)? {
        status if status.success() => Ok(()),
        status => bail!("the build failed ({status})"),
    }
}

fn printed(binary: &str, command: &str) -> Result<String> {
    let program = target_dir().join("debug").join(binary);
    let mut print = servers::command(program, None);
    print.arg(command);
    servers::run(print, LIMIT)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use super::*;

    /// Functions, and the names of files, below a folder.
    fn names(folder: &Path, found: &mut HashSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                names(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.insert(path.file_stem().unwrap().to_string_lossy().into_owned());
                let text = fs::read_to_string(&path).unwrap();
                let functions = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
                found.extend(functions.map(str::to_owned));
            }
        }
    }

    /// A promise names the test that attacks it; one that was renamed or taken out attacks nothing.
    #[test]
    fn every_test_that_a_promise_names_is_there() {
        let mut found = HashSet::new();
        for folder in ["rsky-common", "rsky-ingester", "rsky-backfiller", "rsky-indexer", "rsky-testnet"] {
            for part in ["src", "tests"] {
                names(&workspace().join(folder).join(part), &mut found);
            }
        }
        for (document, section, least) in
            [("RELIABILITY.md", "\n## Adversity", 120), ("ARCHITECTURE.md", "\n## Invariants", 15)]
        {
            let text = fs::read_to_string(workspace().join("docs").join(document)).unwrap();
            let (_, after) = text.split_once(section).expect("the section is there");
            let own = after.split_once("\n## ").map_or(after, |(own, _)| own);
            let named: HashSet<&str> = own
                .split('`')
                .filter(|word| word.matches('_').count() > 1)
                .filter(|word| {
                    word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
                })
                .collect();
            assert!(named.len() >= least, "{document} names {} tests", named.len());
            let missing: Vec<&&str> = named.iter().filter(|name| !found.contains(**name)).collect();
            assert!(missing.is_empty(), "{document}: {missing:?}");
        }
    }
}
