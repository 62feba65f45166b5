//! The wall clock in the form every timestamp of the database has.

use std::time::{SystemTime, UNIX_EPOCH};

use super::datetime::format_ms;

/// Now, in milliseconds since the epoch.
pub fn now_ms() -> u64 {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    u64::try_from(millis).unwrap_or(u64::MAX)
}

/// Now, as `YYYY-MM-DDTHH:mm:ss.sssZ`.
pub fn now_iso() -> String {
    format_ms(i64::try_from(now_ms()).unwrap_or(i64::MAX))
}
