//! The wall clock in the form every timestamp of the database has.

use std::time::{SystemTime, UNIX_EPOCH};

use super::datetime::format_ms;

/// Now, as `YYYY-MM-DDTHH:mm:ss.sssZ`.
pub fn now_iso() -> String {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    format_ms(i64::try_from(millis).unwrap_or(i64::MAX))
}
