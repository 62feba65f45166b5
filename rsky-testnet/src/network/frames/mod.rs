//! Event stream frames: the file format of recordings, a look at the seq of a frame, and builders for tests.
//!
//! A frame is two DAG-CBOR values one after the other: a header `{t, op}` and a body. A frame file is a sequence of
//! frames, each after its length as a little-endian u32.

mod build;
mod peek;

use anyhow::{Context, bail};
use bytes::Bytes;

pub use build::{
    Op, account, commit, commit_car, error, error_with_message, identity, info, labels, signed_commit, sync,
    typed, unknown,
};
pub use peek::{Peek, peek};

/// Splits the content of a frame file.
///
/// # Errors
/// When the content ends inside a length or a frame.
pub fn read(content: &[u8]) -> anyhow::Result<Vec<Bytes>> {
    let mut frames = Vec::new();
    let mut rest = content;
    while !rest.is_empty() {
        let at = content.len() - rest.len();
        let (length, tail) = rest
            .split_first_chunk::<4>()
            .with_context(|| format!("a frame length is cut off at byte {at}"))?;
        let length = u32::from_le_bytes(*length) as usize;
        let Some((frame, tail)) = tail.split_at_checked(length) else {
            bail!("the frame at byte {at} says {length} bytes, {} are left", tail.len());
        };
        frames.push(Bytes::copy_from_slice(frame));
        rest = tail;
    }
    Ok(frames)
}

/// The content of a frame file.
///
/// # Errors
/// When a frame is longer than a u32 can say.
pub fn write<F: AsRef<[u8]>>(frames: impl IntoIterator<Item = F>) -> anyhow::Result<Vec<u8>> {
    let mut out = Vec::new();
    for frame in frames {
        let frame = frame.as_ref();
        out.extend_from_slice(&u32::try_from(frame.len()).context("a frame of 4 GiB")?.to_le_bytes());
        out.extend_from_slice(frame);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_file_reads_back() {
        let frames = [b"one".to_vec(), Vec::new(), vec![7; 300]];
        let content = write(&frames).unwrap();
        assert_eq!(content[..7], *b"\x03\0\0\0one");
        assert_eq!(read(&content).unwrap(), frames);
    }

    #[test]
    fn a_cut_file_is_an_error() {
        let content = write(["abcdef"]).unwrap();
        for cut in 1..content.len() {
            assert!(read(&content[..cut]).is_err(), "cut at {cut}");
        }
    }
}
