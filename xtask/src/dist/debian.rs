//! The Debian package: the staged files, the settings as a file that an upgrade keeps, and the scripts of `deploy/debian`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::stage::Stage;
use super::{DAEMONS, NAME, run, version, words};
use crate::steps::workspace;

/// Where the units look for settings. It is made from `.env.example`, and never replaced once it was edited.
const SETTINGS: &str = "etc/rsky/rsky.env";
/// Run by dpkg.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];
/// md5sums as dpkg verifies them.
const SUMS: &str = "cd \"$1\" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum";

/// Makes the package in `folder`.
pub(super) fn package(stage: &Stage, folder: &Path, epoch: u64) -> Result<PathBuf> {
    let tree = folder.join("debian");
    let mut copy = words(["cp", "-a"]);
    copy.arg(&stage.root).arg(&tree);
    run(copy)?;
    let settings = tree.join(SETTINGS);
    write(&settings, &fs::read_to_string(workspace().join(".env.example"))?, 0o640)?;
    for made in [tree.join("etc"), tree.join("etc/rsky")] {
        fs::set_permissions(&made, fs::Permissions::from_mode(0o755))?;
    }
    let control = tree.join("DEBIAN");
    for script in SCRIPTS {
        let text = fs::read_to_string(workspace().join("deploy/debian").join(script))?;
        write(&control.join(script), &text, 0o755)?;
    }
    write(&control.join("conffiles"), &format!("/{SETTINGS}\n"), 0o644)?;
    let mut sums = words(["/bin/sh", "-c", SUMS, "sums"]);
    sums.arg(&tree);
    write(&control.join("md5sums"), &run(sums)?, 0o644)?;
    let architecture = run(words(["dpkg", "--print-architecture"]))?.trim().to_owned();
    write(&control.join("control"), &about(stage, &architecture)?, 0o644)?;
    fs::set_permissions(&control, fs::Permissions::from_mode(0o755))?;
    let package = folder.join(format!("{NAME}_{}_{architecture}.deb", version()));
    let mut build = words(["dpkg-deb", "--root-owner-group", "-Zzstd", "--build"]);
    build.arg(&tree).arg(&package).env("SOURCE_DATE_EPOCH", epoch.to_string());
    run(build)?;
    fs::remove_dir_all(&tree)?;
    Ok(package)
}

fn about(stage: &Stage, architecture: &str) -> Result<String> {
    let libc = DAEMONS
        .iter()
        .map(|daemon| Ok(needed_libc(&fs::read(stage.root.join("usr/bin").join(daemon))?)))
        .collect::<Result<Vec<_>>>()?;
    let (major, minor) = libc.into_iter().flatten().max().context("the binaries name no version of glibc")?;
    let kib = size_kib(&stage.root)?;
    Ok(format!(
        "Package: {NAME}\nVersion: {}\nArchitecture: {architecture}\nMaintainer: rsky <rsky@packages.invalid>\n\
         Installed-Size: {kib}\nDepends: libc6 (>= {major}.{minor}), libgcc-s1, ca-certificates, passwd, systemd\n\
         Suggests: redis-server | valkey-server, postgresql\nSection: net\nPriority: optional\n\
         Homepage: {}\n\
         Description: AppView pipeline of the AT Protocol network\n \
         Three daemons keep a Bluesky AppView's Postgres in step with the network: the\n \
         ingester (relays and labelers into Redis Streams), the backfiller (whole\n \
         repositories) and the indexer (streams into Postgres).\n \
         .\n \
         Settings are in /etc/rsky/rsky.env; no unit is enabled by the installation.\n",
        version(),
        env!("CARGO_PKG_REPOSITORY"),
    ))
}

/// The newest version of glibc whose symbols a program wants.
fn needed_libc(program: &[u8]) -> Option<(u32, u32)> {
    const TAG: &[u8] = b"GLIBC_2.";
    let minor = |at: usize| {
        let rest = program.get(at + TAG.len()..)?;
        let digits: Vec<u8> = rest.iter().copied().take(3).take_while(u8::is_ascii_digit).collect();
        String::from_utf8(digits).ok()?.parse().ok()
    };
    let tags = program.windows(TAG.len()).enumerate().filter(|(_, window)| *window == TAG);
    tags.filter_map(|(at, _)| minor(at)).max().map(|minor| (2, minor))
}

fn size_kib(folder: &Path) -> Result<u64> {
    let mut kib = 0;
    for entry in fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()? {
        let about = entry.metadata()?;
        kib += if about.is_dir() { size_kib(&entry.path())? + 1 } else { about.len().div_ceil(1024) };
    }
    Ok(kib)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    ensure!(!text.is_empty(), "{} would be empty", path.display());
    fs::create_dir_all(path.parent().context("a folder")?)?;
    fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_libc_that_is_named_is_needed() {
        assert_eq!(needed_libc(b"\0GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.17\0"), Some((2, 34)));
        assert_eq!(needed_libc(b"GLIBC_PRIVATE GLIBC_2."), None);
    }
}
