//! `cargo xtask dist`: a tarball and a Debian package of the daemons, the same bytes whenever they are made of the same
//! binaries.

mod debian;
mod stage;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;
use rsky_testnet::servers::install::find_in_path;
use rsky_testnet::servers::{self, target_dir};

use crate::steps::{binaries, build_release, take_binaries_from, workspace};
use stage::Stage;

/// Time for one command: compressing takes seconds, and many minutes where others need the machine.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(1800);
/// The daemons.
pub(crate) const DAEMONS: [&str; 3] = ["ingester", "backfiller", "indexer"];
/// Name of the package and of the tarball.
pub(crate) const NAME: &str = "rsky";

#[derive(Args)]
pub(crate) struct Options {
    /// Take the binaries in this folder instead of building them in release mode
    #[arg(long, value_name = "FOLDER")]
    binaries: Option<PathBuf>,
}

/// What was made.
pub(crate) struct Made {
    pub(crate) tarball: PathBuf,
    /// `None` where there is no dpkg-deb.
    pub(crate) package: Option<PathBuf>,
}

/// Makes both under `target/dist` and says where they are.
///
/// # Errors
/// The build fails, a program is missing, or a file cannot be written.
pub(crate) fn dist(options: &Options) -> Result<()> {
    take_binaries_from(options.binaries.as_deref());
    build_release(&["rsky-ingester", "rsky-backfiller", "rsky-indexer"])?;
    let made = make(&binaries(), &target_dir().join("dist"))?;
    println!("{}", made.tarball.display());
    match made.package {
        Some(package) => println!("{}", package.display()),
        None => println!("no Debian package: dpkg-deb is not installed (package dpkg)"),
    }
    Ok(())
}

/// Makes both in a folder, of which nothing is kept.
///
/// # Errors
/// As [`dist`].
pub(crate) fn make(binaries: &Path, folder: &Path) -> Result<Made> {
    let epoch = epoch()?;
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("empty {}", folder.display()))?;
    }
    let stage = Stage::fill(binaries, &folder.join("stage"))?;
    let tarball = tarball(&stage, folder, epoch)?;
    let package = match find_in_path("dpkg-deb") {
        Some(_) => Some(debian::package(&stage, folder, epoch)?),
        None => None,
    };
    Ok(Made { tarball, package })
}

/// The time that everything in it is of, in seconds since 1970: `SOURCE_DATE_EPOCH`, or that of the last commit.
fn epoch() -> Result<u64> {
    if let Some(given) = std::env::var_os("SOURCE_DATE_EPOCH") {
        let given = given.to_string_lossy();
        return given
            .parse()
            .with_context(|| format!("SOURCE_DATE_EPOCH is {given:?}: expected seconds since 1970"));
    }
    let mut git = words(["git", "log", "-1", "--format=%ct"]);
    git.current_dir(workspace());
    let said = run(git).context("ask git for the time of the last commit; or set SOURCE_DATE_EPOCH")?;
    said.trim().parse().context("the time of the last commit")
}

/// The version of the workspace.
pub(crate) fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

fn tarball(stage: &Stage, folder: &Path, epoch: u64) -> Result<PathBuf> {
    let name = format!("{NAME}-{}-{}", version(), std::env::consts::ARCH);
    let tar = folder.join(format!("{name}.tar"));
    let mut command =
        words(["tar", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=ustar"]);
    command.arg(format!("--mtime=@{epoch}")).arg(format!("--transform=s,^\\.,{name},"));
    command.arg("-C").arg(&stage.root).arg("-cf").arg(&tar).arg(".");
    run(command)?;
    // Without the name and the time of the file.
    let mut command = words(["gzip", "-9", "--no-name", "--force"]);
    command.arg(&tar);
    run(command)?;
    Ok(folder.join(format!("{name}.tar.gz")))
}

/// A command of words.
fn words<'w>(words: impl IntoIterator<Item = &'w str>) -> Command {
    let mut words = words.into_iter();
    let mut command = servers::command(words.next().unwrap_or_default(), None);
    command.args(words).env("LC_ALL", "C");
    command
}

/// Runs a command to its end; its standard output.
fn run(command: Command) -> Result<String> {
    servers::run(command, LIMIT)
}
