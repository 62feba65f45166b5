//! `backfiller doctor`: what the backfiller stands on. What is common to the daemons is in `rsky_common::doctor`.

use std::process::ExitCode;

use rsky_common::config::Environment;
use rsky_common::doctor::groups::Watched;
use rsky_common::doctor::{self, Doctor, Finding, authority, host, server};
use rsky_common::net;
use rsky_common::postgres::PostgresServer;
use rsky_common::wire::names::FIREHOSE_GROUP;

use crate::NAME;
use crate::config::Config;
use crate::reconcile::Reconciler;

/// Runs the checks.
pub fn run(environment: Environment) -> ExitCode {
    doctor::run(NAME, Config::read(environment), |config, doctor| Box::pin(look(config, doctor)))
}

async fn look(config: Config, mut doctor: Doctor) -> Doctor {
    let https = net::build(config.outbound.client());
    let client = doctor.begin(&config.notices, config.memory.as_ref(), https);
    doctor.note(&directory(&config));
    if let (Some(client), Some(plc)) = (&client, &config.plc) {
        doctor.check("plc", host::answers("plc", client, plc.clone())).await;
    }
    let redis = server::look(&mut doctor, &config.common.redis_url, config.common.redis_allow_eviction).await;
    if let Some(mut redis) = redis {
        let queue = |stream| Watched {
            stream,
            group: &config.group,
            reader: NAME,
            mark: None,
            claim_idle: config.claim_idle,
            letters: "backfiller dead-letters list",
        };
        let [priority, others] = &config.streams;
        let output = Watched {
            stream: &config.output,
            group: FIREHOSE_GROUP,
            reader: "indexer",
            mark: Some(config.mark),
            claim_idle: config.claim_idle,
            letters: "indexer dead-letters list",
        };
        for watched in [queue(priority), queue(others), output] {
            doctor.check(watched.stream, watched.look(&mut redis)).await;
        }
    }
    database(&config, &mut doctor).await;
    doctor
}

/// Whether large repositories can be put aside.
fn directory(config: &Config) -> Finding {
    let shown = config.temp_dir.display();
    let todo = "make it, let this user write to it, or set BACKFILLER_TEMP_DIR";
    match std::fs::metadata(&config.temp_dir) {
        Ok(found) if !found.is_dir() => Finding::broken("files", format!("{shown} is no directory"), todo),
        Ok(found) if found.permissions().readonly() => {
            Finding::broken("files", format!("nothing may be written to {shown}"), todo)
        }
        Ok(_) => Finding::fine(
            "files",
            format!("large repositories go to {shown}, {} MiB at most", config.disk >> 20),
        ),
        Err(error) => Finding::broken("files", format!("{shown}: {error}"), todo),
    }
}

/// The AppView's database, if accounts are compared with it.
async fn database(config: &Config, doctor: &mut Doctor) {
    let Some(settings) = &config.database else {
        return doctor.note(&Finding::look(
            "postgres",
            "DATABASE_URL is not set: what was deleted while commits were lost stays in the tables",
            "set it, if records are to be deleted that repositories no longer have",
        ));
    };
    if let Some((name, port)) = authority(&settings.url, 5432) {
        doctor.note(&host::name("postgres", &name, port).await);
    }
    let reconciler = match PostgresServer::new(settings, "rsky-backfiller") {
        Ok(server) => Reconciler::new(server),
        Err(error) => {
            return doctor.note(&Finding::broken("postgres", format!("{error:#}"), "correct DATABASE_URL"));
        }
    };
    let url = &settings.url;
    let look = async {
        vec![match reconciler.check().await {
            Ok(()) => Finding::fine("postgres", format!("records can be read at {url}")),
            Err(error) => {
                Finding::broken("postgres", format!("{url}: {error:#}"), "start it, or correct DATABASE_URL")
            }
        }]
    };
    doctor.check("postgres", look).await;
}
