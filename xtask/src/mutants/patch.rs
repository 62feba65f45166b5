//! The faults: patches of a few lines, each with the rule that it breaks and the test that must see it.
//!
//! ```text
//! rule: A frame of the relay is in Redis before its cursor is.
//! test: rsky-ingester it killed_between_steps::a_batch_was_not_heard
//! diff --git a/… b/…
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Where they are, in the workspace.
pub(super) const FOLDER: &str = "testdata/mutants";

/// A fault.
#[derive(Debug)]
pub(super) struct Patch {
    /// The name of its file, without the ending.
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// What does not hold any more.
    pub(super) rule: String,
    pub(super) test: GuardingTest,
}

/// The test that must fail: what comes after `cargo test`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GuardingTest {
    /// `--package`
    pub(super) package: String,
    /// `lib` for the tests beside the code, otherwise the name of `--test`.
    pub(super) target: String,
    /// Its path, or the beginning of several.
    pub(super) filter: String,
}

impl GuardingTest {
    fn parse(line: &str) -> Result<Self> {
        let mut words = line.split_whitespace().map(str::to_owned);
        let (Some(package), Some(target), Some(filter), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            bail!("not of the form \"PACKAGE lib|TEST FILTER\": {line}");
        };
        Ok(Self { package, target, filter })
    }

    /// The arguments of cargo that choose the test binary.
    pub(super) fn binary(&self) -> Vec<&str> {
        let package = ["--package", self.package.as_str()];
        match self.target.as_str() {
            "lib" => [package.as_slice(), &["--lib"]].concat(),
            test => [package.as_slice(), &["--test", test]].concat(),
        }
    }
}

impl std::fmt::Display for GuardingTest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {} {}", self.package, self.target, self.filter)
    }
}

impl Patch {
    fn read(path: PathBuf) -> Result<Self> {
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let head = |name: &str| {
            let found = text
                .lines()
                .take_while(|line| !line.starts_with("diff "))
                .find_map(|line| line.strip_prefix(name));
            found.map(str::trim).with_context(|| format!("{} has no line \"{name}\"", path.display()))
        };
        let rule = head("rule:")?.to_owned();
        let test = GuardingTest::parse(head("test:")?).with_context(|| format!("in {}", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, path, rule, test })
    }

    /// Applies it in this folder, as `git apply` does.
    ///
    /// # Errors
    /// With git's words, when it does not apply.
    pub(super) fn apply(&self, folder: &Path, how: How) -> Result<()> {
        let mut git = git(folder);
        git.arg("apply").args(how.arguments()).arg(&self.path).stdin(Stdio::null());
        let output = git.output().context("start git")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim_end());
        Ok(())
    }
}

/// What is done with a patch.
#[derive(Clone, Copy, Debug)]
pub(super) enum How {
    Forth,
    Back,
    /// Nothing is written.
    #[cfg(test)]
    Check,
}

impl How {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Forth => &[],
            Self::Back => &["--reverse"],
            #[cfg(test)]
            Self::Check => &["--check"],
        }
    }
}

/// Git in a folder. A repository that the folder is only a part of is not looked for: `git apply` would pass over
/// whatever is not beside it, without a word.
pub(super) fn git(folder: &Path) -> Command {
    let mut git = Command::new("git");
    git.current_dir(folder).env("GIT_CEILING_DIRECTORIES", folder.parent().unwrap_or(folder));
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        git.env_remove(name);
    }
    git
}

/// All of the workspace, by name.
///
/// # Errors
/// One cannot be read, or lacks a line.
pub(super) fn all(workspace: &Path) -> Result<Vec<Patch>> {
    let folder = workspace.join(FOLDER);
    let entries = fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "patch"));
    paths.sort();
    ensure!(!paths.is_empty(), "there is no patch in {}", folder.display());
    paths.into_iter().map(Patch::read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::workspace;

    #[test]
    fn every_patch_applies() {
        let workspace = workspace();
        let mut stale = Vec::new();
        for patch in all(&workspace).unwrap() {
            if let Err(why) = patch.apply(&workspace, How::Check) {
                stale.push(format!("{}: {why:#}", patch.name));
            }
        }
        assert!(
            stale.is_empty(),
            "code that these patches change is another now; make them anew (CONTRIBUTING.md):\n{}",
            stale.join("\n")
        );
    }

    /// That the test is there, is seen when it is run; that it is named in its file, at once.
    #[test]
    fn every_test_is_named_in_its_file() {
        for patch in all(&workspace()).unwrap() {
            let GuardingTest { package, target, filter } = &patch.test;
            let modules: Vec<&str> = filter.split("::").collect();
            let file = match target.as_str() {
                // The modules of tests beside the code are spread over files: the name alone is looked for.
                "lib" => continue,
                target => {
                    workspace().join(package).join("tests").join(target).join(format!("{}.rs", modules[0]))
                }
            };
            let text = fs::read_to_string(&file)
                .unwrap_or_else(|why| panic!("{}: {}: {why}", patch.name, file.display()));
            if let Some(function) = modules.get(1) {
                assert!(text.contains(function), "{}: {} has no {function}", patch.name, file.display());
            }
        }
    }

    #[test]
    fn a_patch_names_a_rule_and_a_test() {
        let test = GuardingTest::parse(" rsky-indexer it golden ").unwrap();
        assert_eq!(test.binary(), ["--package", "rsky-indexer", "--test", "it"]);
        assert_eq!(test.to_string(), "rsky-indexer it golden");
        let test = GuardingTest::parse("rsky-common lib wire::").unwrap();
        assert_eq!(test.binary(), ["--package", "rsky-common", "--lib"]);
        assert!(GuardingTest::parse("rsky-common wire").is_err());
        assert!(GuardingTest::parse("rsky-common lib wire and more").is_err());
    }
}
