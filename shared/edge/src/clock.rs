//! The one source of time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now, in Unix seconds.
#[allow(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A time in Unix seconds as RFC 3339 has it, in UTC; the nearest that it can write.
pub fn rfc3339(seconds: i64) -> String {
    let bounds = jiff::Timestamp::MIN.as_second()..=jiff::Timestamp::MAX.as_second();
    let seconds = seconds.clamp(*bounds.start(), *bounds.end());
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

/// A time in Unix seconds as HTTP's `Date` has it (RFC 9110 section 5.6.7).
pub fn http_date(seconds: i64) -> String {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    httpdate::fmt_http_date(UNIX_EPOCH + since)
}

/// The Unix seconds of a time as RFC 3339 has it.
pub fn from_rfc3339(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}
