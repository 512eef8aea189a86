//! Files that somebody else changed: what was seen of them, and when they are
//! written again. Whoever writes a file over and over gets a bounded number of
//! answers, further and further apart, and not a restart for each.

mod look;
pub mod watch;

pub use look::Seen;

use crate::plan::drift::Leave;
use lockstep_shared::api::{Drift, Found};
use lockstep_shared::{OnDrift, SafePath};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// The pause after the first time that a file is written again; three times as long after each further time.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// How often a file is written again before that counts as in vain.
const MOST: u32 = 5;
/// For how long what was written again is remembered, and shown.
const REMEMBERED: Duration = Duration::from_hours(1);

/// All files that are not, or lately were not, as they were written.
#[derive(Debug, Default)]
pub struct Drifts {
    default: Option<OnDrift>,
    files: BTreeMap<SafePath, File>,
}

#[derive(Debug)]
struct File {
    seen: Seen,
    /// When it was first seen, Unix seconds.
    since: i64,
    /// Whether it still is not as it was written.
    stands: bool,
    /// How often it was written again, and when last.
    repairs: u32,
    last_repair: Option<Instant>,
}

impl File {
    /// Whether it is written again at all, sooner or later.
    fn is_repaired(&self) -> bool {
        self.seen.drifted.policy == OnDrift::Repair && self.seen.drifted.writable && self.repairs < MOST
    }

    /// When it may be written again; `None` if that was in vain so often that it needs a person.
    fn due(&self, now: Instant) -> Option<Instant> {
        let Some(last) = self.last_repair else { return Some(now) };
        (self.repairs < MOST).then(|| last + FIRST_PAUSE * 3_u32.pow(self.repairs.saturating_sub(1)))
    }

    /// Whether it waits for its time, or for a person.
    fn is_held(&self, now: Instant) -> bool {
        self.seen.drifted.policy == OnDrift::Repair && self.repairs > 0 && self.due(now).is_none_or(|due| due > now)
    }

    fn is_forgotten(&self, now: Instant) -> bool {
        self.last_repair.is_none_or(|last| now > last + REMEMBERED)
    }
}

impl Drifts {
    /// None yet; `default` is the policy for files whose role says nothing.
    pub fn new(default: OnDrift) -> Self {
        Self { default: Some(default), files: BTreeMap::new() }
    }

    /// The policy for files whose role says nothing.
    pub fn default_policy(&self) -> OnDrift {
        self.default.unwrap_or(OnDrift::Repair)
    }

    /// Takes in what a look has shown, at the time `clock` in Unix seconds.
    pub fn saw(&mut self, seen: Vec<Seen>, now: Instant, clock: i64) {
        let mut seen: BTreeMap<SafePath, Seen> =
            seen.into_iter().map(|seen| (seen.drifted.path.clone(), seen)).collect();
        self.files.retain(|path, file| {
            let news = seen.remove(path);
            if news.is_none() && file.stands && file.last_repair.is_none() {
                tracing::info!(%path, "it is as it was written again");
            }
            let again = news.is_some() && !file.stands;
            file.stands = news.is_some();
            if let Some(news) = news {
                if again {
                    if file.is_forgotten(now) {
                        (file.since, file.repairs, file.last_repair) = (clock, 0, None);
                    }
                    file.seen = news;
                    file.tell(path);
                } else if file.seen != news {
                    file.seen = news;
                    file.tell(path);
                }
                return true;
            }
            !file.is_forgotten(now)
        });
        for (path, seen) in seen {
            let file = File { seen, since: clock, stands: true, repairs: 0, last_repair: None };
            file.tell(&path);
            self.files.insert(path, file);
        }
    }

    /// When the next file is to be written again: at once, later, or not at all.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let due = self.files.values().filter(|file| file.stands && file.seen.drifted.policy == OnDrift::Repair);
        due.filter_map(|file| file.due(now)).min()
    }

    /// Files are about to be written again, as [`Self::due`] said.
    pub fn repairing(&mut self, now: Instant) -> usize {
        let mut number = 0;
        for file in self.files.values_mut() {
            if file.stands && file.is_repaired() && !file.is_held(now) {
                (file.repairs, file.last_repair) = (file.repairs + 1, Some(now));
                number += 1;
            }
        }
        number
    }

    /// Somebody asked for an apply: what was in vain before is tried once more.
    pub fn ask(&mut self) {
        self.files.retain(|_, file| file.stands);
        for file in self.files.values_mut() {
            (file.repairs, file.last_repair) = (0, None);
        }
    }

    /// What an apply leaves as it is.
    pub fn leave(&self, now: Instant) -> Leave {
        let held: BTreeSet<SafePath> =
            self.files.iter().filter(|(_, file)| file.is_held(now)).map(|(path, _)| path.clone()).collect();
        Leave { default: self.default_policy(), held }
    }

    /// As a report shows it, and, for the leader alone, what was found in the files' places.
    pub fn shown(&self) -> (Vec<Drift>, BTreeMap<SafePath, Found>) {
        let shown = self.files.iter().map(|(path, file)| Drift {
            path: path.clone(),
            what: file.words(),
            since: file.since,
            repaired: file.is_repaired(),
            diff: String::new(),
            found: None,
        });
        let found = self.files.iter().filter_map(|(path, file)| Some((path.clone(), file.seen.found.clone()?)));
        (shown.collect(), found.collect())
    }
}

impl File {
    fn words(&self) -> String {
        let what = &self.seen.drifted.what;
        match self.repairs {
            0 | 1 => what.clone(),
            MOST.. => format!("{what}; written again {MOST} times, and each time changed again: left as it is"),
            times => format!("{what}; written again {times} times"),
        }
    }

    fn tell(&self, path: &SafePath) {
        let what = &self.seen.drifted.what;
        if self.seen.drifted.policy == OnDrift::Report {
            tracing::warn!(%path, "changed by somebody else ({what}): it is left so (drift: report)");
        } else if self.repairs >= MOST {
            tracing::error!(
                %path,
                "changed by somebody else ({what}), again, after it was written again {MOST} times: it is left so now. Find who writes it (a script, another tool, the container itself), or give it drift: report in role.yml; lockstep notify has it written again"
            );
        } else {
            tracing::warn!(%path, "changed by somebody else ({what}): it is written again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::drift::Drifted;

    fn seen(path: &str, policy: OnDrift) -> Seen {
        let path = SafePath::new(path).unwrap();
        let drifted = Drifted { path, what: "changed".into(), policy, writable: true, has_other_bytes: true };
        Seen { drifted, found: None }
    }

    #[test]
    fn who_writes_a_file_over_and_over_is_answered_further_and_further_apart() {
        let mut drifts = Drifts::new(OnDrift::Repair);
        let (start, path) = (Instant::now(), SafePath::new("a").unwrap());
        let mut repairs = Vec::new();
        // Somebody writes it every second, for an hour.
        for second in 0..3600 {
            let now = start + Duration::from_secs(second);
            drifts.saw(vec![seen("a", OnDrift::Repair)], now, 1);
            if drifts.due(now).is_some_and(|due| due <= now) {
                assert_eq!(drifts.repairing(now), 1);
                repairs.push(second);
                drifts.saw(Vec::new(), now, 1);
            } else {
                assert!(drifts.leave(now).held.contains(&path));
            }
        }
        assert_eq!(repairs, [0, 10, 40, 130, 400]);
        let now = start + Duration::from_hours(1);
        let (shown, _) = drifts.shown();
        assert!(!shown[0].repaired && shown[0].what.contains("5 times"), "{shown:?}");
        drifts.ask();
        assert!(drifts.due(now).is_some() && drifts.leave(now).held.is_empty());
    }

    #[test]
    fn what_is_left_is_shown_as_long_as_it_stands_and_what_was_repaired_for_an_hour() {
        let mut drifts = Drifts::new(OnDrift::Repair);
        let now = Instant::now();
        drifts.saw(vec![seen("left", OnDrift::Report), seen("mended", OnDrift::Repair)], now, 7);
        assert_eq!(drifts.repairing(now), 1);
        drifts.saw(vec![seen("left", OnDrift::Report)], now, 8);
        let shown = |drifts: &Drifts| -> Vec<(String, i64, bool)> {
            let (shown, _) = drifts.shown();
            shown.into_iter().map(|one| (one.path.to_string(), one.since, one.repaired)).collect()
        };
        assert_eq!(shown(&drifts), [("left".to_owned(), 7, false), ("mended".to_owned(), 7, true)]);
        assert_eq!(drifts.due(now), None);
        drifts.saw(Vec::new(), now + REMEMBERED, 9);
        assert_eq!(shown(&drifts), [("mended".to_owned(), 7, true)]);
        drifts.saw(Vec::new(), now + REMEMBERED + Duration::from_secs(1), 9);
        assert_eq!(shown(&drifts), []);
    }
}
