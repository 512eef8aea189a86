//! What is wrong with a machine, as far as the leader knows, and what a person
//! can do about it. Pure: told from a fleet and a time.

use crate::printable::{paragraph, printable};
use lockstep_shared::api::{Fleet, Machine, State, Undo};
use lockstep_shared::rollout::{MemberState, Phase};

/// A follower calls at least once a minute; past this many seconds something is wrong.
const SILENT: i64 = 150;

/// From this many seconds on, a clock that is off is told.
const CLOCK_OFF: u64 = 30;

/// From this many seconds on, a clock that is off has requests refused, until the follower signs with the leader's time.
const CLOCK_REFUSED: u64 = 300;

/// How bad it is; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Grade {
    /// A person has to do something.
    Bad,
    /// It may be nothing, or get better by itself.
    Odd,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) grade: Grade,
    /// What.
    pub(crate) what: String,
    /// What to do, or to type; empty where there is nothing to do.
    pub(crate) next: String,
}

fn trouble(grade: Grade, what: impl Into<String>, next: impl Into<String>) -> Trouble {
    Trouble { grade, what: what.into(), next: next.into() }
}

/// Everything that is wrong with a machine, the worst first.
pub(crate) fn troubles(machine: &Machine, fleet: &Fleet, now: i64) -> Vec<Trouble> {
    let mut found = Vec::new();
    found.extend(silence(machine, now));
    found.extend(failure(machine, fleet));
    found.extend(behind(machine, fleet));
    found.extend(containers(machine));
    found.extend(drift(machine));
    found.extend(clock(machine));
    found.extend(certificate(machine, now));
    found.sort_by_key(|trouble| trouble.grade);
    found
}

fn silence(machine: &Machine, now: i64) -> Option<Trouble> {
    let next = format!("on {}: lockstep doctor, lockstep logs follower", machine.name);
    match machine.seen.filter(|seen| *seen > 0) {
        None => Some(trouble(Grade::Odd, "nothing was heard from it since the leader's start", next)),
        Some(seen) if now - seen > SILENT => Some(trouble(
            Grade::Bad,
            format!("last heard from {}; a follower calls at least once a minute", ago(now - seen)),
            next,
        )),
        Some(_) => None,
    }
}

fn failure(machine: &Machine, fleet: &Fleet) -> Option<Trouble> {
    let status = machine.status.as_ref();
    let correct = correct(machine, fleet);
    if let Some(failed) = status.and_then(|status| status.failed.as_ref()) {
        let what = format!("FAILED revision {}: {}", failed.revision, paragraph(&failed.why));
        let next = match (failed.undo, &failed.advice) {
            (Undo::Failed | Undo::Pending, Some(advice)) => paragraph(advice),
            (Undo::Failed, None) => format!("going back failed too: on {}, lockstep logs follower", machine.name),
            (Undo::Pending, None) => "going back is under way: lockstep status --watch".to_owned(),
            (Undo::Done | Undo::Nothing, _) => correct,
        };
        return Some(trouble(Grade::Bad, what, next));
    }
    if status.is_some_and(|status| status.state == State::Failed) {
        let apply = status.and_then(|status| status.apply.as_ref());
        let error = apply.and_then(|apply| apply.error.as_deref());
        let why = error.map_or_else(|| "what it owes is not done yet".to_owned(), paragraph);
        let next = if apply.is_some_and(|apply| apply.refused) {
            correct
        } else {
            format!("it is tried again by itself; on {}: lockstep doctor, lockstep logs follower", machine.name)
        };
        return Some(trouble(Grade::Bad, format!("FAILED: {why}"), next));
    }
    // What an earlier report said, and the rollout remembers.
    let rollout = fleet.rollout.as_ref()?;
    let member = rollout.machines.iter().find(|member| member.name == machine.name)?;
    (member.state == MemberState::Failed).then(|| {
        trouble(Grade::Bad, format!("FAILED revision {}: {}", rollout.revision, paragraph(&member.why)), correct)
    })
}

/// What mends a bundle that a machine doesn't take: another one, or the one before.
fn correct(machine: &Machine, fleet: &Fleet) -> String {
    let edit = "correct the value or the template, then lockstep publish --wait";
    let running = machine.status.as_ref().and_then(|status| status.running.as_ref()).map(|running| running.revision);
    let returned = fleet.rollout.as_ref().and_then(|rollout| rollout.returned_to);
    // What runs there may be called by an early revision, where later ones changed nothing for it.
    match returned.or(running).filter(|good| *good < fleet.revision) {
        Some(good) => format!("{edit}; or lockstep rollback {good}"),
        None => edit.to_owned(),
    }
}

fn behind(machine: &Machine, fleet: &Fleet) -> Option<Trouble> {
    let status = machine.status.as_ref()?;
    if status.state == State::Failed || status.state == State::Applying || status.failed.is_some() {
        return None;
    }
    let running = status.running.as_ref();
    if running.is_some_and(|running| running.digest == machine.wanted) {
        return None;
    }
    let runs = running.map_or("nothing yet".to_owned(), |running| format!("revision {}", running.revision));
    let offered = if machine.offered == 0 { fleet.revision } else { machine.offered };
    let under_way = fleet.rollout.as_ref().is_some_and(|rollout| rollout.phase == Phase::Running);
    let next = format!("lockstep wait --applied {offered} --machine {0}; on {0}: lockstep logs follower", machine.name);
    let grade = if under_way { Grade::Odd } else { Grade::Bad };
    Some(trouble(grade, format!("behind: it runs {runs} and is offered revision {offered}"), next))
}

fn containers(machine: &Machine) -> Vec<Trouble> {
    let containers = machine.status.iter().flat_map(|status| &status.containers);
    let bad = containers.filter(|container| container.state != "running" || container.health == "unhealthy");
    bad.map(|container| {
        let word = if container.state == "running" { &container.health } else { &container.state };
        // Some are made to end: whoever reads it knows.
        let grade = if matches!(word.as_str(), "exited" | "created" | "paused") { Grade::Odd } else { Grade::Bad };
        let service = printable(&container.service);
        trouble(
            grade,
            format!("container {} is {}", printable(&container.name), printable(word)),
            format!("on {}: lockstep logs {service}; lockstep notify --service {service} restarts it", machine.name),
        )
    })
    .collect()
}

fn drift(machine: &Machine) -> Option<Trouble> {
    let left: Vec<&str> = machine
        .status
        .iter()
        .flat_map(|status| &status.drift)
        .filter(|drift| !drift.repaired)
        .map(|drift| drift.path.as_str())
        .collect();
    let (first, more) = left.split_first()?;
    let what = match more.len() {
        0 => format!("drift: {first} was changed there, and is left as it is"),
        more => format!("drift: {first} and {more} more were changed there, and are left as they are"),
    };
    Some(trouble(Grade::Odd, what, "lockstep notify writes them again"))
}

fn clock(machine: &Machine) -> Option<Trouble> {
    let ahead = machine.clock_ahead?;
    let off = ahead.unsigned_abs();
    if off < CLOCK_OFF {
        return None;
    }
    let grade = if off >= CLOCK_REFUSED { Grade::Bad } else { Grade::Odd };
    Some(trouble(
        grade,
        format!("its clock is {} of the leader's", offset(ahead)),
        format!("on {}: timedatectl set-ntp true (or set the leader's clock, if that one is wrong)", machine.name),
    ))
}

fn certificate(machine: &Machine, now: i64) -> Option<Trouble> {
    let ends = machine.status.as_ref()?.trust.as_ref()?.certificate_ends?;
    // It asks for the next one long before, by itself.
    (ends <= now).then(|| {
        trouble(
            Grade::Bad,
            format!("its own certificate ended {}: the leader can't reach it over TLS", ago(now - ends)),
            format!(
                "on {}: lockstep doctor (is its clock right? does it reach the leader?), lockstep logs follower",
                machine.name
            ),
        )
    })
}

/// `20 min behind`, `40 s ahead`.
pub(super) fn offset(ahead: i64) -> String {
    let off = ahead.unsigned_abs();
    let span = match off {
        0..=119 => format!("{off} s"),
        120..=7199 => format!("{} min", off / 60),
        7200..=172_799 => format!("{} h", off / 3600),
        _ => format!("{} days", off / 86_400),
    };
    format!("{span} {}", if ahead < 0 { "behind" } else { "ahead" })
}

/// How long ago, in a word or two.
pub(super) fn ago(seconds: i64) -> String {
    match seconds {
        ..=1 => "now".to_owned(),
        2..=119 => format!("{seconds} s ago"),
        120..=7199 => format!("{} min ago", seconds / 60),
        7200..=172_799 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use lockstep_shared::api::{Apply, Container, Running, Status};
    use lockstep_shared::{Name, Sha256};

    /// A machine that is as it should be, at time 1000.
    pub(crate) fn machine(name: &str) -> Machine {
        let digest = Sha256::of(b"17");
        Machine {
            name: Name::new(name).unwrap(),
            role: Name::new("core").unwrap(),
            wanted: digest,
            offered: 17,
            url: None,
            seen: Some(990),
            clock_ahead: Some(0),
            status: Some(Status {
                state: State::Applied,
                running: Some(Running { revision: 17, digest, since: 900 }),
                engine: true,
                ..Status::default()
            }),
        }
    }

    pub(crate) fn fleet(machines: Vec<Machine>) -> Fleet {
        Fleet { revision: 17, sequence: 1, machines, rollout: None, ending: Vec::new(), disabled: Vec::new() }
    }

    fn told(change: impl FnOnce(&mut Machine)) -> Vec<(Grade, String)> {
        let mut machine = machine("core-1");
        change(&mut machine);
        let fleet = fleet(vec![machine]);
        let troubles = troubles(&fleet.machines[0], &fleet, 1000);
        assert!(troubles.iter().all(|trouble| !trouble.next.is_empty()), "each says what to do: {troubles:?}");
        troubles.into_iter().map(|trouble| (trouble.grade, trouble.what)).collect()
    }

    #[test]
    fn each_trouble_has_its_words() {
        assert_eq!(told(|_| {}), []);
        let one = |change: &dyn Fn(&mut Machine)| {
            let mut all = told(change);
            assert_eq!(all.len(), 1, "{all:?}");
            all.remove(0)
        };
        assert_eq!(one(&|machine| machine.seen = Some(100)).0, Grade::Bad);
        assert!(one(&|machine| machine.seen = Some(100)).1.contains("15 min ago"));
        let never = |machine: &mut Machine| (machine.seen, machine.status) = (None, None);
        assert_eq!(one(&never).0, Grade::Odd, "a leader that was just started has heard of nobody");
        assert!(one(&|machine| machine.clock_ahead = Some(-1200)).1.contains("20 min behind"));
        assert_eq!(told(|machine| machine.clock_ahead = Some(29)), []);
        assert_eq!(
            one(&|machine| machine.clock_ahead = Some(30)),
            (Grade::Odd, "its clock is 30 s ahead of the leader's".into())
        );
        assert_eq!(one(&|machine| machine.clock_ahead = Some(300)).0, Grade::Bad);
        assert!(one(&|machine| machine.wanted = Sha256::of(b"18")).1.contains("it runs revision 17"));
        let failed = |machine: &mut Machine| {
            let status = machine.status.as_mut().unwrap();
            status.state = State::Failed;
            let apply = r#"{"id":"a","revision":18,"digest":null,"files":[],"actions":[],"left_alone":[],"notes":[],"error":"it broke","took_ms":[]}"#;
            status.apply = Some(serde_json::from_str::<Apply>(apply).unwrap());
        };
        assert_eq!(one(&failed), (Grade::Bad, "FAILED: it broke".into()));
        let next = |refused: bool| {
            let mut machine = machine("core-1");
            failed(&mut machine);
            machine.status.as_mut().unwrap().apply.as_mut().unwrap().refused = refused;
            troubles(&machine, &fleet(vec![machine.clone()]), 1000).remove(0).next
        };
        assert!(next(true).contains("correct the value or the template"));
        assert!(next(true).ends_with("publish --wait"), "nothing older is known that was good");
        let mut later = machine("core-1");
        failed(&mut later);
        later.status.as_mut().unwrap().apply.as_mut().unwrap().refused = true;
        let published = Fleet { revision: 18, ..fleet(vec![later.clone()]) };
        assert!(troubles(&later, &published, 1000)[0].next.ends_with("; or lockstep rollback 17"));
        assert!(next(false).contains("tried again by itself") && next(false).contains("doctor"), "{}", next(false));
        let restarting = |machine: &mut Machine| {
            let container = r#"{"service":"nginx","name":"nginx","state":"restarting","health":"none"}"#;
            let container: Container = serde_json::from_str(container).unwrap();
            machine.status.as_mut().unwrap().containers.push(container);
        };
        assert_eq!(one(&restarting), (Grade::Bad, "container nginx is restarting".into()));
        let ended = |machine: &mut Machine| {
            let trust = lockstep_shared::api::Trust { certificate_ends: Some(900), ..Default::default() };
            machine.status.as_mut().unwrap().trust = Some(trust);
        };
        assert_eq!(one(&ended).0, Grade::Bad);
        let all = told(|machine| {
            machine.clock_ahead = Some(40);
            failed(machine);
        });
        assert_eq!(all[0].0, Grade::Bad, "the worst first: {all:?}");
    }
}
