//! What a YAML scalar without quotes means to js-yaml 3, with which the
//! original reads its platform file: YAML 1.2's core schema, with 1.1's
//! octal, base 60 and underscored numbers, and dates.

use crate::js::Js;
use jiff::civil::DateTime;
use jiff::{Span, Timestamp};

/// The value of a plain scalar.
pub(crate) fn value(text: &str) -> Js {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Js::Null,
        "true" | "True" | "TRUE" => Js::Bool(true),
        "false" | "False" | "FALSE" => Js::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Js::Number(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Js::Number(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => Js::Number(f64::NAN),
        _ => match whole(text).or_else(|| fraction(text)) {
            Some(number) => Js::Number(number),
            None => date(text).map_or_else(|| Js::Text(text.to_owned()), Js::Date),
        },
    }
}

fn signed(text: &str) -> (f64, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (-1.0, &text[1..]),
        Some(b'+') => (1.0, &text[1..]),
        _ => (1.0, text),
    }
}

fn whole(text: &str) -> Option<f64> {
    let (sign, rest) = signed(text);
    if rest == "0" {
        return Some(0.0);
    }
    let based = |digits: &str, base: u32| {
        let bare: String = digits.chars().filter(|c| *c != '_').collect();
        let fits = !bare.is_empty() && !digits.ends_with('_') && bare.chars().all(|c| c.is_digit(base));
        fits.then(|| bare.chars().fold(0.0, |sum, c| sum * f64::from(base) + f64::from(c.to_digit(base).unwrap_or(0))))
    };
    let number = if let Some(bits) = rest.strip_prefix("0b") {
        based(bits, 2)
    } else if let Some(hex) = rest.strip_prefix("0x") {
        based(hex, 16)
    } else if let Some(octal) = rest.strip_prefix('0') {
        based(octal, 8)
    } else {
        decimal(rest)
    };
    number.map(|number| sign * number)
}

/// Base 10, or base 60 with colons.
fn decimal(text: &str) -> Option<f64> {
    let (first, sixties) = text.split_once(':').map_or((text, None), |(first, rest)| (first, Some(rest)));
    let bare: String = first.chars().filter(|c| *c != '_').collect();
    if first.starts_with('_') || first.ends_with('_') || bare.is_empty() || !bare.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let mut number: f64 = bare.parse().ok()?;
    for part in sixties.into_iter().flat_map(|rest| rest.split(':')) {
        number = number * 60.0 + sixtieth(part)?;
    }
    Some(number)
}

fn sixtieth(part: &str) -> Option<f64> {
    let fits = (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    part.parse().ok().filter(|number: &f64| fits && *number < 60.0)
}

fn fraction(text: &str) -> Option<f64> {
    if text.ends_with('_') {
        return None;
    }
    let (sign, rest) = signed(text);
    let digit = |c: char| c.is_ascii_digit() || c == '_';
    // 20:59.5
    if let Some((sixties, tail)) = rest.split_once('.')
        && sixties.contains(':')
    {
        let number = sixties.starts_with(|c: char| c.is_ascii_digit()).then(|| decimal(sixties))??;
        let tail: String = tail.chars().all(digit).then(|| tail.chars().filter(|c| *c != '_').collect())?;
        let mut last: f64 = 0.0;
        if !tail.is_empty() {
            last = format!("0.{tail}").parse().ok()?;
        }
        return Some(sign * (number + last));
    }
    let (mantissa, exponent) = rest.find(['e', 'E']).map_or((rest, ""), |at| rest.split_at(at));
    if !exponent.is_empty() {
        let digits = exponent[1..].strip_prefix(['-', '+']).unwrap_or(&exponent[1..]);
        if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_digit()) {
            return None;
        }
    }
    let (front, back) = mantissa.split_once('.').map_or((mantissa, None), |(front, back)| (front, Some(back)));
    let fits = match (front, back) {
        ("", Some(back)) => rest.len() == text.len() && !back.is_empty() && back.chars().all(digit),
        ("0", back) => back.is_none_or(|back| back.chars().all(digit)),
        (front, back) => {
            front.starts_with(|c: char| ('1'..='9').contains(&c))
                && front.chars().all(digit)
                && back.is_none_or(|back| back.chars().all(digit))
        }
    };
    let bare: String = rest.chars().filter(|c| *c != '_').collect();
    fits.then(|| bare.parse().ok().map(|number: f64| sign * number)).flatten()
}

/// `2001-12-14` or `2001-12-14t21:59:43.10-05:00`, as `toISOString` prints it.
fn date(text: &str) -> Option<String> {
    let digits = |part: &str, least: usize, most: usize| {
        let fits = (least..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<i64>().ok().filter(|_| fits)
    };
    let end = text.find(['T', 't', ' ', '\t']).unwrap_or(text.len());
    let mut parts = text[..end].split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let bare = end == text.len();
    let least = if bare { 2 } else { 1 };
    let (year, month, day) = (digits(year, 4, 4)?, digits(month, least, 2)?, digits(day, least, 2)?);
    let mut span = Span::new().months(month - 1).days(day - 1);
    if !bare {
        let rest = &text[end..];
        let time = rest.strip_prefix(['T', 't']).unwrap_or_else(|| rest.trim_start_matches([' ', '\t']));
        let zone = time.find(['Z', '+', '-', ' ', '\t']).unwrap_or(time.len());
        let (clock, zone) = (&time[..zone], time[zone..].trim_start_matches([' ', '\t']));
        let mut parts = clock.split(':');
        let (hour, minute, second) = (digits(parts.next()?, 1, 2)?, digits(parts.next()?, 2, 2)?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let (second, part) = second.split_once('.').unwrap_or((second, ""));
        let milli = digits(&format!("{:0<3}", &part[..part.len().min(3)]), 3, 3)?;
        digits(&format!("0{part}"), 1, 40)?;
        span = span.hours(hour).minutes(minute).seconds(digits(second, 2, 2)?).milliseconds(milli);
        if let Some(away) = zone.strip_prefix(['+', '-']) {
            let (hours, minutes) = away.split_once(':').unwrap_or((away, "00"));
            let minutes = digits(hours, 1, 2)? * 60 + digits(minutes, 2, 2)?;
            let back = if zone.starts_with('-') { minutes } else { -minutes };
            span = span.minutes(minute + back);
        } else if !matches!(zone, "" | "Z") {
            return None;
        }
    }
    let start: DateTime = jiff::civil::date(i16::try_from(year).ok()?, 1, 1).at(0, 0, 0, 0);
    let at: Timestamp = start.checked_add(span).ok()?.in_tz("UTC").ok()?.timestamp();
    Some(format!("{at:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_mean_what_js_yaml_says() {
        for (text, json) in [
            ("1.50", "1.5"),
            ("010", "8"),
            ("08", "\"08\""),
            ("0x1F", "31"),
            ("0b101", "5"),
            ("1_000", "1000"),
            ("1:30", "90"),
            ("190:20:30", "685230"),
            ("1:99", "\"1:99\""),
            ("1:30.5", "90.5"),
            ("9007199254740993", "9007199254740992"),
            ("1e21", "1e+21"),
            ("1e3", "1000"),
            (".5", "0.5"),
            ("-.5", "\"-.5\""),
            ("+1", "1"),
            ("1.", "1"),
            ("1.9.0", "\"1.9.0\""),
            ("192.0.2.1", "\"192.0.2.1\""),
            ("yes", "\"yes\""),
            ("Null", "null"),
            (".inf", "null"),
            ("-", "\"-\""),
            ("2001-12-14", "\"2001-12-14T00:00:00.000Z\""),
            ("2001-02-31", "\"2001-03-03T00:00:00.000Z\""),
            ("2001-12-14t21:59:43.10-05:00", "\"2001-12-15T02:59:43.100Z\""),
            ("2001-12-14 21:59:43 Z", "\"2001-12-14T21:59:43.000Z\""),
            ("2001-1-1", "\"2001-1-1\""),
        ] {
            assert_eq!(value(text).json(), json, "{text}");
        }
    }
}
