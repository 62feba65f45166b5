//! `docker-compose --profile offline up`: the pipeline at work on a simulated network, as somebody sees it who tries it out.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::stack::{DAEMONS, Made, Stack, WITHOUT_GRAFANA};
use super::{Outcome, wait};
use crate::admin;

/// Time for the network's past to be fetched and indexed, which takes seconds.
const FETCHED: Duration = Duration::from_secs(300);
/// What a past and a present of the network leave rows in: what only repositories have, what events tell, labels, handles.
const ROWS: [&str; 6] = ["post", "\"like\"", "follow", "profile", "label", "actor WHERE handle IS NOT NULL"];

/// Up as `deploy/offline.env` has it; rows come of the past and of what happens; the pages say that all is well.
pub(super) fn offline(binaries: &Path) -> Result<Outcome> {
    let made = Made { settings: "deploy/offline.env", more: &[], profile: "offline" };
    Stack::lived(binaries, &made, live_through)
}

fn live_through(stack: &Stack<'_>) -> Result<Vec<String>> {
    let up = ["up", "--detach", "--no-build"];
    stack.compose(up.into_iter().chain(WITHOUT_GRAFANA).chain(["network"]))?;
    let all = stack.all_healthy(7)?;
    let mut saw =
        vec![format!("{all} containers running and healthy, none restarted, the network among them")];

    wait("every repository is fetched and indexed", FETCHED, || {
        let left = ["repo_backfill", "firehose_backfill"].map(|stream| entries(stack, stream));
        let [left, records] = left;
        let accounts: u64 = stack.sql("SELECT count(*) FROM actor_sync")?.parse()?;
        Ok((left? == 0 && records? == 0 && accounts > 100).then_some(()))
    })?;
    let mut counts = Vec::new();
    for rows in ROWS {
        let table = rows.split(' ').next().unwrap_or(rows);
        let count = wait("rows of every kind", FETCHED, || {
            let count: u64 = stack.sql(&format!("SELECT count(*) FROM {rows}"))?.parse()?;
            Ok((count > 0).then_some(count))
        });
        counts.push(format!("{} {table}", count.with_context(|| rows.to_owned())?));
    }
    saw.push(format!("its past is fetched and indexed: {}", counts.join(", ")));

    let likes = "SELECT count(*) FROM \"like\"";
    let before: u64 = stack.sql(likes)?.parse()?;
    wait("more comes as it happens", FETCHED, || {
        Ok((stack.sql(likes)?.parse::<u64>()? > before).then_some(()))
    })?;
    saw.push("what happens there becomes rows".to_owned());

    for (daemon, port) in DAEMONS.iter().zip(stack.ports) {
        let page = wait("the page says that all is well", FETCHED, || {
            let status: serde_json::Value = serde_json::from_str(&admin::get(port, "/status")?)?;
            let level = status.pointer("/verdict/level").and_then(|level| level.as_str());
            Ok(matches!(level, Some("fine" | "info")).then(|| status.get("verdict").cloned()).flatten())
        });
        let verdict = page.with_context(|| format!("{daemon}: {:?}", admin::get(port, "/status")))?;
        ensure!(verdict.is_object(), "{daemon}: {verdict}");
        saw.push(format!("{daemon}: {verdict}"));
    }
    stack.compose(["stop", "--timeout", "60"])?;
    for (name, state) in stack.states()? {
        ensure!(state.starts_with("exited 0 "), "{name} after the stop: {state}");
    }
    saw.push("all stopped with exit code 0".to_owned());
    Ok(saw)
}

/// Entries of a stream.
fn entries(stack: &Stack<'_>, stream: &str) -> Result<u64> {
    Ok(stack.inside("redis", &["redis-cli", "XLEN", stream])?.trim().parse()?)
}
