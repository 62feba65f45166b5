//! The limit of ingesting: a client that does nothing but pipeline XADD.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use rsky_testnet::servers::{RespClient, Value};

use super::rig::clock;

/// Commands in flight at a time.
const PIPELINE: usize = 500;
/// Entries of one XRANGE when payloads are read back.
const PAGE: &str = "2000";

/// All values of field `event` of a stream, in order.
pub(super) fn payloads(redis: &mut RespClient, stream: &str) -> Result<Vec<Vec<u8>>> {
    let mut payloads = Vec::new();
    let mut from = "-".to_owned();
    loop {
        let page = redis.command(&["XRANGE", stream, &from, "+", "COUNT", PAGE])?;
        let Some(last) = page.items().last() else { return Ok(payloads) };
        let id = last.items().first().and_then(Value::as_text).context("an entry without id")?;
        from = format!("({id}");
        for entry in page.items() {
            match entry.items() {
                [_, Value::Array(fields)] => match fields.as_slice() {
                    [_, Value::Data(payload)] => payloads.push(payload.clone()),
                    other => bail!("an entry with {} fields and values", other.len()),
                },
                _ => bail!("not an entry"),
            }
        }
    }
}

/// Adds the payloads to a stream over one connection.
///
/// # Errors
/// The connection fails or a command is refused.
pub(super) fn fill<P: AsRef<[u8]>>(
    redis: &mut RespClient,
    stream: &str,
    payloads: impl IntoIterator<Item = P>,
) -> Result<()> {
    let mut queued = 0;
    for payload in payloads {
        redis.queue(&[b"XADD", stream.as_bytes(), b"*", b"event", payload.as_ref()]);
        queued += 1;
        if queued == PIPELINE {
            flush(redis)?;
            queued = 0;
        }
    }
    flush(redis)
}

/// Adds the payloads to a stream in one transaction: who reads it sees none of them or all. Gives their number, and
/// Redis' clock right after (seconds since 1970). Redis holds them twice for a moment.
///
/// # Errors
/// The connection fails or a command is refused.
pub(super) fn fill_transaction<P: AsRef<[u8]>>(
    redis: &mut RespClient,
    stream: &str,
    payloads: impl IntoIterator<Item = P>,
) -> Result<(u64, f64)> {
    let mut count: u64 = 0;
    redis.command(&["MULTI"])?;
    fill(redis, stream, payloads.into_iter().inspect(|_| count += 1))?;
    redis.queue(&[b"EXEC"]);
    // In the same pipeline, so that reading the reply of EXEC does not count.
    redis.queue(&[b"TIME"]);
    match replies(redis)?.as_slice() {
        [Value::Array(added), time] => {
            if let Some(Value::Error(error)) = added.iter().find(|reply| matches!(reply, Value::Error(_))) {
                bail!("XADD: {error}");
            }
            Ok((count, clock(time)?))
        }
        other => bail!("EXEC and TIME gave {} replies", other.len()),
    }
}

fn flush(redis: &mut RespClient) -> Result<()> {
    replies(redis).map(drop)
}

fn replies(redis: &mut RespClient) -> Result<Vec<Value>> {
    let replies = redis.flush()?;
    match replies.iter().find(|reply| matches!(reply, Value::Error(_))) {
        Some(Value::Error(error)) => bail!("XADD: {error}"),
        _ => Ok(replies),
    }
}

/// Entries a second that such a client writes.
#[expect(clippy::cast_precision_loss, reason = "a count of payloads in memory is far below 2^53")]
pub(super) fn measure(redis: &mut RespClient, payloads: &[Vec<u8>]) -> Result<f64> {
    let started = Instant::now();
    fill(redis, "bench_limit", payloads)?;
    Ok(payloads.len() as f64 / started.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rsky_testnet::servers::Redis;

    #[test]
    fn what_is_filled_in_reads_back_in_order() {
        let server = Redis::start().unwrap();
        let mut redis = server.client().unwrap();
        let written: Vec<Vec<u8>> =
            (0..4_321).map(|number| format!("{{\"n\":{number}}}").into_bytes()).collect();
        fill(&mut redis, "s", &written).unwrap();
        assert_eq!(payloads(&mut redis, "s").unwrap(), written);
        assert!(measure(&mut redis, &written).unwrap() > 0.0);
        assert_eq!(redis.command(&["XLEN", "bench_limit"]).unwrap().as_int(), Some(4_321));

        redis.command(&["SET", "text", "x"]).unwrap();
        assert!(fill(&mut redis, "text", &written).is_err());
    }

    #[test]
    fn a_transaction_adds_all_at_once_and_tells_when() {
        let server = Redis::start().unwrap();
        let mut redis = server.client().unwrap();
        let mut other = server.client().unwrap();
        let now = |redis: &mut RespClient| clock(&redis.command(&["TIME"]).unwrap()).unwrap();
        let before = now(&mut other);
        let seen_within = (0..1_234).map(|number| {
            assert_eq!(other.command(&["XLEN", "s"]).unwrap().as_int(), Some(0));
            number.to_string()
        });
        let (count, began) = fill_transaction(&mut redis, "s", seen_within).unwrap();
        assert_eq!((count, redis.command(&["XLEN", "s"]).unwrap().as_int()), (1_234, Some(1_234)));
        assert!(before <= began && began <= now(&mut redis));

        redis.command(&["SET", "text", "x"]).unwrap();
        assert!(fill_transaction(&mut redis, "text", ["a"]).is_err());
    }
}
