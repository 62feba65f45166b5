//! The Debian package: the same bytes twice, installed, upgraded, removed, and nothing left of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::layer::Layer;
use super::{Outcome, place, root, run, words};
use crate::dist::{self, DAEMONS, Made};

/// What dpkg and the account database keep for themselves.
const KEPT: [&str; 9] = [
    "var/lib/dpkg/",
    "var/cache/",
    "var/log/",
    "etc/.pwd.lock",
    "etc/passwd",
    "etc/shadow",
    "etc/group",
    "etc/gshadow",
    "etc/sub",
];
/// All files, folders and links, but for what the kernel shows.
const LIST: &str =
    "cd \"$1\" && find . -xdev \\( -path ./proc -o -path ./sys -o -path ./dev \\) -prune -o -printf '%P\\n'";

pub(super) fn installed(binaries: &Path) -> Result<Outcome> {
    let base = match root::root()? {
        Ok(base) => base,
        Err(why) => return Ok(Outcome::Skipped(why)),
    };
    let place = place()?;
    let Made { tarball, package } = dist::make(binaries, &place.join("dist"))?;
    let package = package.context("dpkg-deb is part of Debian")?;
    let again = dist::make(binaries, &place.join("dist-again"))?;
    for (first, second) in [(&tarball, Some(&again.tarball)), (&package, again.package.as_ref())] {
        let same = second.is_some_and(|second| fs::read(first).ok() == fs::read(second).ok());
        ensure!(same, "{} is not the same when it is made again", first.display());
    }
    let mib = |file: &Path| fs::metadata(file).map_or(0, |about| about.len() >> 20);
    let mut saw =
        vec![format!("the same bytes twice; tarball {} MiB, package {} MiB", mib(&tarball), mib(&package))];
    let layer = Layer::over(&base, "package")?;
    Machine { root: &layer.root }.live_through(&package, &mut saw)?;
    Ok(Outcome::Ran(saw.join("\n         ")))
}

/// A Debian root of its own.
struct Machine<'a> {
    root: &'a Path,
}

impl Machine<'_> {
    fn inside(&self, command: &[&str]) -> Result<String> {
        let mut chroot = words(["chroot"]);
        chroot.arg(self.root).args(command).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
        run(chroot)
    }

    fn files(&self) -> Result<BTreeSet<String>> {
        let mut list = words(["/bin/sh", "-c", LIST, "list"]);
        list.arg(self.root);
        let is_ours = |path: &&str| !KEPT.iter().any(|kept| path.starts_with(kept));
        Ok(run(list)?.lines().filter(is_ours).map(str::to_owned).collect())
    }

    fn live_through(&self, package: &Path, saw: &mut Vec<String>) -> Result<()> {
        fs::copy(package, self.root.join("rsky.deb"))?;
        let before = self.files()?;
        self.inside(&["dpkg", "--install", "/rsky.deb"])?;
        for daemon in DAEMONS {
            let said = self.inside(&[&format!("/usr/bin/{daemon}"), "--version"])?;
            ensure!(said.trim() == format!("{daemon} {}", dist::version()), "{said}");
            for file in [
                format!("usr/share/man/man1/{daemon}.1.gz"),
                format!("usr/share/bash-completion/completions/{daemon}"),
                format!("usr/share/zsh/vendor-completions/_{daemon}"),
                format!("usr/share/fish/vendor_completions.d/{daemon}.fish"),
            ] {
                ensure!(self.root.join(&file).is_file(), "{file} is missing");
            }
        }
        let verified = self.inside(&["dpkg", "--verify", dist::NAME])?;
        ensure!(verified.is_empty(), "dpkg --verify: {verified}");
        let about = self.inside(&["stat", "-c", "%a %U:%G", "/etc/rsky/rsky.env"])?;
        ensure!(about.trim() == "640 root:rsky", "/etc/rsky/rsky.env: {about}");
        saw.push(
            "installed: binaries, manual pages, completions, an account, settings only it may read"
                .to_owned(),
        );

        let settings = self.root.join("etc/rsky/rsky.env");
        let edited = "REDIS_URL=redis://edited\n";
        fs::write(&settings, edited)?;
        self.inside(&["dpkg", "--install", "--force-confold", "/rsky.deb"])?;
        ensure!(fs::read_to_string(&settings)? == edited, "the settings were replaced");
        self.inside(&["dpkg", "--remove", dist::NAME])?;
        ensure!(fs::read_to_string(&settings)? == edited, "removing took the settings");
        ensure!(!self.root.join("usr/bin/indexer").exists(), "removing left a binary");
        saw.push("edited settings survive an upgrade and a removal".to_owned());

        self.inside(&["dpkg", "--purge", dist::NAME])?;
        let after = self.files()?;
        let left: Vec<&String> = after.difference(&before).collect();
        ensure!(left.is_empty(), "left after purge: {left:?}");
        let passwd = fs::read_to_string(self.root.join("etc/passwd"))?;
        ensure!(!passwd.contains("\nrsky:"), "the account was left");
        saw.push("purged: nothing is left".to_owned());
        Ok(())
    }
}
