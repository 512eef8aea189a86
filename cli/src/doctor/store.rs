//! The store, and backups of it.

use super::{Finding, Level, fine, found};

const DAY: i64 = 86_400;

/// Backups older than this are told, in days.
const OLD: i64 = 7;

/// What is known of the store.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// The last revision, `None` where nothing was ever published, or what is wrong.
    pub(super) check: Result<Option<u64>, String>,
    /// When the last backup was made, Unix seconds.
    pub(super) backup: Option<i64>,
    pub(super) now: i64,
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &facts.check {
        Ok(Some(revision)) => findings.push(fine("store", format!("the store is sound, up to revision {revision}"))),
        Ok(None) => {
            findings.push(found(
                "store",
                Level::Note,
                "nothing was ever published here",
                "followers have nothing to follow",
                "lockstep validate, then start the leader (it publishes the first revision)",
            ));
            return findings;
        }
        Err(why) => findings.push(found(
            "store",
            Level::Broken,
            format!("the store can't be used: {why}"),
            "history, secrets and what is served are in it",
            "keep a copy of state/ aside; then lockstep restore FILE --replace with the last backup",
        )),
    }
    let age = facts.backup.map(|backup| (facts.now - backup) / DAY);
    let make = "mkdir -p /srv/backups && lockstep backup /srv/backups/leader-$(date +%F).backup, daily (cron, a systemd timer), and off this machine";
    match age {
        None => findings.push(found(
            "store",
            Level::Warning,
            "no backup was ever made of this leader",
            "generated secrets and history are nowhere else",
            make,
        )),
        Some(days) if days > OLD => findings.push(found(
            "store",
            Level::Warning,
            format!("the last backup is {days} days old"),
            "what was published and generated since is nowhere else",
            make,
        )),
        Some(days) => findings.push(fine("store", format!("the last backup is {days} days old"))),
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_sound_and_has_a_backup() {
        let levels = |check: Result<Option<u64>, &str>, backup: Option<i64>| {
            let facts = Facts { check: check.map_err(Into::into), backup, now: 100 * DAY };
            judge(&facts).iter().map(|finding| finding.level).collect::<Vec<_>>()
        };
        assert_eq!(levels(Ok(Some(3)), Some(99 * DAY)), [Level::Fine, Level::Fine]);
        assert_eq!(levels(Ok(Some(3)), None), [Level::Fine, Level::Warning]);
        assert_eq!(levels(Ok(Some(3)), Some(92 * DAY)), [Level::Fine, Level::Warning]);
        assert_eq!(levels(Err("damaged"), Some(99 * DAY)), [Level::Broken, Level::Fine]);
        assert_eq!(levels(Ok(None), None), [Level::Note]);
    }
}
