//! `/metrics`: this machine in numbers (`docs/monitoring.md`).

use crate::board::Board;
use crate::http::Meters;
use lockstep_edge::metrics::Page;
use lockstep_shared::api::{State, Undo};

const STATES: [(&str, State); 4] =
    [("new", State::New), ("applying", State::Applying), ("applied", State::Applied), ("failed", State::Failed)];
const HEALTHS: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];
/// What is wrong with signatures, as `docs/protocol.md` names it.
const REFUSALS: [&str; 6] =
    ["unsigned", "malformed-signature", "bad-signature", "replayed", "clock-skew", "digest-mismatch"];

/// The page.
pub(crate) fn page(board: &Board, meters: &Meters) -> String {
    let mut page = Page::of_process(env!("CARGO_PKG_VERSION"), meters.started);
    let status = board.status();
    let running = status.running.as_ref();
    page.gauge("lockstep_applied_revision", "Revision that was last written, acted on and proven; 0 before the first.")
        .value(running.map_or(0, |running| running.revision));
    page.gauge("lockstep_applied_timestamp_seconds", "When it was proven, Unix seconds; 0 before the first.")
        .value(running.map_or(0, |running| running.since));
    page.gauge("lockstep_failed_revision", "Revision that failed here and is still what the leader offers; 0 if none.")
        .value(status.failed.as_ref().map_or(0, |failed| failed.revision));
    let undo_failed = status.failed.as_ref().is_some_and(|failed| matches!(failed.undo, Undo::Failed | Undo::Nothing));
    page.gauge(
        "lockstep_undo_failed",
        "Whether going back failed too, or there was nothing to go back to: a person has to look.",
    )
    .value(u8::from(undo_failed));
    let mut family = page.gauge("lockstep_state", "What the follower is doing: 1 for one state.");
    for (name, state) in STATES {
        family.sample(&[("state", name)], u8::from(status.state == state));
    }
    let (succeeded, failed) = board.applies();
    page.counter("lockstep_applies_total", "Applies since the start.")
        .sample(&[("result", "applied")], succeeded)
        .sample(&[("result", "failed")], failed);
    page.histogram("lockstep_apply_duration_seconds", "Applies since the start, from pull to proof.")
        .spread(&[], board.took());
    page.counter("lockstep_undos_total", "Times that a failed bundle was begun to be taken back since the start.")
        .value(board.undos());
    let repaired = status.drift.iter().filter(|drift| drift.repaired).count();
    page.gauge(
        "lockstep_drifted_files",
        "Files that somebody else changed: written again within the last hour, or left as they are.",
    )
    .sample(&[("state", "repaired")], repaired)
    .sample(&[("state", "left")], status.drift.len() - repaired);
    page.counter(
        "lockstep_drift_repairs_total",
        "Times that a file was written again since the start because somebody else had changed it.",
    )
    .value(board.repairs());
    page.gauge(
        "lockstep_drift_watched",
        "Whether changes of files are heard of at once (1), or found once a minute (0).",
    )
    .value(u8::from(board.is_watching()));
    let mut family = page.gauge(
        "lockstep_containers",
        "The project's containers by health, as last listed; none: without a healthcheck.",
    );
    for health in HEALTHS {
        family.sample(
            &[("health", health)],
            status.containers.iter().filter(|container| container.health == health).count(),
        );
    }
    let stopped = status.containers.iter().filter(|container| container.state != "running").count();
    page.gauge("lockstep_containers_not_running", "The project's containers that don't run, as last listed.")
        .value(stopped);
    page.gauge("lockstep_leader_away_seconds", "How long the leader has not answered; 0 while it does.")
        .value(board.away().map_or(0, |away| away.as_secs()));
    page.gauge(
        "lockstep_leader_last_seen_timestamp_seconds",
        "When the leader last answered, Unix seconds; 0 before the first time.",
    )
    .value(status.leader_seen.unwrap_or(0));
    page.counter("lockstep_notifications_total", "Notifications of the leader that were accepted.")
        .value(meters.notifications());
    let mut family = page.counter(
        "lockstep_signatures_refused_total",
        "Notifications that were not let in, by what was wrong with the signature.",
    );
    for (kind, count) in meters.refusals.counts(&REFUSALS) {
        family.sample(&[("kind", &kind)], count);
    }
    page.requests(&meters.requests);
    page.into_text()
}
