//! Where tests find recorded data.

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

/// A gzipped JSON-lines file.
pub(crate) fn read_lines(path: &Path) -> Vec<String> {
    let file = std::fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The lines of `testdata/golden/<name>.jsonl.gz`, which the reference wrote.
pub(crate) fn golden(name: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/golden");
    read_lines(&root.join(format!("{name}.jsonl.gz")))
}

/// A path in the shared fixtures, which are not part of the repository; `None` after saying so if they are absent.
pub(crate) fn fixture(path: &str) -> Option<PathBuf> {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures").join(path);
    if full.exists() {
        return Some(full);
    }
    println!("skipped: {} is absent", full.display());
    None
}
