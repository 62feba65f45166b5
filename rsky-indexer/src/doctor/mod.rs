//! `indexer doctor`: what the indexer stands on. What is common to the daemons is in `rsky_common::doctor`.

mod postgres;

use std::process::ExitCode;

use rsky_common::config::Environment;
use rsky_common::doctor::groups::Watched;
use rsky_common::doctor::{self, Doctor, Finding, host, server};
use rsky_common::net;

use crate::config::{Config, Mode};
use crate::index_repo::fetch::USER_AGENT;
use crate::pipeline::NAME;

/// Runs the checks.
pub fn run(environment: Environment) -> ExitCode {
    doctor::run(NAME, Config::read(environment), |config, doctor| Box::pin(look(config, doctor)))
}

async fn look(config: Config, mut doctor: Doctor) -> Doctor {
    let https = net::build(config.outbound.client().user_agent(USER_AGENT));
    if let Some(client) = doctor.begin(&config.notices, config.memory_plan.as_ref(), https) {
        accounts(&config, &client, &mut doctor).await;
    }
    let redis = server::look(&mut doctor, &config.common.redis_url, config.common.redis_allow_eviction).await;
    if let Some(mut redis) = redis {
        let events = config.streams.iter().filter(|_| config.mode != Mode::Label);
        let events = events.map(|stream| (stream.as_str(), config.group.as_str()));
        let labels = (config.mode != Mode::Stream)
            .then_some((config.label_stream.as_str(), config.label_group.as_str()));
        for (stream, group) in events.chain(labels) {
            let watched = Watched {
                stream,
                group,
                reader: NAME,
                mark: None,
                claim_idle: config.claim_idle,
                letters: "indexer dead-letters list",
            };
            doctor.check(stream, watched.look(&mut redis)).await;
        }
    }
    postgres::look(&config, &mut doctor).await;
    doctor
}

/// Who is asked about accounts.
async fn accounts(config: &Config, client: &reqwest::Client, doctor: &mut Doctor) {
    if config.mode == Mode::Label || config.handle_concurrency == 0 {
        doctor.note(&Finding::fine(
            "accounts",
            "handles are not resolved (INDEXER_HANDLE_CONCURRENCY=0, or labels only)",
        ));
        return;
    }
    if let Some(plc) = &config.plc {
        doctor.check("plc", host::answers("plc", client, plc.clone())).await;
    }
    if let Some(resolver) = &config.handle_resolver {
        doctor.check("handles", host::answers("handles", client, resolver.clone())).await;
    }
}
