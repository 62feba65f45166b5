//! Images under the official names, of Debian's packages, and one of our binaries.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::engine::Engine;
use super::{place, run, words};

/// The base of all; made when it is missing, since that takes the longest.
const BASE: &str = "debian:bookworm-slim";
const IMAGES: [(&str, &str); 4] = [
    ("redis", "redis:7"),
    ("postgres", "postgres:16"),
    ("prometheus", "prom/prometheus:latest"),
    ("binaries", "rsky-binaries"),
];
const DOCKERFILE: &str = include_str!("stand-ins.dockerfile");
const POSTGRES: &str = include_str!("postgres-entrypoint.sh");

/// Makes them.
pub(super) fn make(engine: &Engine, root: &Path, binaries: &Path) -> Result<()> {
    base(engine, root)?;
    let folder = place()?.join("stand-ins");
    fs::create_dir_all(folder.join("binaries"))?;
    fs::write(folder.join("Dockerfile"), DOCKERFILE)?;
    fs::write(folder.join("postgres-entrypoint.sh"), POSTGRES)?;
    for binary in ["ingester", "backfiller", "indexer", "rsky-testnet"] {
        fs::copy(binaries.join(binary), folder.join("binaries").join(binary))?;
    }
    let certificates = "etc/ssl/certs/ca-certificates.crt";
    fs::copy(root.join(certificates), folder.join("binaries/ca-certificates.crt"))?;
    for (target, name) in IMAGES {
        build(engine, &folder, target, name, &[])?;
    }
    Ok(())
}

/// Makes the base.
pub(super) fn base(engine: &Engine, root: &Path) -> Result<()> {
    if run(engine.docker(["image", "inspect", BASE])).is_err() {
        let archive = place()?.join("root.tar");
        let mut tar = words(["tar", "--exclude=./var/cache/apt", "--exclude=./var/lib/apt/lists", "-C"]);
        tar.arg(root).arg("-cf").arg(&archive).arg(".");
        run(tar)?;
        run(engine.docker(["import", &archive.display().to_string(), BASE])).context("import the root")?;
        fs::remove_file(archive)?;
    }
    Ok(())
}

/// Builds one target of the Dockerfile in `folder`.
pub(super) fn build(engine: &Engine, folder: &Path, target: &str, name: &str, more: &[&str]) -> Result<()> {
    // There is no bridge that a build could use.
    let mut command =
        engine.docker(["build", "--quiet", "--network", "host", "--target", target, "--tag", name]);
    command.args(more).arg(folder);
    run(command).with_context(|| format!("build {name}"))?;
    Ok(())
}
