//! Event-stream frames: a header and a body, two CBOR items one after the other (PIPELINE 4.2).
//!
//! Frames are read as leniently as the reference reads them; unknown fields are passed over. A frame that is broken in
//! one place still tells its sequence number and its account if they can be read.

use super::frame_body::Body;
use super::frame_parts::split;

pub use super::frame_message::{Account, Commit, Frame, FrameError, FrameErrorKind, Identity, Op, Sync};

/// Decodes a frame of `com.atproto.sync.subscribeRepos`.
///
/// # Errors
/// Anything but one header and one body of the fields that its type requires.
pub fn decode_frame(bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    let failed = |kind, t: Option<&str>, body: &Body<'_>| FrameError {
        kind,
        t: t.map(str::to_owned),
        seq: body.seq,
        did: body.did.map(str::to_owned),
    };
    let mut body = Body::default();
    let (header, reader) = split(bytes).map_err(|kind| failed(kind, None, &body))?;
    let read = body.read(reader);
    let decoded = match read {
        Ok(()) => body.take_frame(header),
        Err(kind) => Err(kind),
    };
    decoded.map_err(|kind| failed(kind, Some(header.t), &body))
}

/// Whether a frame, of either subscription, says in its header that it is an error. Its body is not looked at.
pub fn is_error(bytes: &[u8]) -> bool {
    split(bytes).is_ok_and(|(header, _)| header.is_error)
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
