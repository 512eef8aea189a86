//! Times as people read and type them: in the zone of this machine, with its name.

use crate::exit::{Failed, failed};
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _, Zoned};

/// A time in RFC 3339 as `2026-11-21 14:03:09 CET`.
pub(crate) fn local(time: &str) -> String {
    time.parse::<Timestamp>().map_or_else(|_| time.to_owned(), |time| shown(time, TimeZone::system()))
}

fn shown(time: Timestamp, zone: TimeZone) -> String {
    time.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// Unix seconds, the same way.
pub(crate) fn at(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| shown(time, TimeZone::system()))
}

/// A time as HTTP's `Date` has it (RFC 9110 section 5.6.7), in Unix seconds.
pub(crate) fn http_date(text: &str) -> Option<i64> {
    jiff::fmt::rfc2822::parse(text).ok().map(|time| time.timestamp().as_second())
}

/// A span: `45s`, `30m`, `12h`, `90d`, `2w`. Seconds.
pub(crate) fn span(text: &str) -> Result<i64, Failed> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[number.len()..] {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(86_400),
        "w" => Some(7 * 86_400),
        _ => None,
    };
    let whole = number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse::<i64>().ok()).flatten();
    let seconds = whole.filter(|number| *number > 0).zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    seconds.ok_or_else(|| failed(format!("{text:?} is no span of time: write e.g. 90d, 12h or 30m")))
}

/// A time as [`parse`] takes it, or a span before now.
pub(crate) fn since(text: &str) -> Result<i64, Failed> {
    span(text)
        .map(|span| lockstep_edge::clock::now().saturating_sub(span))
        .or_else(|_| parse(text))
        .map_err(|why| failed(format!("{}; or how long ago: 7d, 12h, 30m", why.0)))
}

/// What a person typed, in Unix seconds: RFC 3339, or without an offset in the
/// zone of this machine; a time of day alone is the last such moment.
pub(crate) fn parse(text: &str) -> Result<i64, Failed> {
    let now = Timestamp::from_second(lockstep_edge::clock::now()).unwrap_or_default();
    read(text.trim(), &now.to_zoned(TimeZone::system())).map(|time| time.timestamp().as_second()).ok_or_else(|| {
        failed(format!(
            "{text:?} is no time: type 14:03, '2026-11-21 14:03', or with an offset 2026-11-21T14:03:00+01:00"
        ))
    })
}

fn read(text: &str, now: &Zoned) -> Option<Zoned> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.to_zoned(now.time_zone().clone()));
    }
    if let Ok(time) = text.parse::<DateTime>() {
        return time.to_zoned(now.time_zone().clone()).ok();
    }
    // A bare 12 is rather a revision that was meant.
    let text = Some(text).filter(|text| text.contains(':'))?;
    let today = now.date().to_datetime(text.parse::<Time>().ok()?).to_zoned(now.time_zone().clone()).ok()?;
    if today > *now { today.checked_sub(1.day()).ok() } else { Some(today) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_positive_and_have_a_unit() {
        assert_eq!((span("90d").unwrap(), span("12h").unwrap(), span("45s").unwrap()), (7_776_000, 43_200, 45));
        for text in ["", "d", "0d", "-3d", "5", "1y", "1.5h", "99999999999999999d"] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_date_of_http_is_a_time() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("soon"), None);
    }

    #[test]
    fn times_are_read_as_people_type_them() {
        let zone = TimeZone::get("Europe/Paris").unwrap();
        let now: Zoned = "2026-11-21T14:03:30+01:00[Europe/Paris]".parse().unwrap();
        let read = |text: &str| read(text, &now).map(|time| time.timestamp().to_string());
        for (text, meant) in [
            ("2026-11-21T14:03:00Z", "2026-11-21T14:03:00Z"),
            ("2026-11-21 14:03+01:00", "2026-11-21T13:03:00Z"),
            ("2026-11-21 14:03", "2026-11-21T13:03:00Z"),
            ("2026-07-01 14:03:09", "2026-07-01T12:03:09Z"),
            ("14:03", "2026-11-21T13:03:00Z"),
            ("14:04", "2026-11-20T13:04:00Z"),
            ("2026-11-21", "2026-11-20T23:00:00Z"),
        ] {
            assert_eq!(read(text).as_deref(), Some(meant), "{text}");
        }
        for text in ["", "soon", "25:00", "2026-13-01 10:00", "12"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(shown("2026-11-21T13:03:09Z".parse().unwrap(), zone), "2026-11-21 14:03:09 CET");
    }
}
