//! The daemons compiled inside the image, on demand: it takes as long as a release build on a machine that has none yet.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::engine::{self, Engine};
use super::stack::DAEMONS;
use super::{Outcome, ours, place, root, run, stand_ins, words};

/// The compiler's official image: Debian, a linker, and the toolchain that is here.
const DOCKERFILE: &str = "\
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY toolchain /usr/local/toolchain
ENV PATH=/usr/local/toolchain/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
";
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Builds the images as a user does, and asks each daemon in them for its version.
pub(super) fn compiled() -> Result<Outcome> {
    if let Err(why) = engine::programs()? {
        return Ok(Outcome::Skipped(why));
    }
    let root = match root::root()? {
        Ok(root) => root,
        Err(why) => return Ok(Outcome::Skipped(why)),
    };
    let engine = Engine::start()?;
    stand_ins::base(&engine, &root)?;
    let dockerfile = fs::read_to_string(ours("Dockerfile")).context("read Dockerfile")?;
    let compiler = dockerfile
        .lines()
        .find_map(|line| line.strip_prefix("FROM ")?.strip_suffix(" AS build"))
        .context("Dockerfile names no image of the compiler")?;
    let folder = toolchain()?;
    let mut build = engine.docker(["build", "--quiet", "--network", "host", "--tag", compiler]);
    build.arg(&folder);
    run(build).context("stand in for the compiler's image")?;
    fs::remove_dir_all(&folder)?;
    let mut saw = Vec::new();
    for daemon in DAEMONS {
        let image = format!("rsky-{daemon}-compiled");
        stand_ins::build(&engine, &ours("."), daemon, &image, &[])?;
        let said = run(engine.docker(["run", "--rm", "--network", "none", &image, "--version"]))?;
        ensure!(said.starts_with(daemon), "{image} --version: {said}");
        saw.push(said.trim().to_owned());
    }
    Ok(Outcome::Ran(format!(
        "compiled in an image of {compiler} with the toolchain that is here: {}",
        saw.join(", ")
    )))
}

/// What the compiler's image is made of: the toolchain that builds us, and the root certificates that this machine trusts.
fn toolchain() -> Result<PathBuf> {
    let folder = place()?.join("compiler");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("Dockerfile"), DOCKERFILE)?;
    let trusted = std::env::var("SSL_CERT_FILE").unwrap_or_else(|_| CERTIFICATES.to_owned());
    fs::copy(&trusted, folder.join("ca-certificates.crt")).with_context(|| format!("copy {trusted}"))?;
    let sysroot = run(words(["rustc", "--print", "sysroot"])).context("where the toolchain is")?;
    let mut copy = words(["cp", "-a"]);
    copy.arg(Path::new(sysroot.trim())).arg(folder.join("toolchain"));
    run(copy).context("copy the toolchain")?;
    Ok(folder)
}
