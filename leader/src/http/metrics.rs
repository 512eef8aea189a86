//! `/metrics`: the leader and its fleet in numbers (`docs/monitoring.md`).

use super::operations::Watcher;
use crate::leader::Leader;
use lockstep_edge::metrics::Page;
use lockstep_shared::api::{Fleet, Machine, State, Undo};
use lockstep_shared::rollout::{MemberState, Phase};
use std::path::Path;

/// Every state of a follower; `None`: it never reported.
const STATES: [(&str, Option<State>); 5] = [
    ("silent", None),
    ("new", Some(State::New)),
    ("applying", Some(State::Applying)),
    ("applied", Some(State::Applied)),
    ("failed", Some(State::Failed)),
];
const PHASES: [(&str, Phase); 6] = [
    ("running", Phase::Running),
    ("pausing", Phase::Pausing),
    ("done", Phase::Done),
    ("stopped", Phase::Stopped),
    ("returned", Phase::Returned),
    ("replaced", Phase::Replaced),
];
const MEMBERS: [(&str, MemberState); 11] = [
    ("waiting", MemberState::Waiting),
    ("offered", MemberState::Offered),
    ("absent", MemberState::Absent),
    ("applying", MemberState::Applying),
    ("queued", MemberState::Queued),
    ("restarting", MemberState::Restarting),
    ("done", MemberState::Done),
    ("failed", MemberState::Failed),
    ("held", MemberState::Held),
    ("returning", MemberState::Returning),
    ("returned", MemberState::Returned),
];
/// What is wrong with signatures, as `docs/protocol.md` names it.
const REFUSALS: [&str; 6] =
    ["unsigned", "malformed-signature", "bad-signature", "replayed", "clock-skew", "digest-mismatch"];

/// The page for this watcher.
pub(super) fn page(leader: &Leader, watcher: Watcher) -> String {
    let mut page = Page::of_process(env!("CARGO_PKG_VERSION"), leader.meters.started);
    let published = leader.published();
    let fleet = leader.reports.fleet(&published, &leader.config.members.now());
    page.gauge("lockstep_published_revision", "The revision that is served.").value(fleet.revision);
    page.gauge("lockstep_published_timestamp_seconds", "When it was published, Unix seconds.")
        .value(published.revision.created);
    page.counter("lockstep_publications_total", "Revisions that were published since the start.")
        .value(leader.meters.publications());
    followers(&mut page, &fleet);
    if watcher == Watcher::Person {
        machines(&mut page, &fleet);
        clocks(&mut page, &fleet);
    }
    rollout(&mut page, leader);
    followers_requests(&mut page, leader);
    certificates(&mut page, leader, watcher);
    own_certificates(&mut page, leader, watcher);
    page.requests(&leader.meters.requests);
    if let Ok(open) = leader.roster.open_tokens(leader.authority.issuing()) {
        page.gauge("lockstep_join_tokens_open", "Join tokens that can still be used.").value(open);
    }
    if let Ok(made) = leader.audit.last_backup() {
        page.gauge(
            "lockstep_last_backup_timestamp_seconds",
            "When the last backup was made on this machine, Unix seconds; 0 if none ever was.",
        )
        .value(made.unwrap_or(0));
    }
    let state = &leader.config.state;
    page.gauge("lockstep_store_size_bytes", "Size of the store, with its write-ahead log.").value(store(state));
    page.into_text()
}

/// The fleet in counts: no name of a machine.
fn followers(page: &mut Page, fleet: &Fleet) {
    let mut family = page.gauge("lockstep_followers", "Followers by what they last reported.");
    for (name, wanted) in STATES {
        let state = |machine: &&Machine| machine.status.as_ref().map(|status| status.state) == wanted;
        family.sample(&[("state", name)], fleet.machines.iter().filter(state).count());
    }
    let count = |is: fn(&Machine) -> bool| fleet.machines.iter().filter(|machine| is(machine)).count();
    page.gauge("lockstep_followers_current", "Followers that run what is published.").value(count(current));
    page.gauge("lockstep_followers_drifted", "Followers with files that somebody else changed and that stay so.")
        .value(count(|machine| left(machine) > 0));
    page.gauge("lockstep_followers_undo_failed", "Followers where going back failed too: a person has to look.")
        .value(count(undo_failed));
    // Who never reported since this start is as old as it.
    let oldest = fleet.machines.iter().map(|machine| machine.seen.unwrap_or(0)).min().unwrap_or(0);
    page.gauge(
        "lockstep_followers_oldest_seen_timestamp_seconds",
        "When the follower that was silent for the longest was last heard, Unix seconds; 0 if one never was since the start.",
    )
    .value(oldest);
}

/// The same by machine: for those on the admin listener.
fn machines(page: &mut Page, fleet: &Fleet) {
    let mut each = |name, help, value: fn(&Machine) -> i64| {
        let mut family = page.gauge(name, help);
        for machine in &fleet.machines {
            family.sample(&[("machine", machine.name.as_str()), ("role", machine.role.as_str())], value(machine));
        }
    };
    each(
        "lockstep_machine_applied_revision",
        "The revision that the machine was last proven to run; 0 before the first.",
        |machine| {
            machine
                .status
                .as_ref()
                .and_then(|status| status.running.as_ref())
                .map_or(0, |running| running.revision.try_into().unwrap_or(i64::MAX))
        },
    );
    each("lockstep_machine_offered_revision", "The revision that the machine is served.", |machine| {
        machine.offered.try_into().unwrap_or(i64::MAX)
    });
    each("lockstep_machine_current", "Whether the machine runs what it is served.", |machine| {
        i64::from(current(machine))
    });
    each("lockstep_machine_failed", "Whether what the machine is offered failed there.", |machine| {
        i64::from(machine.status.as_ref().is_some_and(|status| status.state == State::Failed))
    });
    each(
        "lockstep_machine_undo_failed",
        "Whether going back failed on the machine: a person has to look.",
        |machine| i64::from(undo_failed(machine)),
    );
    each(
        "lockstep_machine_drifted_files",
        "Files of the machine that somebody else changed and that stay so.",
        |machine| left(machine).try_into().unwrap_or(i64::MAX),
    );
    each(
        "lockstep_machine_last_seen_timestamp_seconds",
        "When the machine was last heard, Unix seconds; 0 if not since the leader's start.",
        |machine| machine.seen.unwrap_or(0),
    );
}

/// By how many seconds clocks are off, of those who said so.
fn clocks(page: &mut Page, fleet: &Fleet) {
    let mut family = page.gauge(
        "lockstep_machine_clock_ahead_seconds",
        "By how much the machine's clock was ahead of the leader's at its last report; below 0: behind.",
    );
    for machine in &fleet.machines {
        if let Some(ahead) = machine.clock_ahead {
            family.sample(&[("machine", machine.name.as_str()), ("role", machine.role.as_str())], ahead);
        }
    }
}

fn current(machine: &Machine) -> bool {
    let running = machine.status.as_ref().and_then(|status| status.running.as_ref());
    running.is_some_and(|running| running.digest == machine.wanted)
}

fn left(machine: &Machine) -> usize {
    machine.status.iter().flat_map(|status| &status.drift).filter(|drift| !drift.repaired).count()
}

fn undo_failed(machine: &Machine) -> bool {
    let failed = machine.status.as_ref().and_then(|status| status.failed.as_ref());
    failed.is_some_and(|failed| matches!(failed.undo, Undo::Failed | Undo::Nothing))
}

fn rollout(page: &mut Page, leader: &Leader) {
    let Some(rollout) = leader.rollout.view() else { return };
    let mut family =
        page.gauge("lockstep_rollout_phase", "Where the rollout of the published revision stands: 1 for one phase.");
    for (name, phase) in PHASES {
        family.sample(&[("phase", name)], u8::from(rollout.phase == phase));
    }
    page.gauge("lockstep_rollout_wave", "The wave whose turn it is, from 1.").value(rollout.wave);
    page.gauge("lockstep_rollout_waves", "How many waves the rollout has.").value(rollout.waves);
    page.gauge("lockstep_rollout_started_timestamp_seconds", "When the rollout began, Unix seconds.")
        .value(rollout.started);
    let mut family = page
        .gauge("lockstep_rollout_machines", "Machines that the rollout changes something for, by how far they are.");
    for (name, state) in MEMBERS {
        family.sample(&[("state", name)], rollout.machines.iter().filter(|member| member.state == state).count());
    }
}

fn followers_requests(page: &mut Page, leader: &Leader) {
    let mut family = page
        .counter("lockstep_signatures_refused_total", "Followers' requests that were not let in, by what was wrong.");
    for (kind, count) in leader.meters.refusals.counts(&REFUSALS) {
        family.sample(&[("kind", &kind)], count);
    }
    page.gauge("lockstep_long_polls_held", "Requests of followers that are held until there is something new.")
        .value(leader.waits.held());
    let mut family = page.counter("lockstep_pushes_total", "Notifications to followers, by how they went.");
    for (result, count) in leader.pushes.results() {
        family.sample(&[("result", &result)], count);
    }
}

fn certificates(page: &mut Page, leader: &Leader, watcher: Watcher) {
    let ends = leader.ends();
    let mut family = page.gauge(
        "lockstep_certificate_not_after_timestamp_seconds",
        "When a certificate ends, Unix seconds: the published ones of the platform, and the authorities of TLS.",
    );
    for ending in ends.iter().filter(|ending| ending.machine.is_none() || watcher == Watcher::Person) {
        let kind = if ending.public { "public" } else { "internal" };
        let machine = ending.machine.as_deref().unwrap_or_default();
        family.sample(&[("kind", kind), ("name", &ending.name), ("machine", machine)], ending.ends);
    }
}

/// Those that renew by themselves: the leader's own, and the followers'.
fn own_certificates(page: &mut Page, leader: &Leader, watcher: Watcher) {
    let Ok(shown) = leader.authority.show(&leader.pinning()) else { return };
    let mut family = page.gauge(
        "lockstep_tls_not_after_timestamp_seconds",
        "When a certificate of TLS ends that renews by itself, Unix seconds: the leader's own (no machine), and each follower's.",
    );
    family.sample(&[("machine", "")], shown.leader_ends);
    for follower in shown.followers.iter().filter(|_| watcher == Watcher::Person) {
        if let Some(ends) = follower.certificate_ends {
            family.sample(&[("machine", follower.name.as_str())], ends);
        }
    }
}

/// Bytes of the database.
fn store(state: &Path) -> u64 {
    let size = |name: &str| state.join(name).metadata().map_or(0, |meta| meta.len());
    let database = crate::store::DATABASE;
    size(database) + size(&format!("{database}-wal"))
}
