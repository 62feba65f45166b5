//! How the stages are joined. The stages that fetch are still to come; what is here starts, shows itself and stops.

use rsky_common::admin::{self, Admin, Health, Status};
use rsky_common::redis::startup::{StartupError, check_eviction, ensure_group};
use rsky_common::redis::{LinkError, RedisServer, overview};
use rsky_common::runtime::daemon::Context;
use rsky_common::runtime::stages::Stages;

use crate::config::Config;

/// The daemon's name, in logs and on the pages.
pub(crate) const NAME: &str = "backfiller";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs the backfiller until told to stop.
///
/// # Errors
/// Something that waiting does not cure: a port in use, a refused password, a Redis that evicts.
pub(crate) async fn run(config: Config, context: Context) -> anyhow::Result<()> {
    let server = RedisServer::new(&config.common.redis_url)?;
    let (health, status) = (Health::new(), Status::new());
    let registry = admin::registry(NAME, VERSION);
    let listener = Admin::bind(config.common.admin).await?;
    let mut stages = Stages::new(&context);
    let pages = Admin { name: NAME, version: VERSION, registry, health: health.clone(), status: status.clone() };
    stages.spawn("admin pages", pages.serve(listener, context.stop.clone()));

    let mut link = server.link("start-up", health.part("redis"), &context.stop);
    let priority = format!("{}_priority", config.backfill_stream);
    let ready = async {
        check_eviction(&mut link, config.common.redis_allow_eviction).await?;
        for stream in [&priority, &config.backfill_stream] {
            ensure_group(&mut link, stream, &config.group).await?;
        }
        Ok::<_, StartupError>(())
    };
    match ready.await {
        Ok(()) => {}
        Err(StartupError::Link(LinkError::Stopped)) => return stages.join().await,
        Err(error) => return Err(error.into()),
    }
    tracing::warn!(
        consumer = config.consumer,
        "fetching repositories is not built yet: {} is left as it is",
        config.backfill_stream
    );
    let streams = vec![priority, config.backfill_stream, config.firehose_stream];
    let link = server.link("status pages", health.part("redis status"), &context.stop);
    stages.spawn("status pages", async move { Ok(overview::watch(link, streams, status).await?) });
    stages.join().await
}
