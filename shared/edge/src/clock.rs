//! The one source of time.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in Unix seconds.
#[allow(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
