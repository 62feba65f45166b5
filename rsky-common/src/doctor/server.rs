//! The Redis server: reachable, of a version that will do, keeping what it is given, with room.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cmd;

use super::reply::info;
use super::{Doctor, Finding, authority, host};
use crate::config::Secret;
use crate::redis::RedisServer;
use crate::redis::errors::explain;

/// Time for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Parts of its memory above which a server is said to be nearly full, and full, in percent.
const NEARLY: u64 = 85;
const FULL: u64 = 98;
/// The oldest version whose commands are used: XAUTOCLAIM, and ranges that leave their beginning out.
const LEAST: (u32, u32) = (6, 2);

/// Looks at the server, and gives a connection for further checks.
pub async fn look(doctor: &mut Doctor, url: &Secret, allow_eviction: bool) -> Option<MultiplexedConnection> {
    if let Some((name, port)) = authority(url, 6379) {
        doctor.note(&host::name("redis", &name, port).await);
    }
    let server = match RedisServer::new(url) {
        Ok(server) => server,
        Err(error) => {
            doctor.note(&Finding::broken("redis", error.to_string(), "correct REDIS_URL"));
            return None;
        }
    };
    let mut redis = match server.connect(PATIENCE).await {
        Ok(redis) => redis,
        Err(error) => {
            let says = format!("no connection to {}: {}", server.shown(), explain(&error));
            doctor.note(&Finding::broken("redis", says, "start it, or correct REDIS_URL"));
            return None;
        }
    };
    match cmd("INFO").query_async::<String>(&mut redis).await {
        Ok(text) => {
            facts(&text, server.shown(), allow_eviction).iter().for_each(|finding| doctor.note(finding))
        }
        Err(error) => doctor.note(&Finding::look(
            "redis",
            format!("{} may not be looked at: {}", server.shown(), explain(&error)),
            "give the user +info, or see to version, maxmemory-policy and persistence yourself",
        )),
    }
    match cmd("TIME").query_async::<(u64, u64)>(&mut redis).await {
        Ok((seconds, _)) => doctor.note(&host::clock("Redis", host::moment(seconds))),
        Err(error) => doctor.note(&Finding::look(
            "clock",
            format!("Redis does not tell its time: {}", explain(&error)),
            "give the user +time",
        )),
    }
    Some(redis)
}

/// What `INFO` says.
fn facts(text: &str, shown: &str, allow_eviction: bool) -> Vec<Finding> {
    let number = |name: &str| info(text, name).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
    let is = |name: &str, value: &str| info(text, name) == Some(value);
    let mut findings = vec![version(text, shown)];
    if is("redis_mode", "cluster") {
        findings.push(Finding::broken(
            "redis",
            "it is a node of a Redis Cluster, where a transaction over several keys is refused",
            "use a single server, or Sentinel",
        ));
    }
    if is("role", "slave") {
        findings.push(Finding::broken(
            "redis",
            "it is a replica: nothing can be written",
            "point REDIS_URL at the master",
        ));
    }
    if is("loading", "1") {
        findings.push(Finding::look(
            "redis",
            "it is loading its data and answers nothing else",
            "wait for it",
        ));
    }
    findings.push(eviction(info(text, "maxmemory_policy"), allow_eviction));
    findings.push(room(number("used_memory"), number("maxmemory")));
    findings.push(persistence(text));
    findings
}

fn version(text: &str, shown: &str) -> Finding {
    let is_valkey = info(text, "server_name") == Some("valkey");
    let (name, version) = match info(text, "valkey_version").filter(|_| is_valkey) {
        Some(version) => ("Valkey", version),
        None => ("Redis", info(text, "redis_version").unwrap_or_default()),
    };
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let says = format!("{name} {version} at {shown}");
    if found >= LEAST {
        Finding::fine("redis", says)
    } else {
        Finding::broken("redis", format!("{says}: commands are missing"), "use Redis 6.2 or newer, or Valkey")
    }
}

fn eviction(policy: Option<&str>, allowed: bool) -> Finding {
    match policy {
        Some("noeviction") => Finding::fine("eviction", "maxmemory-policy is noeviction"),
        None => Finding::look(
            "eviction",
            "the server does not tell its maxmemory-policy",
            "make sure that it is noeviction",
        ),
        Some(policy) => {
            let says = format!("maxmemory-policy is {policy}: a full server deletes whole streams");
            let todo = "CONFIG SET maxmemory-policy noeviction, and in redis.conf";
            if allowed {
                Finding::look("eviction", says, todo)
            } else {
                Finding::broken("eviction", says, todo)
            }
        }
    }
}

fn room(used: u64, most: u64) -> Finding {
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    if most == 0 {
        return Finding::look(
            "room",
            format!("{} used, without a limit: a full machine ends Redis, not the writers", mib(used)),
            "set maxmemory to about three quarters of the machine's memory",
        );
    }
    let percent = used.saturating_mul(100).checked_div(most).unwrap_or(0);
    let says = format!("{} of {} used ({percent} %)", mib(used), mib(most));
    match percent {
        FULL.. => Finding::broken(
            "room",
            format!("{says}: full, writers wait"),
            "see that indexers and backfillers run, they make room; or raise maxmemory",
        ),
        NEARLY.. => {
            Finding::look("room", says, "see whether the streams shrink; lower the marks, or raise maxmemory")
        }
        _ => Finding::fine("room", says),
    }
}

fn persistence(text: &str) -> Finding {
    let is = |name: &str, value: &str| info(text, name) == Some(value);
    let failed = ["aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status"]
        .into_iter()
        .find(|name| info(text, name) == Some("err"));
    if let Some(name) = failed {
        return Finding::broken(
            "persistence",
            format!("Redis could not write its file ({name}: err), and may refuse writes"),
            "see its log: most often the disk is full",
        );
    }
    if is("aof_enabled", "1") {
        return Finding::fine("persistence", "appendonly yes");
    }
    let at = info(text, "rdb_last_save_time").unwrap_or_default();
    Finding::look(
        "persistence",
        format!(
            "appendonly no: after a restart of Redis, what came since its last snapshot ({at}) is gone. Live events are read \
             again by their cursor, backfilled records are not"
        ),
        "CONFIG SET appendonly yes, and in redis.conf",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    fn levels(text: &str) -> Vec<(String, Level)> {
        facts(text, "redis://r", false).into_iter().map(|finding| (finding.about, finding.level)).collect()
    }

    #[test]
    fn info_is_judged() {
        let good = "redis_version:7.0.15\r\nredis_mode:standalone\r\nrole:master\r\nused_memory:10\r\nmaxmemory:100\r\n\
                    maxmemory_policy:noeviction\r\naof_enabled:1\r\nrdb_last_bgsave_status:ok\r\n";
        assert!(levels(good).iter().all(|(_, level)| *level == Level::Fine), "{:?}", levels(good));
        for (from, to, about, level) in [
            ("7.0.15", "6.0.16", "redis", Level::Broken),
            ("standalone", "cluster", "redis", Level::Broken),
            ("role:master", "role:slave", "redis", Level::Broken),
            ("noeviction", "allkeys-lru", "eviction", Level::Broken),
            ("used_memory:10\r", "used_memory:90\r", "room", Level::Look),
            ("used_memory:10\r", "used_memory:100\r", "room", Level::Broken),
            ("maxmemory:100", "maxmemory:0", "room", Level::Look),
            ("aof_enabled:1", "aof_enabled:0", "persistence", Level::Look),
            ("status:ok", "status:err", "persistence", Level::Broken),
        ] {
            let found = levels(&good.replace(from, to));
            assert!(found.contains(&(about.to_owned(), level)), "{to}: {found:?}");
        }
        let valkey = good.replace(
            "redis_version:7.0.15",
            "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1",
        );
        assert!(facts(&valkey, "x", false)[0].says.starts_with("Valkey 8.0.1"));
    }
}
