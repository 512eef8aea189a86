//! This machine's time: whether something keeps it right, and how far it is
//! from the other side's.

use super::{Finding, Level, fine, found, output};
use std::path::Path;

/// A difference of more seconds than this is told.
const NEAR: u64 = 30;

/// Past this many seconds signatures are refused.
const WINDOW: u64 = 300;

/// What is known of the time.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// Whether the kernel's clock is kept by NTP; `None` where nothing says so.
    pub(super) kept: Option<bool>,
    /// By how many seconds this clock is ahead of the other side's, and who that is.
    pub(super) ahead: Option<(i64, String)>,
}

pub(super) fn gather(ahead: Option<(i64, String)>) -> Facts {
    // Without systemd nobody answers, and timedatectl would wait for it.
    let systemd = Path::new("/run/systemd/system").is_dir();
    let said = systemd.then(|| output("timedatectl", &["show", "--property=NTPSynchronized", "--value"])).flatten();
    let kept = said.and_then(|said| match said.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    });
    Facts { kept, ahead }
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if facts.kept == Some(false) {
        findings.push(found(
            "clock",
            Level::Warning,
            "nothing keeps this machine's clock right (NTP)",
            "signatures and certificates go by the time; a clock that drifts makes the machine look like a stranger",
            "timedatectl set-ntp true; timedatectl timesync-status",
        ));
    }
    if let Some((ahead, whose)) = &facts.ahead {
        let off = ahead.unsigned_abs();
        if off > NEAR {
            let way = if *ahead > 0 { "ahead of" } else { "behind" };
            findings.push(found(
                "clock",
                if off > WINDOW { Level::Broken } else { Level::Warning },
                format!("this clock is {off} s {way} {whose}"),
                "past 300 s signatures are refused, until the follower signs with the leader's time; logs don't fit together",
                "timedatectl set-ntp true, on the machine whose clock is wrong (date -u on both)",
            ));
        } else {
            findings.push(fine("clock", format!("this clock and {whose} agree")));
        }
    }
    if findings.is_empty() {
        let what =
            if facts.kept == Some(true) { "NTP keeps this clock right" } else { "nothing speaks against this clock" };
        findings.push(fine("clock", what));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_differ_are_told() {
        let levels = |kept, ahead: Option<i64>| {
            let facts = Facts { kept, ahead: ahead.map(|ahead| (ahead, "the leader's".to_owned())) };
            judge(&facts).iter().map(|finding| finding.level).collect::<Vec<_>>()
        };
        assert_eq!(levels(None, None), [Level::Fine]);
        assert_eq!(levels(Some(true), Some(3)), [Level::Fine]);
        assert_eq!(levels(Some(false), Some(-31)), [Level::Warning, Level::Warning]);
        assert_eq!(levels(None, Some(1200)), [Level::Broken]);
    }
}
