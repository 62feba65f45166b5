//! The life of a daemon process: boot, signals, drain, exit code.
//!
//! Exit codes: 0 after a clean stop, 1 after a failure, 64 for a configuration that is not usable, 130 when a second
//! signal cut the drain short.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::logging::{self, LogConfig};
use super::memory_plan::Report;
use super::service::Service;
use crate::config::{CommonConfig, ConfigError};

const EXIT_BAD_CONFIG: u8 = 64;
const EXIT_SECOND_SIGNAL: i32 = 130;
/// Most threads for blocking work. The backfiller's repositories take one each (`BACKFILLER_CONCURRENCY`, at most 1000) and
/// keep it while a gate is shut; the same pool looks up host names, of which as many again may wait for slow name
/// servers. With fewer, look-ups would queue behind repositories that wait. Threads are made when needed and end when
/// idle, so a daemon that does less has fewer.
const BLOCKING_THREADS: usize = 2048;

/// Time for telling the service manager that this is the end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What has to be known before the runtime starts.
#[derive(Clone, Debug)]
pub struct Startup {
    /// The daemon's name, as in its binary.
    pub name: &'static str,
    /// Its version, for the first log line.
    pub version: &'static str,
    /// What is logged.
    pub log: LogConfig,
    /// Time between the wish to stop and giving up on what is still in flight.
    pub drain: Duration,
    /// Sentences about the configuration, logged as warnings once logging is there.
    pub notices: Vec<String>,
    /// Memory, as planned; `None`: nothing was planned.
    pub memory: Option<Report>,
}

impl Startup {
    /// Of what every daemon has; nothing was planned yet, and there is nothing to warn about.
    pub fn new(name: &'static str, version: &'static str, common: &CommonConfig) -> Self {
        let (log, drain) = (common.log.clone(), common.drain);
        Self { name, version, log, drain, notices: Vec::new(), memory: None }
    }
}

/// What the body of a daemon is given.
#[derive(Clone, Debug)]
pub struct Context {
    /// Cancelled when the process shall stop: by a signal, or because a stage failed.
    pub stop: CancellationToken,
    /// What the service manager and `/healthz` are told.
    pub service: Service,
    running: Running,
}

impl Context {
    /// A context outside of a daemon: for tests and tools.
    pub fn detached() -> Self {
        Self { stop: CancellationToken::new(), service: Service::default(), running: Running::default() }
    }

    pub(super) fn running(&self) -> &Running {
        &self.running
    }
}

/// The names of the stages that have not ended, with how many there are of each.
#[derive(Clone, Debug, Default)]
pub(super) struct Running(Arc<Mutex<BTreeMap<String, usize>>>);

impl Running {
    pub(super) fn started(&self, name: &str) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *names.entry(name.to_owned()).or_default() += 1;
    }

    pub(super) fn ended(&self, name: &str) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = names.get_mut(name) {
            *count = count.saturating_sub(1);
        }
        names.retain(|_, count| *count > 0);
    }

    fn names(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

/// Says what is wrong with the configuration and gives the exit code for it.
#[expect(clippy::print_stderr, reason = "logging is configured by the configuration that could not be read")]
pub fn refuse(name: &str, error: &ConfigError) -> ExitCode {
    eprintln!("{name}: {error}\n\n`{name} --help` lists every setting.");
    ExitCode::from(EXIT_BAD_CONFIG)
}

/// Runs a daemon to its end.
///
/// The body must end soon after `stop` is cancelled, having finished what it holds; when it has not within
/// `startup.drain`, it is dropped and the stages that were still running are named in the log.
pub fn run<F, Fut>(startup: Startup, body: F) -> ExitCode
where
    F: FnOnce(Context) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    logging::init(&startup.log);
    install_panic_hook();
    install_crypto();
    for notice in &startup.notices {
        tracing::warn!("{notice}");
    }
    if let Some(report) = &startup.memory {
        tracing::info!("{report}");
        if let Some(warning) = report.warning() {
            tracing::warn!("{warning}");
        }
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = match builder.max_blocking_threads(BLOCKING_THREADS).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    tracing::info!(version = startup.version, "{} starts", startup.name);
    let code = runtime.block_on(Box::pin(supervise(&startup, body)));
    // Blocking tasks (name look-ups, decoding) hold nothing that must be kept.
    runtime.shutdown_timeout(Duration::from_millis(100));
    code
}

async fn supervise<F, Fut>(startup: &Startup, body: F) -> ExitCode
where
    F: FnOnce(Context) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let context = Context::detached();
    let stop = context.stop.clone();
    let running = context.running.clone();
    let (term, int) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(term), Ok(int)) => (term, int),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "cannot listen for signals");
            return ExitCode::FAILURE;
        }
    };
    let watcher = tokio::spawn(watch_signals(term, int, stop.clone()));
    let ended = CancellationToken::new();
    let telling = context.service.clone().tell(stop.clone(), startup.drain, ended.clone());
    let telling = tokio::spawn(telling);
    let name = startup.name;
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(startup.drain).await;
    };
    let outcome = tokio::select! {
        outcome = body(context) => Some(outcome),
        () = overdue => None,
    };
    watcher.abort();
    stop.cancel();
    ended.cancel();
    // Whether it could be told or not, this is the end.
    drop(tokio::time::timeout(LAST_WORDS, telling).await);
    match outcome {
        Some(Ok(())) => {
            tracing::info!("{name} stopped");
            ExitCode::SUCCESS
        }
        Some(Err(error)) => {
            tracing::error!("{name} failed: {error:#}");
            ExitCode::FAILURE
        }
        None => {
            let abandoned = running.names().join(", ");
            tracing::error!(
                waited = ?startup.drain,
                "{name} gives up on what is in flight; abandoned: {abandoned}. It will be done again after the next start"
            );
            ExitCode::FAILURE
        }
    }
}

async fn watch_signals(mut term: Signal, mut int: Signal, stop: CancellationToken) {
    wait_for_one(&mut term, &mut int).await;
    tracing::info!("asked to stop; finishing what is in flight");
    stop.cancel();
    wait_for_one(&mut term, &mut int).await;
    tracing::warn!("second signal: stopping at once");
    std::process::exit(EXIT_SECOND_SIGNAL);
}

async fn wait_for_one(term: &mut Signal, int: &mut Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// Makes `ring` the TLS provider of the process. Without one, the first TLS connection would panic.
pub fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if rustls::crypto::ring::default_provider().install_default().is_err() {
            tracing::debug!("a TLS provider was installed already");
        }
    });
}

fn install_panic_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let payload = info.payload();
            let text = payload.downcast_ref::<&str>().copied();
            let text = text
                .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("(no message)");
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            tracing::error!(place, "panic: {text}");
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::logging::LogFormat;
    use crate::runtime::stages::Stages;

    fn startup(drain: Duration) -> Startup {
        let log = LogConfig { filter: "off".to_owned(), format: LogFormat::Text };
        Startup { name: "test", version: "0", log, drain, notices: Vec::new(), memory: None }
    }

    fn code(code: ExitCode) -> String {
        format!("{code:?}")
    }

    #[test]
    fn a_body_that_ends_gives_its_verdict() {
        let startup = startup(Duration::from_secs(5));
        let fine = run(startup.clone(), |_| async { Ok(()) });
        assert_eq!(code(fine), code(ExitCode::SUCCESS));
        let failed = run(startup, |_| async { anyhow::bail!("no") });
        assert_eq!(code(failed), code(ExitCode::FAILURE));
    }

    #[test]
    fn a_body_that_does_not_end_is_abandoned_after_the_deadline() {
        let outcome = run(startup(Duration::from_millis(20)), |context| async move {
            context.stop.cancel();
            std::future::pending().await
        });
        assert_eq!(code(outcome), code(ExitCode::FAILURE));
    }

    /// As many as the backfiller may have repositories.
    const REPOSITORIES: usize = 1000;

    #[test]
    fn names_are_looked_up_while_every_repository_waits() {
        let outcome = run(startup(Duration::from_secs(5)), |_| async {
            let (open, gate) = std::sync::mpsc::sync_channel::<()>(1);
            let gate = Arc::new(Mutex::new(gate));
            let waiting: Vec<_> = (0..REPOSITORIES)
                .map(|_| Arc::clone(&gate))
                .map(|gate| tokio::task::spawn_blocking(move || drop(gate.lock().map(|gate| gate.recv()))))
                .collect();
            let looked_up =
                tokio::time::timeout(Duration::from_secs(20), tokio::task::spawn_blocking(|| "an address"));
            let looked_up = looked_up.await;
            drop(open);
            for waiting in waiting {
                waiting.await?;
            }
            anyhow::ensure!(looked_up?? == "an address");
            Ok(())
        });
        assert_eq!(code(outcome), code(ExitCode::SUCCESS));
    }

    #[tokio::test]
    async fn knows_which_stages_run() {
        let context = Context::detached();
        let mut stages = Stages::new(&context);
        let stop = context.stop.clone();
        stages.spawn("reader", async move {
            stop.cancelled().await;
            Ok(())
        });
        assert_eq!(context.running().names(), ["reader"]);
        context.stop.cancel();
        stages.join().await.unwrap();
        assert!(context.running().names().is_empty());
    }
}
