//! What of an account still waits to be indexed when it is compared with the AppView.
//!
//! A comparison sees what is in the database. A create that waits in a stream while its deletion was lost comes after it,
//! and would stay. So a resynchronisation notes how far the streams reached when it began; if something of the account
//! waits there, it is compared once more when the indexers have taken everything up to there out of the streams.

use std::time::Duration;

use rsky_common::redis::{LinkError, RedisLink};
use rsky_common::wire::parse_backfill;

/// Looks through what is left of a stream up to an id, and says whether a text occurs in it, or whether there is more than
/// is looked at: 1 in both cases. What is left is what no indexer has committed: entries are deleted afterwards.
const HOLDS: &str = "local from, seen, bytes = '-', 0, 0
while true do
  local page = redis.call('XRANGE', KEYS[1], from, ARGV[1], 'COUNT', 50)
  if #page == 0 then return 0 end
  for _, entry in ipairs(page) do
    for _, text in ipairs(entry[2]) do
      if string.find(text, ARGV[2], 1, true) then return 1 end
      bytes = bytes + #text
    end
    from = '(' .. entry[1]
  end
  seen = seen + #page
  if seen >= tonumber(ARGV[3]) or bytes >= tonumber(ARGV[4]) then return 1 end
end";
/// Most entries and bytes that are looked at of a stream; the server does nothing else meanwhile.
const MOST_ENTRIES: u32 = 1000;
const MOST_BYTES: u32 = 8 << 20;

/// Time after which it is looked again whether an account can be compared once more.
pub const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How far the live and the backfill stream reached: the ids of their last entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Of the stream of live events.
    pub live: String,
    /// Of the stream of backfilled records.
    pub backfill: String,
}

impl Reached {
    /// `<live>;<backfill>`
    pub fn to_text(&self) -> String {
        format!("{};{}", self.live, self.backfill)
    }

    /// Reads [`Reached::to_text`].
    pub fn read(text: &str) -> Option<Self> {
        let is_id = |id: &str| {
            id.split_once('-').is_some_and(|(ms, number)| {
                [ms, number]
                    .iter()
                    .all(|part| part.parse::<u64>().is_ok() && part.bytes().all(|b| b.is_ascii_digit()))
            })
        };
        let (live, backfill) = text.split_once(';')?;
        (is_id(live) && is_id(backfill))
            .then(|| Self { live: live.to_owned(), backfill: backfill.to_owned() })
    }
}

/// A wish to compare an account once more: its member of the set of such wishes is `<reached>|<entry's value>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Again {
    /// What has to be indexed before.
    pub reached: Reached,
    /// The entry's value.
    pub payload: String,
    /// The account.
    pub did: String,
}

impl Again {
    /// The member.
    pub fn member(&self) -> String {
        format!("{}|{}", self.reached.to_text(), self.payload)
    }

    /// Reads a member.
    pub fn read(member: &str) -> Option<Self> {
        let (reached, payload) = member.split_once('|')?;
        let did = parse_backfill(payload).ok()?.did.into_owned();
        Some(Self { reached: Reached::read(reached)?, payload: payload.to_owned(), did })
    }
}

/// The streams that indexers read.
#[derive(Debug, Clone)]
pub struct Unread {
    /// Live events.
    pub live: String,
    /// Backfilled records.
    pub backfill: String,
}

impl Unread {
    /// How far both streams reach now.
    ///
    /// # Errors
    /// `Stopped`, or an error of Redis that waiting does not cure.
    pub async fn reached(&self, link: &mut RedisLink) -> Result<Reached, LinkError> {
        Ok(Reached { live: last(link, &self.live).await?, backfill: last(link, &self.backfill).await? })
    }

    /// Whether something of the account may be left in the streams up to there.
    ///
    /// # Errors
    /// `Stopped`, or an error of Redis that waiting does not cure.
    pub async fn holds(&self, link: &mut RedisLink, reached: &Reached, did: &str) -> Result<bool, LinkError> {
        for (stream, until) in [(&self.live, &reached.live), (&self.backfill, &reached.backfill)] {
            let mut command = redis::cmd("EVAL");
            command.arg(HOLDS).arg(1).arg(stream).arg(until).arg(did).arg(MOST_ENTRIES).arg(MOST_BYTES);
            if link.retry::<u64>(&command).await? == 1 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The id of the last entry that is left; `0-0` when there is none.
async fn last(link: &mut RedisLink, stream: &str) -> Result<String, LinkError> {
    const LAST: &str = "local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1] \
        return last and last[1] or '0-0'";
    link.retry(redis::cmd("EVAL").arg(LAST).arg(1).arg(stream)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read_back() {
        let reached = Reached { live: "1-2".to_owned(), backfill: "0-0".to_owned() };
        let payload = r#"{"did":"did:plc:a|;","host":"h","rev":""}"#.to_owned();
        let again = Again { reached, payload, did: "did:plc:a|;".to_owned() };
        assert_eq!(Again::read(&again.member()), Some(again));
        for bad in ["", "1-2|{}", "1-2;3|{}", "1-2;3-4|{}", "+;-|{\"did\":\"d\"}", "1-2;3-x|{\"did\":\"d\"}"]
        {
            assert_eq!(Again::read(bad), None, "{bad}");
        }
    }
}
