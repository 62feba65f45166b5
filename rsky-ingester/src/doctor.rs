//! `ingester doctor`: what the ingester stands on. What is common to the daemons is in `rsky_common::doctor`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use redis::aio::MultiplexedConnection;
use rsky_common::admin::shown;
use rsky_common::atproto::{CollectionFilter, FrameKind};
use rsky_common::config::Environment;
use rsky_common::doctor::groups::Watched;
use rsky_common::doctor::{self, Doctor, Finding, host, server};
use rsky_common::redis::errors::explain;
use rsky_common::runtime::CancellationToken;
use rsky_common::wire::names::{FIREHOSE_GROUP, LABEL_GROUP, LISTING_DONE, REPO_BACKFILL_GROUP};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use url::Url;

use crate::NAME;
use crate::config::{Config, Mode, Stream};
use crate::host::Host;
use crate::http;
use crate::source::{Kind, Source};
use crate::subscription::socket::open;

/// Time for a host to send something after the stored cursor.
const FIRST_FRAME: Duration = Duration::from_secs(5);
/// Age by which readers of our streams take entries over, by default.
const CLAIM_IDLE: Duration = Duration::from_secs(300);
/// Most characters of what a host says.
const SAID: usize = 200;

/// Runs the checks.
pub fn run(environment: Environment) -> ExitCode {
    doctor::run(NAME, Config::read(environment), |config, doctor| Box::pin(look(config, doctor)))
}

async fn look(config: Config, mut doctor: Doctor) -> Doctor {
    if let Some(client) = doctor.begin(config.notices(), config.memory_plan.as_ref(), http::client()) {
        hosts(&config, &client, &mut doctor).await;
    }
    let redis = server::look(&mut doctor, &config.common.redis_url, config.common.redis_allow_eviction).await;
    if let Some(mut redis) = redis {
        streams(&config, &mut redis, &mut doctor).await;
        cursors(&config, &mut redis, &mut doctor).await;
    }
    doctor
}

/// Whether relays and labelers answer.
async fn hosts(config: &Config, client: &reqwest::Client, doctor: &mut Doctor) {
    let relays = config.relays.iter().filter(|_| config.mode != Mode::Labeler).map(|host| ("relay", host));
    let labelers =
        config.labelers.iter().filter(|_| config.reads(Mode::Labeler)).map(|host| ("labeler", host));
    for (about, host) in relays.chain(labelers) {
        match Url::parse(&format!("{}/xrpc/_health", host.http_url())) {
            Ok(url) => doctor.check(about, host::answers(about, client, url)).await,
            Err(error) => {
                doctor.note(&Finding::broken(about, format!("{}: {error}", host.configured()), "correct it"))
            }
        }
    }
}

/// What is written, and whether somebody reads it.
async fn streams(config: &Config, redis: &mut MultiplexedConnection, doctor: &mut Doctor) {
    const EVENTS: &str = "indexer dead-letters list";
    const REPOSITORIES: &str = "backfiller dead-letters list";
    let written: [(bool, &Stream, &str, &str, &str); 4] = [
        (config.reads(Mode::Firehose), &config.firehose, FIREHOSE_GROUP, "indexer", EVENTS),
        (
            config.reads(Mode::Labeler) && !config.labelers.is_empty(),
            &config.labels,
            LABEL_GROUP,
            "indexer",
            EVENTS,
        ),
        (config.reads(Mode::Backfill), &config.repos, REPO_BACKFILL_GROUP, "backfiller", REPOSITORIES),
        (
            config.resync && config.reads(Mode::Firehose),
            &config.priority,
            REPO_BACKFILL_GROUP,
            "backfiller",
            REPOSITORIES,
        ),
    ];
    for (is_written, stream, group, reader, letters) in written {
        if is_written {
            let watched = Watched {
                stream: &stream.name,
                group,
                reader,
                mark: Some(stream.mark),
                claim_idle: CLAIM_IDLE,
                letters,
            };
            doctor.check(&stream.name, watched.look(redis)).await;
        }
    }
}

/// Where reading goes on, beside what the hosts still have.
async fn cursors(config: &Config, redis: &mut MultiplexedConnection, doctor: &mut Doctor) {
    let of = |mode: Mode, kind: Kind, hosts: &[Host], stream: &Stream| {
        let hosts = hosts.iter().filter(|_| config.reads(mode)).enumerate();
        hosts.map(|(at, host)| Source::new(kind, host.clone(), &stream.name, at)).collect::<Vec<_>>()
    };
    let sources = [
        of(Mode::Firehose, Kind::Firehose, &config.relays, &config.firehose),
        of(Mode::Labeler, Kind::Labels, &config.labelers, &config.labels),
        of(Mode::Backfill, Kind::Listing, &config.relays, &config.repos),
    ];
    for source in sources.iter().flatten() {
        doctor.check("cursor", cursor(source, config.socket.max_frame, redis)).await;
    }
}

async fn cursor(source: &Arc<Source>, max_frame: usize, redis: &mut MultiplexedConnection) -> Vec<Finding> {
    let name = source.name();
    let stored = match source.cursor_keys().stored(redis).await {
        Ok(stored) => stored,
        Err(error) => {
            let says = format!("{name}: it cannot be read: {}", explain(&error));
            return vec![Finding::look("cursor", says, "give the user +mget on it")];
        }
    };
    let (key, value) = match (source.kind, stored) {
        (Kind::Listing, None) => {
            return vec![Finding::fine(
                "cursor",
                format!("{name}: none, so the listing starts from its beginning"),
            )];
        }
        (Kind::Listing, Some((_, value))) if value == LISTING_DONE => {
            return vec![Finding::fine(
                "cursor",
                format!("{name}: the listing has ended (INGESTER_RELIST_INTERVAL lists again)"),
            )];
        }
        (Kind::Listing, Some((_, value))) => {
            return vec![Finding::fine(
                "cursor",
                format!("{name}: the listing goes on at {}", shown(&value, SAID)),
            )];
        }
        (_, None) => {
            let starts = if source.kind == Kind::Labels { "from the beginning" } else { "live" };
            return vec![Finding::fine("cursor", format!("{name}: none, so reading starts {starts}"))];
        }
        (_, Some(stored)) => stored,
    };
    let Ok(number) = value.parse::<i64>() else {
        return vec![Finding::broken(
            "cursor",
            format!("{name}: {key} is {}, which is no number", shown(&value, SAID)),
            format!("redis-cli SET {key} <number>, or DEL it to start live"),
        )];
    };
    vec![window(source, number, max_frame).await]
}

/// What the host sends after the cursor: one frame of a subscription of our own.
async fn window(source: &Source, number: i64, max_frame: usize) -> Finding {
    let name = source.name();
    let stop = CancellationToken::new();
    let opened = open(&source.subscription_url(Some(number)), max_frame, &stop).await;
    let mut socket = match opened {
        Some(Ok(socket)) => socket,
        Some(Err(error)) => {
            return Finding::broken(
                "cursor",
                format!("{name}: {number}; no subscription: {}", shown(&error, SAID)),
                "see whether the host is up and offers subscriptions",
            );
        }
        None => return Finding::look("cursor", format!("{name}: stopped"), "try again"),
    };
    let first = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Binary(frame))) => return Some(frame),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    };
    match timeout(FIRST_FRAME, first).await {
        Err(_) => {
            Finding::fine("cursor", format!("{name}: {number}, and the host has nothing newer just now"))
        }
        Ok(None) => Finding::look(
            "cursor",
            format!("{name}: {number}; the host closed the subscription without a word"),
            "try again; if it stays so, ask the host",
        ),
        Ok(Some(frame)) => judge(source, number, &frame),
    }
}

fn judge(source: &Source, number: i64, frame: &[u8]) -> Finding {
    let name = source.name();
    let converted = source.convert(frame, &CollectionFilter::all());
    match converted.kind {
        FrameKind::Error { error, message } if error == "FutureCursor" => Finding::broken(
            "cursor",
            format!(
                "{name}: {number} is ahead of what the host has ({}): it has begun anew, or the cursor is another host's",
                shown(&message.unwrap_or_default(), SAID)
            ),
            format!(
                "if it has begun anew the ingester follows by itself; otherwise redis-cli DEL {}",
                source.cursor_key()
            ),
        ),
        FrameKind::Error { error, message } => Finding::look(
            "cursor",
            format!("{name}: {number}; the host says {error} {}", shown(&message.unwrap_or_default(), SAID)),
            "see what it means",
        ),
        FrameKind::Info { name: info, message } if info == "OutdatedCursor" => Finding::broken(
            "cursor",
            format!(
                "{name}: the host does not have what comes after {number} any more ({}): events are lost",
                shown(&message.unwrap_or_default(), SAID)
            ),
            "let the repositories be fetched: redis-cli DEL the cursor of the listing, and run backfillers",
        ),
        _ => match converted.seq {
            Some(seq) => Finding::fine("cursor", format!("{name}: {number}, and the host goes on at {seq}")),
            None => Finding::fine("cursor", format!("{name}: {number}, and the host goes on")),
        },
    }
}
