//! What is looked at in Redis before any work starts.
//!
//! Nothing here is refused by a full server (`maxmemory`), so a daemon started to drain it can.

use redis::Value;

use super::{LinkError, RedisLink};

/// Why the server cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// The server throws keys away when it is full.
    #[error(
        "Redis has maxmemory-policy {0}: when full it deletes whole streams. Set it to noeviction, or REDIS_ALLOW_EVICTION=true to insist"
    )]
    Evicts(String),
    /// Redis failed.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Refuses a server whose `maxmemory-policy` is not `noeviction` (DECISIONS 29). A server that does not let us look
/// (managed ones often rename `CONFIG`) gives a warning.
///
/// # Errors
/// See [`StartupError`].
pub async fn check_eviction(link: &mut RedisLink, allowed: bool) -> Result<(), StartupError> {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg("maxmemory-policy");
    let policy = match link.retry::<Vec<String>>(&command).await {
        Ok(pair) => pair.into_iter().nth(1),
        Err(LinkError::Stopped) => return Err(LinkError::Stopped.into()),
        Err(LinkError::Redis(error)) => {
            tracing::warn!(%error, "cannot look at maxmemory-policy; make sure it is noeviction");
            return Ok(());
        }
    };
    match policy {
        Some(policy) if policy != "noeviction" && !allowed => Err(StartupError::Evicts(policy)),
        Some(policy) if policy != "noeviction" => {
            tracing::warn!("Redis has maxmemory-policy {policy}: when full it deletes whole streams");
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Makes sure that the consumer group exists, from the beginning of the stream. It is looked up first: a full server
/// refuses `XGROUP CREATE`, and the group of a stream to be drained is there already.
///
/// # Errors
/// `Stopped`, or an error that waiting does not cure.
pub async fn ensure_group(link: &mut RedisLink, stream: &str, group: &str) -> Result<(), LinkError> {
    loop {
        if has_group(link, stream, group).await? {
            return Ok(());
        }
        let mut command = redis::cmd("XGROUP");
        command.arg("CREATE").arg(stream).arg(group).arg("0").arg("MKSTREAM");
        match link.query::<Value>(&command).await {
            Ok(_) => {
                link.succeeded();
                tracing::info!(stream, group, "created the consumer group");
                return Ok(());
            }
            Err(LinkError::Redis(error)) if error.code() == Some("BUSYGROUP") => return Ok(()),
            Err(error) => link.wait_out(error).await?,
        }
    }
}

async fn has_group(link: &mut RedisLink, stream: &str, group: &str) -> Result<bool, LinkError> {
    let mut command = redis::cmd("XINFO");
    command.arg("GROUPS").arg(stream);
    match link.retry::<Vec<std::collections::HashMap<String, Value>>>(&command).await {
        Ok(groups) => Ok(groups.iter().any(|facts| names(facts.get("name"), group))),
        Err(LinkError::Redis(error)) if error.to_string().contains("no such key") => Ok(false),
        Err(error) => Err(error),
    }
}

fn names(value: Option<&Value>, group: &str) -> bool {
    match value {
        Some(Value::BulkString(bytes)) => bytes == group.as_bytes(),
        Some(Value::SimpleString(text)) => text == group,
        _ => false,
    }
}
