//! Reads one stream and deals its entries out to the lanes.
//!
//! Order of reading: this consumer's own pending entries (what an earlier life left), then new ones; entries that
//! other consumers have held for too long are claimed now and then. An entry that is already on its way is not
//! dealt out twice.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use rsky_common::redis::consumer::Entry;
use rsky_common::redis::startup::ensure_group;
use rsky_common::redis::{LinkError, RedisLink};
use rsky_common::runtime::budget::ByteBudget;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::acks::Source;
use crate::kind::Kind;
use crate::lane::Job;
use crate::metrics::Metrics;

/// Entries per read. What is read is in memory before it can be charged to the budget, so this times the largest
/// entry (a record is at most 1 MiB on the network) is the most that can be over it. More is not faster.
const COUNT: usize = 250;

/// How long a read waits for the first entry: also the longest that a stop waits for the reader.
pub const BLOCK: Duration = Duration::from_millis(500);

/// A consumer of our name that was heard of this recently may be a second process.
const RECENT_MS: u64 = 1500;

/// A stream's reader.
pub struct Reader {
    /// The stream.
    pub source: Arc<Source>,
    /// Connection of its own: its reads block.
    pub link: RedisLink,
    /// The lanes.
    pub lanes: Vec<mpsc::Sender<Job>>,
    /// Bytes of entries on their way, over all streams.
    pub budget: ByteBudget,
    /// Age at which other consumers' entries are claimed.
    pub claim_idle: Duration,
    /// When to stop.
    pub stop: CancellationToken,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl Reader {
    /// Reads until told to stop.
    ///
    /// # Errors
    /// An error of Redis that waiting does not cure.
    pub async fn run<K: Kind>(mut self) -> anyhow::Result<()> {
        let stream = self.source.consumer.stream.clone();
        match self.read_all::<K>().await {
            Ok(()) | Err(LinkError::Stopped) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("read stream {stream}")),
        }
    }

    async fn read_all<K: Kind>(&mut self) -> Result<(), LinkError> {
        let source = Arc::clone(&self.source);
        ensure_group(&mut self.link, &source.consumer.stream, &source.consumer.group).await?;
        self.warn_of_namesake().await;
        while !self.stop.is_cancelled() {
            // A lost connection may have taken entries with it that Redis counts as delivered: own pending first.
            let Err(error) = self.read_until_error::<K>().await else { return Ok(()) };
            match &error {
                LinkError::Redis(redis) if redis.code() == Some("NOGROUP") => {
                    warn!(stream = source.consumer.stream, "the consumer group is gone (was Redis emptied?)");
                    ensure_group(&mut self.link, &source.consumer.stream, &source.consumer.group).await?;
                }
                _ => self.link.wait_out(error).await?,
            }
        }
        Ok(())
    }

    async fn read_until_error<K: Kind>(&mut self) -> Result<(), LinkError> {
        let source = Arc::clone(&self.source);
        let mut after = "0".to_owned();
        let mut found = 0;
        while !self.stop.is_cancelled() {
            let entries = source.consumer.read_pending(&mut self.link, &after, COUNT).await?;
            let Some(last) = entries.last() else { break };
            last.id.clone_into(&mut after);
            found += entries.len();
            self.deal::<K>(entries).await?;
        }
        if found > 0 {
            info!(stream = source.consumer.stream, entries = found, "took up entries left pending");
        }
        let pause = (self.claim_idle / 2).clamp(Duration::from_millis(100), Duration::from_secs(60));
        let mut claim_at = Instant::now();
        while !self.stop.is_cancelled() {
            if claim_at <= Instant::now() {
                self.claim_stale::<K>().await?;
                claim_at = Instant::now() + pause;
            }
            let entries = source.consumer.read_new(&mut self.link, COUNT, BLOCK).await?;
            self.link.succeeded();
            self.note_lag(entries.last());
            self.deal::<K>(entries).await?;
        }
        Ok(())
    }

    /// Takes over what others have held for too long, to the end of the pending list.
    async fn claim_stale<K: Kind>(&mut self) -> Result<(), LinkError> {
        let source = Arc::clone(&self.source);
        let mut start = "0-0".to_owned();
        while !self.stop.is_cancelled() {
            let claimed =
                source.consumer.claim_stale(&mut self.link, self.claim_idle, &start, COUNT).await?;
            if !claimed.entries.is_empty() {
                let count = u64::try_from(claimed.entries.len()).unwrap_or(0);
                self.metrics.claimed.get_or_create(&source.labels).inc_by(count);
                info!(stream = source.consumer.stream, entries = count, "took over stale entries");
                self.deal::<K>(claimed.entries).await?;
            }
            if claimed.next == "0-0" {
                break;
            }
            start = claimed.next;
        }
        Ok(())
    }

    async fn deal<K: Kind>(&mut self, entries: Vec<Entry>) -> Result<(), LinkError> {
        for mut entry in entries {
            if !self.source.enter(&entry.id) {
                continue;
            }
            let size = entry.size() + entry.id.len();
            let payload = K::FIELDS.iter().find_map(|field| entry.take_field(field));
            // A payload that is not UTF-8 is not JSON either: it becomes a dead letter that can be looked at.
            let payload = payload.map(|bytes| {
                String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
            });
            let lane = payload.as_deref().and_then(K::route).map_or(0, |route| self.lane_of(&route));
            let Some(sender) = self.lanes.get(lane) else { continue };
            let id = entry.id.clone();
            let handed = async {
                let charge = self.budget.charge(size).await;
                let source = Arc::clone(&self.source);
                sender.send(Job { source, id: entry.id, payload, read_at: Instant::now(), charge }).await
            };
            let handed = tokio::select! {
                () = self.stop.cancelled() => false,
                sent = handed => sent.is_ok(),
            };
            if !handed {
                self.source.leave(&id);
                return Err(LinkError::Stopped);
            }
        }
        Ok(())
    }

    /// The same lane for the same route, in every process of this build.
    fn lane_of(&self, route: &str) -> usize {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(route);
        let lanes = u64::try_from(self.lanes.len()).unwrap_or(1).max(1);
        usize::try_from(hash % lanes).unwrap_or(0)
    }

    fn note_lag(&self, last: Option<&Entry>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64());
        let lag = last.and_then(Entry::written_ms).map_or(0.0, |written| (now - written as f64 / 1000.0).max(0.0));
        self.metrics.lag_seconds.get_or_create(&self.source.labels).set(lag);
    }

    async fn warn_of_namesake(&mut self) {
        let consumer = &self.source.consumer;
        if let Ok(Some(idle)) = consumer.idle_ms(&mut self.link).await
            && idle < RECENT_MS
        {
            warn!(
                stream = consumer.stream,
                consumer = consumer.name,
                "a consumer of this name was active {idle} ms ago: if that was not this process before its restart, \
                 give every indexer its own INDEXER_CONSUMER"
            );
        }
    }
}
