//! When certificates end: those that renew by themselves, and those that a
//! person has to see to.

use super::{Finding, Level, fine, found};
use crate::moment;
use lockstep_edge::tls::Certificate;
use std::path::Path;

const DAY: i64 = 86_400;

/// What a person has to see to is told so many days before.
const EARLY: i64 = 30;

/// A certificate.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// For people: `the platform's authority`, `this follower's own certificate`, ...
    pub(super) whose: String,
    /// Its last second, Unix.
    pub(super) ends: i64,
    /// Whether it is renewed without a person.
    pub(super) renews: bool,
    /// What to type where it isn't, or wasn't.
    pub(super) fix: &'static str,
}

/// The first certificate in a PEM file, if there is one.
pub(super) fn ends(file: &Path) -> Option<i64> {
    let pem = std::fs::read_to_string(file).ok()?;
    Some(Certificate::read_all(&pem).ok()?.first()?.ends)
}

pub(super) fn judge(facts: &Facts, now: i64) -> Finding {
    let Facts { whose, ends, renews, fix } = facts;
    let when = moment::at(*ends);
    if *ends <= now {
        return found(
            "certificates",
            Level::Broken,
            format!("{whose} ended at {when}"),
            if *renews {
                "it should have been renewed long before: something kept it from that"
            } else {
                "TLS goes by it, and fails"
            },
            *fix,
        );
    }
    if !renews && *ends - now < EARLY * DAY {
        return found(
            "certificates",
            Level::Warning,
            format!("{whose} ends at {when}, in {} days", (*ends - now) / DAY),
            "TLS goes by it, and fails from then on",
            *fix,
        );
    }
    fine("certificates", format!("{whose} ends at {when}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_renews_is_told_early() {
        let level = |days: i64, renews| {
            judge(&Facts { whose: "it".into(), ends: 1000 * DAY + days * DAY, renews, fix: "x" }, 1000 * DAY).level
        };
        assert_eq!([level(-1, true), level(-1, false)], [Level::Broken, Level::Broken]);
        assert_eq!([level(1, true), level(1, false)], [Level::Fine, Level::Warning]);
        assert_eq!(level(31, false), Level::Fine);
    }
}
