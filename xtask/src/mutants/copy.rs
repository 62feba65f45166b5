//! The copy of the workspace in which the faults are made: what git knows of, with all changes that are not committed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rsky_testnet::servers::target_dir;

use super::patch::git;

/// A copy under the build directory. It is kept: the next run builds what has changed.
#[derive(Debug)]
pub(super) struct Copy {
    /// Its root, beside which the build directory of the copy stands, and what is written about each fault.
    pub(super) root: PathBuf,
}

impl Copy {
    /// Makes it equal to the workspace, whatever an earlier run has left of it.
    ///
    /// # Errors
    /// Git does not list the files, or one cannot be copied.
    pub(super) fn of(workspace: &Path) -> Result<Self> {
        let copy = Self { root: target_dir().join("mutants").join("workspace") };
        let files = files_of(workspace)?;
        for file in &files {
            refresh(&workspace.join(file), &copy.root.join(file))?;
        }
        copy.forget_others(&copy.root, &files)?;
        copy.link_shared(workspace)?;
        Ok(copy)
    }

    /// Something beside the copy.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.root.with_file_name(name)
    }

    /// Deletes what the workspace does not have any more.
    fn forget_others(&self, folder: &Path, files: &BTreeSet<PathBuf>) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                self.forget_others(&path, files)?;
            } else if path.strip_prefix(&self.root).is_ok_and(|relative| !files.contains(relative)) {
                fs::remove_file(&path).with_context(|| format!("delete {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Recordings that are no part of the repository are looked for beside it by tests that do without them.
    fn link_shared(&self, workspace: &Path) -> Result<()> {
        let (shared, link) = (workspace.join("../shared"), self.beside("shared"));
        if shared.is_dir() && fs::symlink_metadata(&link).is_err() {
            let shared = shared.canonicalize()?;
            std::os::unix::fs::symlink(&shared, &link).with_context(|| format!("link {}", link.display()))?;
        }
        Ok(())
    }
}

/// What git tracks or would add, relative to the workspace.
fn files_of(workspace: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut list = git(workspace);
    list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let output = list.output().context("start git")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "list the files of {}: {}", workspace.display(), said.trim_end());
    let names = String::from_utf8(output.stdout).context("the name of a file is not text")?;
    let files = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
    // What was deleted and not committed is listed all the same.
    Ok(files.filter(|file| workspace.join(file).is_file()).collect())
}

/// Copies a file, unless the copy is the same already: what has not changed is not to be built again.
fn refresh(from: &Path, to: &Path) -> Result<()> {
    let content = fs::read(from).with_context(|| format!("read {}", from.display()))?;
    if fs::read(to).is_ok_and(|there| there == content) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    fs::write(to, content).with_context(|| format!("write {}", to.display()))
}
