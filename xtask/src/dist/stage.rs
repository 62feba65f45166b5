//! The files as they are installed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{DAEMONS, NAME, run, words};
use crate::steps::workspace;

/// Folders of `deploy/` that are examples: what a container or a monitoring system takes.
const EXAMPLES: [&str; 2] = ["prometheus", "grafana"];

/// A folder with the files below `usr/`.
pub(super) struct Stage {
    pub(super) root: PathBuf,
}

impl Stage {
    /// Fills an empty folder.
    pub(super) fn fill(binaries: &Path, root: &Path) -> Result<Self> {
        let stage = Self { root: root.to_owned() };
        for daemon in DAEMONS {
            stage.binary(&binaries.join(daemon), daemon)?;
            stage.manual(daemon)?;
        }
        for unit in files(&ours("deploy/systemd"))? {
            stage.copy(&unit, "usr/lib/systemd/system")?;
        }
        stage.copy(&ours("deploy/sysusers.d/rsky.conf"), "usr/lib/sysusers.d")?;
        stage.copy(&ours("deploy/tmpfiles.d/rsky.conf"), "usr/lib/tmpfiles.d")?;
        let documents = format!("usr/share/doc/{NAME}");
        for document in files(&ours("docs"))?.into_iter().chain([ours("README.md"), ours(".env.example")]) {
            stage.copy(&document, &documents)?;
        }
        stage.write(&fs::read(ours("LICENSE"))?, &format!("{documents}/copyright"))?;
        for example in EXAMPLES {
            stage.copy_all(&ours("deploy").join(example), &format!("{documents}/examples/{example}"))?;
        }
        stage.copy_all(&ours("migrations-ref"), &format!("usr/share/{NAME}/migrations-ref"))?;
        stage.settle_modes(&stage.root)?;
        Ok(stage)
    }

    /// The tables that say where a panic was take nine tenths of a binary; the names of functions are kept.
    fn binary(&self, from: &Path, daemon: &str) -> Result<()> {
        let to = self.place("usr/bin")?.join(daemon);
        let mut strip = words(["strip", "--strip-debug", "-o"]);
        strip.arg(&to).arg(from);
        run(strip).with_context(|| format!("take {}", from.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    /// What the binary says of itself.
    fn manual(&self, daemon: &str) -> Result<()> {
        let told = self.root.with_extension(format!("{daemon}-manual"));
        let program = self.root.join("usr/bin").join(daemon).canonicalize()?;
        let mut command = words([&*program.to_string_lossy(), "manual"]);
        command.arg(&told);
        run(command)?;
        for file in files(&told)? {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // Pages about printing help are no help.
            if name.contains("-help") {
                continue;
            }
            let folder = match name.rsplit_once('.') {
                Some((_, "1")) => "usr/share/man/man1",
                Some((_, "bash")) => "usr/share/bash-completion/completions",
                Some((_, "fish")) => "usr/share/fish/vendor_completions.d",
                _ => "usr/share/zsh/vendor-completions",
            };
            // bash looks for a file of the command's name.
            let to = self.place(folder)?.join(name.trim_end_matches(".bash"));
            fs::copy(&file, &to)?;
            if name.ends_with(".1") {
                let mut gzip = words(["gzip", "-9", "--no-name", "--force"]);
                gzip.arg(&to);
                run(gzip)?;
            }
        }
        fs::remove_dir_all(&told)?;
        Ok(())
    }

    fn copy(&self, from: &Path, folder: &str) -> Result<()> {
        let name = from.file_name().context("a file name")?;
        let bytes = fs::read(from).with_context(|| format!("read {}", from.display()))?;
        self.write(&bytes, &format!("{folder}/{}", name.to_string_lossy()))
    }

    /// Everything below a folder, if there is one.
    fn copy_all(&self, from: &Path, to: &str) -> Result<()> {
        if !from.is_dir() {
            return Ok(());
        }
        for entry in fs::read_dir(from)?.collect::<std::io::Result<Vec<_>>>()? {
            let path = entry.path();
            if path.is_dir() {
                self.copy_all(&path, &format!("{to}/{}", entry.file_name().to_string_lossy()))?;
            } else {
                self.copy(&path, to)?;
            }
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8], to: &str) -> Result<()> {
        let to = self.root.join(to);
        fs::create_dir_all(to.parent().context("a folder")?)?;
        fs::write(&to, bytes).with_context(|| format!("write {}", to.display()))
    }

    fn place(&self, folder: &str) -> Result<PathBuf> {
        let folder = self.root.join(folder);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Whatever the umask: folders 755, programs 755, the rest 644.
    fn settle_modes(&self, below: &Path) -> Result<()> {
        fs::set_permissions(below, fs::Permissions::from_mode(0o755))?;
        for entry in fs::read_dir(below)?.collect::<std::io::Result<Vec<_>>>()? {
            let path = entry.path();
            if path.is_dir() {
                self.settle_modes(&path)?;
            } else {
                let mode = if path.starts_with(self.root.join("usr/bin")) { 0o755 } else { 0o644 };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            }
        }
        Ok(())
    }
}

fn ours(path: &str) -> PathBuf {
    workspace().join(path)
}

/// The files directly in a folder, by name.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    Ok(files)
}
