//! The audit: every change, login and refusal, in a chain that shows what was
//! done to it afterwards. What happens often and to nobody's doing (refusals)
//! is counted, so that nobody can fill the disk by being refused.

use crate::store::{Chain, Store, StoreError, StoredRecord};
use crate::who::{Actor, How};
use lockstep_edge::{clock, trace};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use utoipa::ToSchema;

/// The longest text of a field, in characters.
const LONGEST: usize = 500;
/// Refusals that get a record of their own within a span; further ones are counted.
const SINGLE: usize = 20;
/// That span, in seconds.
const SPAN: i64 = 600;
/// Pairs of token and address whose first use is remembered.
const LOGINS: usize = 10_000;

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = AuditOutcome)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was asked for, and is about to be tried. What came of it is a later
    /// record that answers this one; without one, the leader ended in between.
    Asked,
    /// It was done.
    Done,
    /// It was not allowed, or not possible as asked; nothing was changed.
    Refused,
    /// It broke off.
    Failed,
}

/// What a backup is called in the audit.
pub const BACKUP: &str = "backup";

/// One record: what is hashed is this, as JSON in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = AuditRecord)]
pub struct Record {
    /// From 1, without gaps.
    pub number: i64,
    /// Unix seconds.
    pub time: i64,
    /// Who, by the name they have or say.
    pub actor: String,
    /// How they came in, and what is known of them beside the name.
    pub how: String,
    /// What they did: a method and a route, or a word.
    pub action: String,
    /// To what.
    pub target: String,
    /// What came of it.
    pub outcome: Outcome,
    /// More. Never a secret's value.
    pub detail: String,
    /// The record that this one answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<i64>,
    /// The id of the request, as its answer and the logs have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// A record with its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = AuditChained)]
pub struct Chained {
    /// The record.
    pub record: Record,
    /// SHA-256 in hex over the hash before it and the record's JSON.
    pub hash: String,
}

/// What looking over the whole chain showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = AuditVerdict)]
pub struct Verdict {
    /// Whether every record is as it was written, and none is missing.
    pub sound: bool,
    /// How many records are sound, from the first on.
    pub records: i64,
    /// The hash of the last of them, in hex: note it elsewhere, with the number.
    pub head: String,
    /// The first record that is not.
    pub first_bad: Option<i64>,
    /// What is wrong with it.
    pub why: Option<String>,
}

/// What is to be recorded.
pub struct Event<'e> {
    /// Who.
    pub actor: &'e Actor,
    /// What.
    pub action: &'e str,
    /// To what.
    pub target: &'e str,
    /// What came of it.
    pub outcome: Outcome,
    /// More.
    pub detail: &'e str,
    /// The record that this one answers.
    pub answers: Option<i64>,
}

impl<'e> Event<'e> {
    /// Something that simply happened.
    pub fn done(actor: &'e Actor, action: &'e str, detail: &'e str) -> Self {
        Self { actor, action, target: "", outcome: Outcome::Done, detail, answers: None }
    }
}

/// The audit of a leader.
pub struct Audit {
    store: Mutex<Store>,
    refusals: Mutex<Refusals>,
    logins: Mutex<BTreeSet<(i64, String)>>,
    /// The last record that was looked at for a backup, and when one was made.
    backup: Mutex<(i64, Option<i64>)>,
}

/// A refusal that was counted, and what has to be written down because of it.
pub struct Counted {
    single: bool,
    ended: Option<String>,
}

impl Counted {
    /// Whether anything has to be written down.
    pub fn matters(&self) -> bool {
        self.single || self.ended.is_some()
    }
}

/// Refusals since `since`: the first ones have records, the rest is counted by kind.
#[derive(Default)]
struct Refusals {
    since: i64,
    single: usize,
    counted: HashMap<String, u64>,
}

impl Audit {
    /// With a connection of its own, so that it never waits for a publication to be rendered.
    pub fn new(store: Store) -> Self {
        Self {
            store: Mutex::new(store),
            refusals: Mutex::default(),
            logins: Mutex::default(),
            backup: Mutex::default(),
        }
    }

    /// Appends a record; its number. Blocks until it is durable.
    pub fn append(&self, event: &Event<'_>) -> Result<i64, StoreError> {
        let time = clock::now();
        self.store.lock().unwrap_or_else(PoisonError::into_inner).audit_append(time, |number| {
            let record = Record {
                number,
                time,
                actor: bounded(&event.actor.name),
                how: event.actor.how.to_string(),
                action: bounded(event.action),
                target: bounded(event.target),
                outcome: event.outcome,
                detail: bounded(event.detail),
                answers: event.answers,
                request: trace::current().map(|id| id.to_string()),
            };
            serde_json::to_string(&record).unwrap_or_default()
        })
    }

    /// Whether records can still be written where they are read.
    pub fn check(&self) -> Result<(), StoreError> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner).check()
    }

    /// Records a change before it is tried and after: for commands that make it
    /// themselves, while no leader runs. `noted` says what came of it.
    pub fn around<T, E: From<StoreError>>(
        store: Store,
        actor: &Actor,
        action: &str,
        work: impl FnOnce() -> Result<T, E>,
        noted: impl FnOnce(&T) -> String,
    ) -> Result<T, E> {
        let audit = Self::new(store);
        let event = |outcome, detail, answers| Event { actor, action, target: "", outcome, detail, answers };
        let asked = audit.append(&event(Outcome::Asked, "", None))?;
        let done = work();
        match &done {
            Ok(done) => audit.note(&event(Outcome::Done, &noted(done), Some(asked))),
            Err(_) => audit.note(&event(Outcome::Refused, "", Some(asked))),
        }
        done
    }

    /// [`Audit::append`], where nothing depends on it: a failure is logged.
    pub fn note(&self, event: &Event<'_>) {
        if let Err(error) = self.append(event) {
            tracing::error!(%error, action = event.action, "the audit can't be written");
        }
    }

    /// Counts a refusal. Writes nothing: most of many are only counted. `kind` is
    /// what it is counted under.
    pub fn count(&self, kind: &str) -> Counted {
        let (single, ended) = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).count(kind, clock::now());
        Counted { single, ended }
    }

    /// Writes down a refusal that was counted, if it is to be. Blocks.
    pub fn refused(&self, counted: Counted, actor: &Actor, action: &str, target: &str, detail: &str) {
        self.note_counted(counted.ended);
        if counted.single {
            self.note(&Event { actor, action, target, outcome: Outcome::Refused, detail, answers: None });
        }
    }

    /// Writes down what was only counted, e.g. before the end.
    pub fn flush(&self) {
        let ended = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.note_counted(ended);
    }

    fn note_counted(&self, counted: Option<String>) {
        if let Some(detail) = counted {
            let actor = Actor::unknown();
            let (action, target) = ("further refusals", "");
            let event =
                Event { actor: &actor, action, target, outcome: Outcome::Refused, detail: &detail, answers: None };
            self.note(&event);
        }
    }

    /// Notes the first use of a token from an address since the leader's start.
    pub fn login(&self, actor: &Actor, peer: &str) {
        let How::Token { id } = actor.how else { return };
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        if logins.len() >= LOGINS {
            logins.clear();
        }
        let new = logins.insert((id, peer.to_owned()));
        drop(logins);
        if new {
            let detail = format!("first use from {peer} since the leader's start");
            self.note(&Event::done(actor, "login", &detail));
        }
    }

    /// The last `most` records since `since` and before the number `before`, oldest first.
    pub fn records(&self, since: i64, before: i64, most: usize) -> Result<Vec<Chained>, StoreError> {
        let records = self.store.lock().unwrap_or_else(PoisonError::into_inner).audit_records(since, before, most)?;
        Ok(records.iter().map(Chained::from).collect())
    }

    /// When the last backup was made, Unix seconds; none was, if none is recorded. Only new records are read.
    pub fn last_backup(&self) -> Result<Option<i64>, StoreError> {
        let mut known = self.backup.lock().unwrap_or_else(PoisonError::into_inner);
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, made) = store.audit_done(BACKUP, known.0)?;
        *known = (last.unwrap_or(known.0), made.or(known.1));
        Ok(known.1)
    }

    /// Looks over the whole chain; `known` is a number and a hash (hex) that were noted elsewhere.
    pub fn verify(&self, known: Option<(i64, &str)>) -> Result<Verdict, StoreError> {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let Chain { records, head, broken } = store.audit_chain()?;
        let mut verdict = Verdict {
            sound: broken.is_none(),
            records,
            head: hex(&head),
            first_bad: broken.as_ref().map(|broken| broken.number),
            why: broken.map(|broken| broken.why.to_owned()),
        };
        if let (true, Some((number, hash))) = (verdict.sound, known) {
            let there = store.audit_record(number)?.map(|record| hex(&record.hash));
            if there.as_deref() != Some(&hash.to_ascii_lowercase()) {
                verdict.sound = false;
                verdict.first_bad = Some(number.min(records + 1));
                let why = "the chain is sound in itself, but it is another one than the one that was noted: the store was replaced or rewritten";
                verdict.why = Some(why.to_owned());
            }
        }
        Ok(verdict)
    }
}

impl Refusals {
    /// Whether this one gets a record of its own, and what an ended span counted.
    fn count(&mut self, kind: &str, now: i64) -> (bool, Option<String>) {
        let ended = if now - self.since >= SPAN || now < self.since {
            let ended = self.take();
            (self.since, self.single) = (now, 0);
            ended
        } else {
            None
        };
        if self.single < SINGLE {
            self.single += 1;
            return (true, ended);
        }
        // Kinds are the leader's own words; the bound is for the day somebody forgets that.
        let kind = if self.counted.len() < 100 { kind } else { "other" };
        *self.counted.entry(kind.to_owned()).or_default() += 1;
        (false, ended)
    }

    fn take(&mut self) -> Option<String> {
        let mut counted: Vec<(String, u64)> = std::mem::take(&mut self.counted).into_iter().collect();
        counted.sort();
        let all: Vec<String> = counted.iter().map(|(kind, count)| format!("{count} x {kind}")).collect();
        (!all.is_empty()).then(|| format!("not recorded one by one: {}", all.join(", ")))
    }
}

impl From<&StoredRecord> for Chained {
    fn from(stored: &StoredRecord) -> Self {
        let unreadable = || Record {
            number: stored.number,
            time: 0,
            actor: String::new(),
            how: String::new(),
            action: "(unreadable)".to_owned(),
            target: String::new(),
            outcome: Outcome::Failed,
            detail: "this record was changed: lockstep audit --verify".to_owned(),
            answers: None,
            request: None,
        };
        let record = serde_json::from_str(&stored.record).unwrap_or_else(|_| unreadable());
        Self { record, hash: hex(&stored.hash) }
    }
}

fn bounded(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_refusals_are_few_records() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::new(Store::open(folder.path()).unwrap());
        for _ in 0..1000 {
            audit.refused(audit.count("bad-token"), &Actor::unknown(), "GET /admin/plan", "", "192.0.2.1");
        }
        audit.flush();
        let records = audit.records(0, i64::MAX, 1000).unwrap();
        assert_eq!(records.len(), SINGLE + 1);
        assert_eq!(records[SINGLE].record.detail, "not recorded one by one: 980 x bad-token");
        assert!(audit.verify(None).unwrap().sound);
    }

    #[test]
    fn a_span_ends() {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.count("a", 1000), (true, None));
        for _ in 1..SINGLE {
            assert!(refusals.count("a", 1000).0);
        }
        assert_eq!(refusals.count("b", 1001), (false, None));
        assert_eq!(refusals.count("a", 1000 + SPAN), (true, Some("not recorded one by one: 1 x b".to_owned())));
    }

    #[test]
    fn nothing_typed_forges_a_record() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::new(Store::open(folder.path()).unwrap());
        let evil = "x\",\"outcome\":\"done\"}\n{\"number\":2}\u{1b}[2J";
        let actor = Actor::local(evil, How::Leader);
        audit.note(&Event {
            actor: &actor,
            action: evil,
            target: evil,
            outcome: Outcome::Refused,
            detail: &evil.repeat(99),
            answers: None,
        });
        let records = audit.records(0, i64::MAX, 10).unwrap();
        assert_eq!((records.len(), records[0].record.outcome), (1, Outcome::Refused));
        assert_eq!(records[0].record.target, evil);
        assert_eq!(records[0].record.detail.chars().count(), LONGEST + 3);
        assert!(!records[0].record.actor.contains(['\n', '"', '\u{1b}']));
        let noted = (1, records[0].hash.as_str());
        assert!(audit.verify(Some(noted)).unwrap().sound);
        assert!(!audit.verify(Some((1, "00"))).unwrap().sound);
        assert!(!audit.verify(Some((9, noted.1))).unwrap().sound);
    }
}
