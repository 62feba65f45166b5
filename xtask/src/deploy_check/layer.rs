//! A Debian root that may be changed, on top of the one that is kept.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{place, run, words};

/// The root; it goes with this value.
pub(super) struct Layer {
    /// Where it is.
    pub(super) root: PathBuf,
    folder: PathBuf,
}

impl Layer {
    /// An overlay of `base`, which is there at once; a copy where none can be mounted.
    ///
    /// # Errors
    /// There can be neither.
    pub(super) fn over(base: &Path, name: &str) -> Result<Self> {
        let folder = place()?.join(name);
        clear(&folder)?;
        let [root, changes, work] = ["root", "changes", "work"].map(|part| folder.join(part));
        for part in [&root, &changes, &work] {
            fs::create_dir_all(part)?;
        }
        let parts = [("lowerdir", base), ("upperdir", &changes), ("workdir", &work)];
        let options = parts.map(|(what, path)| format!("{what}={}", path.display())).join(",");
        let mut mount = words(["mount", "-t", "overlay", "overlay", "-o", &options]);
        mount.arg(&root);
        if run(mount).is_err() {
            let mut copy = words(["cp", "-a", "--reflink=auto"]);
            copy.arg(base.join(".")).arg(&root);
            run(copy).context("copy the Debian root")?;
        }
        Ok(Self { root, folder })
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        // What cannot be removed now is removed before it is made again.
        drop(clear(&self.folder));
    }
}

/// Unmounts and removes what is there, also of a run that was ended in the middle.
fn clear(folder: &Path) -> std::io::Result<()> {
    let mut unmount = words(["umount"]);
    unmount.arg(folder.join("root"));
    // It complains where nothing is mounted.
    drop(unmount.output());
    if folder.exists() { fs::remove_dir_all(folder) } else { Ok(()) }
}
