//! A Debian root with everything that is stood in for, made once.

use std::path::PathBuf;

use anyhow::{Context, Result};
use rsky_testnet::servers::install::{find_in_path, packages};

use super::{am_root, place, run, words};

/// What is in it beside a minimal Debian.
const PACKAGES: &str = "redis-server,postgresql,prometheus,wget,ca-certificates,systemd,systemd-sysv,dbus";
const SUITE: &str = "bookworm";

/// The root, or why there is none.
pub(super) fn root() -> Result<std::result::Result<PathBuf, String>> {
    if !am_root() {
        return Ok(Err("needs root (debootstrap)".to_owned()));
    }
    if !std::path::Path::new("/etc/debian_version").is_file() {
        return Ok(Err("needs Debian (debootstrap)".to_owned()));
    }
    packages(&["debootstrap"], || find_in_path("debootstrap").map(drop))?;
    let place = place()?;
    let root = place.join("root");
    let done = place.join("root.done");
    if std::fs::read_to_string(&done).is_ok_and(|was| was == PACKAGES) {
        return Ok(Ok(root));
    }
    if root.exists() {
        std::fs::remove_dir_all(&root)?;
    }
    let mut command = words(["debootstrap", "--variant=minbase"]);
    command.arg(format!("--include={PACKAGES}")).arg(SUITE).arg(&root);
    run(command).context("make a Debian root")?;
    std::fs::write(done, PACKAGES)?;
    Ok(Ok(root))
}
