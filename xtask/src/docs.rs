//! `cargo xtask docs`: the parts of the documentation that are made from the code.

use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use rsky_common::admin::OF_EVERY_DAEMON;

use crate::steps::{cargo, workspace};

/// The daemons, by package and binary.
const DAEMONS: [(&str, &str); 3] =
    [("rsky-ingester", "ingester"), ("rsky-backfiller", "backfiller"), ("rsky-indexer", "indexer")];

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

/// Writes docs/METRICS.md.
///
/// # Errors
/// A daemon does not build or does not print, or the file cannot be written.
pub(crate) fn docs() -> Result<()> {
    let mut text = ABOUT.to_owned();
    let mut of_every_daemon = String::new();
    for (package, binary) in DAEMONS {
        let printed = printed(package, binary)?;
        let (own, common) = printed
            .split_once(OF_EVERY_DAEMON)
            .with_context(|| format!("{binary} metrics does not say what every daemon tells"))?;
        text.push_str(&format!("\n{}\n", own.trim_end()));
        of_every_daemon = format!("\n{OF_EVERY_DAEMON}{common}");
    }
    text.push_str(&of_every_daemon);
    let path = workspace().join("docs/METRICS.md");
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    println!("docs/METRICS.md is written");
    Ok(())
}

fn printed(package: &str, binary: &str) -> Result<String> {
    let mut run = cargo(&["run", "--quiet", "--package", package, "--bin", binary, "--", "metrics"]);
    let output = run.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("run cargo")?;
    if !output.status.success() {
        bail!("{binary} metrics: {}", output.status);
    }
    String::from_utf8(output.stdout).context("it prints UTF-8")
}
