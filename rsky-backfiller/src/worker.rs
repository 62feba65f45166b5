//! One step of one repository: its DID document, or the whole way from its PDS to the output stream.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use reqwest::Client;
use rsky_common::clock::{millis, now_iso, now_ms};
use rsky_common::identity::{DidDocument, DidResolver, DocumentCache, ResolveError, Resolved, redis_cache};
use rsky_common::redis::{LinkError, RedisLink};
use rsky_common::repo::{DiskBudget, StoreLimits};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::config::{Config, Source};
use crate::download::{Download, Patience, ask, repo_url};
use crate::job::{Job, Queue};
use crate::metrics::Metrics;
use crate::outcome::{Class, Directory, Failure, of_document};
use crate::output::{Output, Put};
use crate::reconcile::{Paths, Reconciler};
use crate::remembered::{Remembered, Table};
use crate::repository::{Chunk, Making, Received, Summary, make_entries, receive};
use crate::sizes::{KEPT_DOCUMENT, MOST_DOCUMENT};
use crate::unread::{Again, LOOK_AGAIN, Reached, Unread};

/// Pieces of an answer between the socket and the reader of the CAR.
const PIECES: usize = 4;
/// Chunks between the maker of entries and the writer.
const CHUNKS: usize = 1;

/// A host that takes longer for its first bytes does not keep others from being asked meanwhile.
const SLOW_START: Duration = Duration::from_millis(250);
/// An answer that breaks off after we did not listen for this long has not failed: hosts close what nobody reads.
const KEPT_WAITING: Duration = Duration::from_secs(5);

/// Asked about when nothing else is known that the PLC directory could answer about: that it is not registered is an
/// answer, too.
const NOBODY: &str = "did:plc:222222222222222222222222";

/// How a step ended well.
#[derive(Debug)]
pub enum Step {
    /// The document is there: on to its PDS.
    Resolved {
        /// The document.
        document: Arc<DidDocument>,
        /// Whether the directory gave it just now.
        fresh: bool,
    },
    /// Everything is in the output stream. The host's headers may ask for a pause.
    Queued(Option<Duration>),
    /// The process ends; the entry stays pending.
    Stopped,
}

/// Counts one, while it lasts.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn within(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What all steps share.
pub struct Worker {
    /// The settings.
    pub config: Config,
    /// Asks PDSes.
    pub client: Client,
    /// Asks directories.
    pub resolver: DidResolver,
    /// Documents of this process.
    pub documents: DocumentCache,
    /// The account that the PLC directory has answered about last.
    pub witness: std::sync::Mutex<Option<String>>,
    /// Documents shared in Redis, if that is configured.
    pub shared: Option<Mutex<RedisLink>>,
    /// The output stream.
    pub output: Output,
    /// The AppView's records, if its database is known.
    pub reconciler: Option<Arc<Reconciler>>,
    /// Revisions queued.
    pub remembered: Remembered,
    /// What indexers have not read yet, and the connection to ask about it; of use where there is a database.
    pub unread: Option<(Unread, Mutex<RedisLink>)>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Repositories whose host has been slow to send the first bytes, and has not yet: they take no memory.
    pub slow: AtomicUsize,
    /// Repositories that may be in memory.
    pub slots: Arc<Semaphore>,
    /// What their temporary files may take.
    pub disk: DiskBudget,
    /// Repositories that wait for such a place.
    pub waiting: AtomicUsize,
    /// The wish to stop: downloads end at once, writing goes on.
    pub stop: CancellationToken,
}

impl Worker {
    /// The URL of a job's repository: at its PDS, or at the host that listed it.
    ///
    /// # Errors
    /// A host that may not be contacted.
    pub fn url_of(&self, job: &Job) -> Result<Url, Failure> {
        let pds = job.document.as_ref().and_then(|document| document.pds.as_deref());
        let host = match self.config.source {
            Source::Pds => pds.unwrap_or(&job.listed_by),
            Source::Host => &job.listed_by,
        };
        if host.is_empty() {
            return Err(Failure::new(
                Class::Unresolvable,
                "there is no DID document that names a PDS, and no listing host",
            ));
        }
        repo_url(host, &job.did, self.config.outbound)
    }

    /// Whether a job needs its DID document.
    pub fn needs_document(&self) -> bool {
        self.config.verify || self.config.source == Source::Pds
    }

    /// Gets the DID document; past the caches if `fresh`.
    ///
    /// # Errors
    /// There is none, or the directory does not answer.
    pub async fn resolve(&self, did: &str, fresh: bool) -> Result<Step, Failure> {
        if !fresh && let Some(document) = self.shared_document(did).await {
            return Ok(Step::Resolved { document, fresh: false });
        }
        let asked = Instant::now();
        tokio::select! {
            () = self.stop.cancelled() => Ok(Step::Stopped),
            step = self.ask_directory(did) => {
                self.metrics.took("document", asked.elapsed().as_secs_f64());
                step
            }
        }
    }

    async fn ask_directory(&self, did: &str) -> Result<Step, Failure> {
        let mut directory = if is_plc(did) { Directory::PlcDown } else { Directory::Web };
        let mut resolved = self.resolver.resolve(did).await;
        if directory == Directory::PlcDown && is_failure(&resolved) && self.answers_about_others(did).await {
            // Once more: it may have recovered just now.
            directory = Directory::PlcOfOthers;
            resolved = self.resolver.resolve(did).await;
        }
        match resolved {
            Ok(Resolved { json, .. }) if json.len() > MOST_DOCUMENT => {
                Err(Failure::new(Class::Unresolvable, format!("a DID document of {} bytes", json.len())))
            }
            Ok(Resolved { document, json }) => {
                self.note_witness(did);
                let document = Arc::new(document);
                self.keep(&document, &json);
                self.share(&redis_cache::put(did, &json)).await;
                Ok(Step::Resolved { document, fresh: true })
            }
            Err(ResolveError::NotFound) => {
                self.documents.remove(did);
                self.share(&redis_cache::remove(did)).await;
                // The host that listed it is asked instead: as a rule it knows that the account is gone.
                let nobody = DidDocument::parse(
                    format!("{{\"id\":{}}}", serde_json::Value::from(did)).as_bytes(),
                    did,
                );
                let document = nobody.map_err(Failure::internal)?;
                Ok(Step::Resolved { document: Arc::new(document), fresh: true })
            }
            Err(error) => Err(of_document(&error, directory)),
        }
    }

    fn note_witness(&self, did: &str) {
        if is_plc(did) {
            let mut witness = self.witness.lock().unwrap_or_else(PoisonError::into_inner);
            witness.replace(did.to_owned());
        }
    }

    /// Whether the PLC directory, which failed for `did`, answers about another account. An outage must not be counted
    /// against accounts, and an account for which it always fails must not wait for ever.
    async fn answers_about_others(&self, did: &str) -> bool {
        let witness = self.witness.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let other = witness.filter(|witness| witness != did).unwrap_or_else(|| NOBODY.to_owned());
        !is_failure(&self.resolver.resolve(&other).await)
    }

    async fn shared_document(&self, did: &str) -> Option<Arc<DidDocument>> {
        let mut command = redis::cmd("GET");
        command.arg(redis_cache::key(did));
        // The cache is a convenience: whatever fails here, the directory is asked instead.
        let value: Option<String> = self.shared.as_ref()?.lock().await.query(&command).await.ok()?;
        let cached = redis_cache::read(&value?).filter(|cached| !cached.stale)?;
        let small = cached.json.len() <= MOST_DOCUMENT;
        let document = Arc::new(DidDocument::parse(cached.json.as_bytes(), did).ok().filter(|_| small)?);
        self.keep(&document, &cached.json);
        Some(document)
    }

    fn keep(&self, document: &Arc<DidDocument>, json: &str) {
        if json.len() <= KEPT_DOCUMENT {
            self.documents.put(Arc::clone(document));
        }
    }

    async fn share(&self, command: &redis::Cmd) {
        if let Some(link) = &self.shared
            && let Err(error) = link.lock().await.query::<redis::Value>(command).await
        {
            tracing::debug!("the shared cache of DID documents: {error}");
        }
    }

    /// Fetches a repository, checks it, and writes its records. `slow` counts its host's repositories that are slow to
    /// begin.
    ///
    /// # Errors
    /// Why it is not in the output stream.
    pub async fn fetch(&self, job: &Job, url: Url, slow: &AtomicUsize) -> Result<Step, Failure> {
        if let Some(reconciler) = self.compared(job) {
            // What cannot be compared is not fetched in vain.
            let checked = reconciler.check().await;
            checked.map_err(|error| Failure::new(Class::Database, format!("{error:#}")))?;
        }
        let reached = match self.reached(job).await {
            Ok(reached) => reached,
            Err(LinkError::Stopped) => return Ok(Step::Stopped),
            Err(error) => return Err(Failure::internal(error)),
        };
        let (asked_ms, asked) = (now_ms(), Instant::now());
        let (received, pace, _slot) = tokio::select! {
            () = self.stop.cancelled() => return Ok(Step::Stopped),
            received = self.receive(url, slow) => received?,
        };
        if received.commit.did != job.did {
            let error = format!("the repository is that of {}", received.commit.did);
            return Err(Failure::new(Class::WrongDid, error));
        }
        if self.config.verify {
            let document =
                job.document.as_ref().ok_or_else(|| Failure::new(Class::NoKey, "no DID document"))?;
            let key = document.signing_key()?;
            let key =
                key.ok_or_else(|| Failure::new(Class::NoKey, "the DID document names no signing key"))?;
            received.commit.verify(&key)?;
        }
        self.metrics.received(received.bytes);
        self.metrics.took("fetch", asked.elapsed().as_secs_f64());
        let mut also = self.remembered(job, &received.rev);
        match self.compare_again(job, reached).await {
            Ok(again) => also.extend(again),
            Err(LinkError::Stopped) => return Ok(Step::Stopped),
            Err(error) => return Err(Failure::internal(error)),
        }
        also.extend(job.queue.of(&self.config.consumers()).ending(&[&job.id]));
        let begun = Instant::now();
        let Some(summary) = self.write(job, received, asked_ms, also).await? else {
            return Ok(Step::Stopped);
        };
        self.metrics.took("write", begun.elapsed().as_secs_f64());
        self.metrics.records.inc_by(summary.queued);
        self.metrics.filtered.inc_by(summary.filtered);
        self.metrics.bad_records.inc_by(summary.bad);
        self.metrics.deletes.inc_by(summary.deleted);
        tracing::debug!(did = job.did, records = summary.queued, "queued");
        Ok(Step::Queued(pace))
    }

    /// The repository in its slot, which is to be held until it has left memory.
    async fn receive(
        &self,
        url: Url,
        slow: &AtomicUsize,
    ) -> Result<(Received, Option<Duration>, OwnedSemaphorePermit), Failure> {
        let config = &self.config;
        let mut beginning = pin!(self.begin(url));
        let download = match timeout(SLOW_START, beginning.as_mut()).await {
            Ok(download) => download?,
            Err(_) => {
                let _counted = (Counted::within(&self.slow), Counted::within(slow));
                beginning.await?
            }
        };
        let idle_from = Instant::now();
        let slot = {
            let _counted = Counted::within(&self.waiting);
            Arc::clone(&self.slots).acquire_owned().await
        };
        // The semaphore is never closed.
        let slot = slot.map_err(Failure::internal)?;
        let (directory, disk) = (config.temp_dir.clone(), self.disk.clone());
        let limits = StoreLimits { memory: config.memory_per_repo, directory, disk };
        let most = config.max_repo;
        let (sender, mut pieces) = mpsc::channel(PIECES);
        let receiving = spawn_blocking(move || receive(&mut pieces, limits, most));
        let idle = idle_from.elapsed();
        let sent = download.send(sender, &self.waiting, idle).await;
        let received = receiving.await.map_err(Failure::internal)?;
        // What the host did wrong explains what the reader found.
        let pace = sent.map_err(|failure| match failure.class {
            Class::Interrupted if idle >= KEPT_WAITING => Failure { class: Class::KeptWaiting, ..failure },
            _ => failure,
        })?;
        Ok((received?, pace, slot))
    }

    /// Whether enough repositories wait for a place in memory: hosts that are asked now would only wait for us.
    pub fn is_crowded(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > self.config.concurrency / 4
    }

    /// Asks, and takes in the first bytes.
    async fn begin(&self, url: Url) -> Result<Download, Failure> {
        let patience = Patience {
            answer: self.config.answer_timeout,
            stall: self.config.stall_timeout,
            total: self.config.total_timeout,
        };
        let mut download = Download::new(ask(&self.client, url, patience).await?, patience);
        download.take_first().await?;
        Ok(download)
    }

    /// Checks the whole tree, then writes, `also` with the last entry: what remembers that it was queued, and the end of the
    /// job's own entry. Apart from it they could be in Redis without it. `None`: the process ends.
    async fn write(
        &self,
        job: &Job,
        mut received: Received,
        asked_ms: u64,
        also: Vec<redis::Cmd>,
    ) -> Result<Option<Summary>, Failure> {
        let making = Making {
            filter: self.config.filter.clone(),
            entries: self.config.batch_size,
            bytes: self.config.batch_bytes,
            time: now_iso(),
        };
        let (sender, mut chunks) = mpsc::channel::<Chunk>(CHUNKS);
        let known = self.known_paths(job, &received.rev, asked_ms);
        let making = spawn_blocking(move || {
            received.check_tree()?;
            make_entries(received, &making, known, &sender)
        });
        let (mut ended, mut after) = (false, None);
        while let Some(chunk) = chunks.recv().await {
            let last = chunk.last;
            let also = if last { also.clone() } else { Vec::new() };
            after = match self.output.write(chunk, also, after).await {
                Put::Written(connection) => Some(connection),
                Put::Lost => {
                    let error = "the connection to Redis was lost between its parts";
                    return Err(Failure::new(Class::BrokenOff, error));
                }
                Put::Stopped => return Ok(None),
            };
            ended |= last;
        }
        let summary = making.await.map_err(Failure::internal)??;
        if ended { Ok(Some(summary)) } else { Err(Failure::internal("the entries ended early")) }
    }
}

impl Worker {
    /// Accounts of the priority stream are compared with the AppView, where its database is known.
    fn compared(&self, job: &Job) -> Option<&Arc<Reconciler>> {
        self.reconciler.as_ref().filter(|_| job.queue == Queue::Priority)
    }

    /// How far the streams reach before an account is compared, if that is to be looked at.
    async fn reached(&self, job: &Job) -> Result<Option<Reached>, LinkError> {
        match &self.unread {
            // A second comparison is the last: what came into the streams since was not lost.
            Some((unread, link)) if self.compared(job).is_some() && job.read_up_to.is_none() => {
                unread.reached(&mut *link.lock().await).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The wish to compare once more, if something of the account was not indexed before this comparison.
    async fn compare_again(
        &self,
        job: &Job,
        reached: Option<Reached>,
    ) -> Result<Option<redis::Cmd>, LinkError> {
        let (Some((unread, link)), Some(reached)) = (&self.unread, reached) else { return Ok(None) };
        if !unread.holds(&mut *link.lock().await, &reached, &job.did).await? {
            return Ok(None);
        }
        let mut wish = redis::cmd("ZADD");
        let due = now_ms().saturating_add(millis(LOOK_AGAIN));
        let again = Again { reached, payload: job.payload.clone(), did: job.did.clone() };
        wish.arg(self.config.again_key()).arg(due).arg(again.member());
        Ok(Some(wish))
    }

    /// What remembers that the repository was queued, and compared.
    fn remembered(&self, job: &Job, rev: &str) -> Vec<redis::Cmd> {
        let queued = self.remembered.remember(Table::Queued, &job.did, rev);
        let compared =
            self.compared(job).and_then(|_| self.remembered.remember(Table::Compared, &job.did, rev));
        queued.into_iter().chain(compared).collect()
    }

    /// What the AppView has of an account that is resynchronised.
    fn known_paths(&self, job: &Job, rev: &str, asked_ms: u64) -> Option<Paths> {
        let reconciler = self.compared(job)?;
        let (sender, paths) = Reconciler::channel();
        let (reconciler, did, rev) = (Arc::clone(reconciler), job.did.clone(), rev.to_owned());
        // It ends when the receiver is dropped.
        tokio::spawn(async move { reconciler.send_paths(&did, &rev, asked_ms, sender).await });
        Some(paths)
    }
}

fn is_plc(did: &str) -> bool {
    did.starts_with("did:plc:")
}

/// Whether the directory failed; that there is no such account is an answer.
fn is_failure(resolved: &Result<Resolved, ResolveError>) -> bool {
    !matches!(resolved, Ok(_) | Err(ResolveError::NotFound))
}
