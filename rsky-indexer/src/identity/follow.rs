//! A deletion is followed into the other streams.
//!
//! What a backfill has read of an account before it was deleted may wait in its stream for hours, and would be indexed after the
//! account was taken out. So the deletion is written once more behind it, there, and is looked at again when it comes to that:
//! by whoever reads that stream, after everything that stands before it.

use redis::cmd;
use rsky_common::redis::{LinkError, RedisLink};
use rsky_common::wire::names::{FIELD_EVENT, SEQ_BACKFILL};
use rsky_common::wire::push_account;
use tracing::warn;

/// Writes deletions into the streams beside that of live events.
#[derive(Debug)]
pub(super) struct Follow {
    link: RedisLink,
    /// The stream of live events: from no other one is a deletion followed, or it would go round for ever.
    live: String,
    others: Vec<String>,
}

impl Follow {
    /// `streams`: the event streams, that of live events first.
    pub(super) fn new(link: RedisLink, streams: &[String]) -> Self {
        let (live, others) =
            streams.split_first().map_or((String::new(), &[][..]), |(live, others)| (live.clone(), others));
        Self { link, live, others: others.to_vec() }
    }

    /// The stream whose deletions are followed.
    pub(super) fn live(&self) -> &str {
        &self.live
    }

    /// Writes the deletion of an account at this time into every other stream that is not empty.
    ///
    /// # Errors
    /// Redis', also where it is full, or the connection's. Some of it may be written: once more is harmless.
    pub(super) async fn follow(&mut self, did: &str, time: &str) -> Result<(), LinkError> {
        for stream in &self.others {
            let length: u64 = self.link.query(cmd("XLEN").arg(stream)).await?;
            if length == 0 {
                continue;
            }
            let mut payload = String::new();
            push_account(&mut payload, SEQ_BACKFILL, time, did, false, Some("deleted"));
            let written: Result<String, LinkError> =
                self.link.query(cmd("XADD").arg(stream).arg("*").arg(FIELD_EVENT).arg(payload)).await;
            match written {
                Ok(_) => self.link.succeeded(),
                Err(error) if error.is_forbidden() => {
                    warn!(did, stream, "what is left there of a deleted account will be indexed: {error}");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
