//! Named tasks with one fate: the first that fails or panics stops the others.

use std::collections::HashMap;

use anyhow::{Context as _, anyhow};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::daemon::{Context, Running};

/// The tasks a daemon (or one source within it) consists of.
///
/// A task that ends well before the stop simply leaves (a listing that is done). Dropping the set aborts what is left.
#[derive(Debug)]
pub struct Stages {
    tasks: JoinSet<anyhow::Result<()>>,
    names: HashMap<Id, String>,
    stop: CancellationToken,
    running: Running,
}

impl Stages {
    /// An empty set whose failure cancels the context's `stop`.
    pub fn new(context: &Context) -> Self {
        Self {
            tasks: JoinSet::new(),
            names: HashMap::new(),
            stop: context.stop.clone(),
            running: context.running().clone(),
        }
    }

    /// Starts a task. Its name is what the log calls it.
    pub fn spawn<F>(&mut self, name: impl Into<String>, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let name = name.into();
        self.running.started(&name);
        let handle = self.tasks.spawn(task);
        self.names.insert(handle.id(), name);
    }

    /// Waits until all have ended.
    ///
    /// # Errors
    /// The first failure or panic, with the name of the task. Later ones are logged.
    pub async fn join(mut self) -> anyhow::Result<()> {
        let mut first = Ok(());
        while let Some(ended) = self.tasks.join_next_with_id().await {
            let Err(failure) = self.verdict(ended) else { continue };
            self.stop.cancel();
            if first.is_ok() {
                first = Err(failure);
            } else {
                tracing::error!("{failure:#}");
            }
        }
        first
    }

    fn verdict(&mut self, ended: Result<(Id, anyhow::Result<()>), JoinError>) -> anyhow::Result<()> {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, outcome),
            Err(error) => (error.id(), Err(anyhow!("{error}"))),
        };
        let name = self.names.remove(&id).unwrap_or_default();
        self.running.ended(&name);
        outcome.with_context(|| format!("stage {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn until_stopped(stop: CancellationToken) -> anyhow::Result<()> {
        stop.cancelled().await;
        Ok(())
    }

    #[tokio::test]
    async fn the_first_failure_stops_the_rest_and_is_named() {
        let context = Context::detached();
        let mut stages = Stages::new(&context);
        stages.spawn("patient", until_stopped(context.stop.clone()));
        stages.spawn("broken", async { anyhow::bail!("reason") });
        let said = format!("{:#}", stages.join().await.unwrap_err());
        assert_eq!(said, "stage broken: reason");
    }

    #[tokio::test]
    async fn a_panic_is_a_failure() {
        let context = Context::detached();
        let mut stages = Stages::new(&context);
        stages.spawn("patient", until_stopped(context.stop.clone()));
        stages.spawn("broken", async { panic!("for the test") });
        let said = format!("{:#}", stages.join().await.unwrap_err());
        assert!(said.starts_with("stage broken: ") && said.contains("panic"), "{said}");
    }

    #[tokio::test]
    async fn a_task_may_end_early() {
        let context = Context::detached();
        let mut stages = Stages::new(&context);
        stages.spawn("short", async { Ok(()) });
        stages.join().await.unwrap();
        assert!(!context.stop.is_cancelled());
    }
}
