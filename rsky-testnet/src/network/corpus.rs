//! Reading a recorded corpus folder.
//!
//! `firehose.frames` then `firehose-extra.frames`; `labels.frames` then `labels-extra.frames`; `listRepos.json` then
//! `listRepos-extra.json`; `handles.json` and `handles-extra.json`; `plc/<did>.json`; `repos/<did>.car` or
//! `repos/<did>.error.json` with `{status, body}`. Each file may be there as `NAME.gz` instead, and each may be missing,
//! but not all frames.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::directory::{Known, RepoAnswer};
use super::frames;
use super::list_repos::RepoPage;

/// A corpus in memory.
#[derive(Clone, Debug, Default)]
pub struct Corpus {
    /// Frames of the relay, in order.
    pub firehose: Vec<Bytes>,
    /// Frames of the labeler, in order.
    pub labels: Vec<Bytes>,
    /// Pages of listRepos, in order.
    pub pages: Vec<RepoPage>,
    pub(super) known: Known,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    status: u16,
    body: Value,
}

impl Corpus {
    /// Reads the folder.
    ///
    /// # Errors
    /// When it has no frames, or a file in it cannot be read.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut corpus = Self {
            firehose: frames_of(folder, ["firehose.frames", "firehose-extra.frames"])?,
            labels: frames_of(folder, ["labels.frames", "labels-extra.frames"])?,
            ..Self::default()
        };
        ensure!(
            !(corpus.firehose.is_empty() && corpus.labels.is_empty()),
            "no firehose.frames and no labels.frames in {}",
            folder.display()
        );
        for name in ["listRepos.json", "listRepos-extra.json"] {
            corpus.pages.extend(json_of::<Vec<RepoPage>>(folder, name)?);
        }
        for name in ["handles.json", "handles-extra.json"] {
            corpus.known.handles.extend(json_of::<HashMap<String, String>>(folder, name)?);
        }
        for (name, content) in files(&folder.join("plc"))? {
            if let Some(did) = name.strip_suffix(".json") {
                let document =
                    serde_json::from_slice(&content).with_context(|| format!("read plc/{name}"))?;
                corpus.known.documents.insert(did.to_owned(), document);
            }
        }
        for (name, content) in files(&folder.join("repos"))? {
            if let Some(did) = name.strip_suffix(".car") {
                corpus.known.repos.insert(did.to_owned(), RepoAnswer::Car(content.into()));
            } else if let Some(did) = name.strip_suffix(".error.json") {
                let ErrorAnswer { status, body } =
                    serde_json::from_slice(&content).with_context(|| format!("read repos/{name}"))?;
                corpus.known.repos.insert(did.to_owned(), RepoAnswer::Error { status, body });
            }
        }
        Ok(corpus)
    }
}

/// The corpus of this repository.
pub fn recorded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/corpus")
}

/// Reads `NAME` or `NAME.gz`; `None` when neither exists.
///
/// # Errors
/// When the one that exists cannot be read.
pub fn read_maybe_gz(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => return Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    match File::open(&name) {
        Ok(file) => {
            let mut content = Vec::new();
            GzDecoder::new(file)
                .read_to_end(&mut content)
                .with_context(|| format!("read {}", name.display()))?;
            Ok(Some(content))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", name.display())),
    }
}

fn frames_of(folder: &Path, names: [&str; 2]) -> Result<Vec<Bytes>> {
    let mut all = Vec::new();
    for name in names {
        if let Some(content) = read_maybe_gz(&folder.join(name))? {
            all.extend(frames::read(&content).with_context(|| format!("read {name}"))?);
        }
    }
    Ok(all)
}

fn json_of<T: DeserializeOwned + Default>(folder: &Path, name: &str) -> Result<T> {
    match read_maybe_gz(&folder.join(name))? {
        Some(content) => serde_json::from_slice(&content).with_context(|| format!("read {name}")),
        None => Ok(T::default()),
    }
}

/// Name (without `.gz`) and content of every file of a folder, which may be missing.
fn files(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("read {}", folder.display())),
    };
    let mut files = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let name = name.strip_suffix(".gz").unwrap_or(&name).to_owned();
        if let Some(content) = read_maybe_gz(&folder.join(&name))? {
            files.push((name, content));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_corpus_is_whole() {
        let corpus = Corpus::read(&recorded()).unwrap();
        let seqs: Vec<u64> = corpus.firehose.iter().filter_map(|frame| frames::peek(frame).seq).collect();
        assert_eq!((seqs.len(), seqs.first(), seqs.last()), (1803, Some(&1), Some(&1804)));
        assert_eq!(corpus.firehose.len(), 1804, "and one #info without a seq");
        assert_eq!(corpus.labels.len(), 35);
        assert_eq!(corpus.pages.iter().map(|page| page.repos.len()).sum::<usize>(), 88);
        assert_eq!((corpus.known.documents.len(), corpus.known.repos.len()), (98, 89));
        assert!(corpus.known.handles.len() > 90);
    }

    #[test]
    fn the_poison_recordings_have_three_frames_each() {
        for kind in ["badcar", "badpath", "badpath3", "cidmismatch", "nonmap"] {
            let corpus = Corpus::read(&recorded().join("poison").join(kind)).unwrap();
            assert_eq!(corpus.firehose.len(), 3, "{kind}");
        }
    }

    #[test]
    fn a_folder_without_frames_is_an_error() {
        assert!(Corpus::read(&recorded().join("plc")).is_err());
    }
}
