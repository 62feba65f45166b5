//! The units, looked at without running them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use rsky_testnet::servers::install::find_in_path;

use super::{Outcome, ours, place, run, words};

/// The units.
pub(super) const UNITS: [&str; 3] =
    ["rsky-ingester.service", "rsky-backfiller@.service", "rsky-indexer@.service"];
/// Largest exposure, times ten.
const EXPOSURE: u32 = 15;

fn needs_systemd() -> Option<Outcome> {
    let missing = || Outcome::Skipped("systemd-analyze is not installed (package systemd)".to_owned());
    find_in_path("systemd-analyze").is_none().then(missing)
}

/// Known keys, good values, nothing that systemd warns about.
pub(super) fn verified() -> Result<Outcome> {
    if let Some(skipped) = needs_systemd() {
        return Ok(skipped);
    }
    let folder = place()?.join("units");
    fs::create_dir_all(&folder)?;
    let mut copies: Vec<PathBuf> = Vec::new();
    for unit in UNITS {
        let text = fs::read_to_string(ours("deploy/systemd").join(unit))?;
        // What is started must exist, and is not installed here.
        let (before, after) = text.split_once("ExecStart=/usr/bin/").context("ExecStart")?;
        let (_, after) = after.split_once('\n').context("a line after ExecStart")?;
        let copy = folder.join(unit);
        fs::write(&copy, format!("{before}ExecStart=/bin/true\n{after}"))?;
        copies.push(copy);
    }
    let mut command = words(["systemd-analyze", "verify", "--man=no", "--recursive-errors=yes"]);
    command.args(&copies);
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.trim().is_empty(), "systemd-analyze verify: {said}");
    Ok(Outcome::Ran(format!("{} verified, nothing to complain about", UNITS.join(", "))))
}

/// The exposure of each, and that all are hardened alike.
pub(super) fn exposure() -> Result<Outcome> {
    if let Some(skipped) = needs_systemd() {
        return Ok(skipped);
    }
    let mut seen = Vec::new();
    let mut hardening = Vec::new();
    for unit in UNITS {
        let path = ours("deploy/systemd").join(unit);
        let mut command = words(["systemd-analyze", "security", "--offline=true", "--no-pager"]);
        command.arg(format!("--threshold={EXPOSURE}")).arg(&path);
        let said = run(command).with_context(|| format!("{unit} is exposed above {EXPOSURE}/10"))?;
        let overall =
            said.lines().find_map(|line| line.split("exposure level for ").nth(1)).context("no level")?;
        seen.push(overall.trim().to_owned());
        let text = fs::read_to_string(path)?;
        let (_, section) = text.split_once("CapabilityBoundingSet=").context("no hardening")?;
        hardening.push(section.to_owned());
    }
    ensure!(hardening.windows(2).all(|pair| pair.first() == pair.last()), "the units are not hardened alike");
    Ok(Outcome::Ran(seen.join("; ")))
}

/// The account and the folder, in a root of their own.
pub(super) fn accounts() -> Result<Outcome> {
    for (program, package) in [("systemd-sysusers", "systemd"), ("systemd-tmpfiles", "systemd")] {
        if find_in_path(program).is_none() {
            return Ok(Outcome::Skipped(format!("{program} is not installed (package {package})")));
        }
    }
    if !super::am_root() {
        return Ok(Outcome::Skipped("needs root".to_owned()));
    }
    let root = place()?.join("accounts");
    drop(fs::remove_dir_all(&root));
    fs::create_dir_all(root.join("etc"))?;
    for file in ["passwd", "group"] {
        fs::copy(format!("/etc/{file}"), root.join("etc").join(file))?;
    }
    let at = format!("--root={}", root.display());
    let mut command = words(["systemd-sysusers", at.as_str()]);
    command.arg(ours("deploy/sysusers.d/rsky.conf"));
    run(command)?;
    let mut command = words(["systemd-tmpfiles", "--create", at.as_str()]);
    command.arg(ours("deploy/tmpfiles.d/rsky.conf"));
    run(command)?;
    let passwd = fs::read_to_string(root.join("etc/passwd"))?;
    let account = passwd.lines().find(|line| line.starts_with("rsky:")).context("no account rsky")?;
    ensure!(account.ends_with("/usr/sbin/nologin"), "{account}");
    ensure!(root.join("etc/rsky").is_dir(), "/etc/rsky was not made");
    Ok(Outcome::Ran(format!("{account}; /etc/rsky")))
}
