//! The whole pipeline as Redis sees it, for the pages for people: lengths, ends, groups, dead letters, memory.
//!
//! A page never decides anything: what a user of Redis may not look at is shown as the error it gives, and everything else
//! goes on. Nothing is written, and each answer is bounded: scripts return ids and the beginnings of texts, no payloads.

mod ends;
mod groups;
mod letters;
mod look;

use std::time::Duration;

use super::figures::RedisFigures;
use super::{Gate, LinkError, RedisLink};
use crate::admin::{Status, StreamNames};
use crate::runtime::backoff::sleep_or_stop;
pub(super) use groups::LOOKED_AT;
use look::Look;

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(5);

/// Looks at the streams (with their dead letters) every few seconds and tells the status, until the link's token stops it.
/// `gates` learn the lengths that are seen, so that a stream nobody writes to now is not shown as it was when somebody
/// did, and `figures` what is told as metrics; while nothing can be seen they know none. Losing this task loses nothing but the page.
///
/// # Errors
/// None: what cannot be seen is shown as that.
pub async fn watch(
    mut link: RedisLink,
    names: StreamNames,
    status: Status,
    figures: RedisFigures,
    gates: Vec<Gate>,
) -> Result<(), LinkError> {
    let stop = link.stop().clone();
    status.streams(names.clone());
    let mut looking = Look::new(names, gates);
    loop {
        match looking.look(&mut link).await {
            Ok(facts) => {
                link.succeeded();
                figures.note(&status.seen(Ok(facts)));
            }
            Err(LinkError::Stopped) => return Ok(()),
            Err(error) => {
                looking.nothing_is_known();
                figures.note_unknown();
                status.seen(Err(error.to_string()));
                match link.wait_out(error).await {
                    Ok(()) => continue,
                    Err(LinkError::Stopped) => return Ok(()),
                    // Refused, and by waiting it does not get better: shown, and asked again all the same.
                    Err(LinkError::Redis(_)) => {}
                }
            }
        }
        if !sleep_or_stop(EVERY, &stop).await {
            return Ok(());
        }
    }
}
