//! How changes, pushes and machines look in a terminal.

use super::say;
use crate::printable::{paragraph, printable};
use lockstep_leader::difference::MachineChange;
use lockstep_leader::foresee::Foreseen;
use lockstep_shared::api::{Change, Fleet, Machine, Outcome, Push, State};
use lockstep_shared::rollout::{MemberState, Phase};
use std::io::IsTerminal as _;

/// Colours, where standard output is a terminal that wants them.
#[derive(Clone, Copy)]
pub(super) struct Paint(bool);

impl Paint {
    pub(super) fn new() -> Self {
        Self(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none())
    }

    /// No colours.
    #[cfg(test)]
    pub(super) fn plain() -> Self {
        Self(false)
    }

    pub(super) fn wrap(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(super) fn diff_line(self, line: &str) -> String {
        // Tabs are part of many files.
        let shown = line.split('\t').map(printable).collect::<Vec<_>>().join("\t");
        match line.as_bytes().first() {
            Some(b'+') if !line.starts_with("+++") => self.wrap("32", &shown),
            Some(b'-') if !line.starts_with("---") => self.wrap("31", &shown),
            Some(b'@') => self.wrap("36", &shown),
            _ => shown,
        }
    }
}

/// Every change, machines with the very same change together.
pub(super) fn changes(changes: &[MachineChange], paint: Paint) -> String {
    let mut out = String::new();
    for same in alike(changes) {
        let change = same[0];
        out.push_str(&title(&same, paint));
        // A new machine's whole tree would bury the rest: its names are enough.
        let many = change.files.len() > 5 && change.files.iter().all(|file| file.change == Change::Added);
        for file in &change.files {
            let verb = match file.change {
                Change::Added => "added  ",
                Change::Changed => "changed",
                Change::Removed => "removed",
            };
            out.push_str(&format!("  {verb} {}\n", file.path));
            if !many && file.change != Change::Removed {
                for line in file.diff.lines().filter(|line| !line.starts_with("---") && !line.starts_with("+++")) {
                    out.push_str(&format!("    {}\n", paint.diff_line(line)));
                }
            }
        }
        out.push_str(&foreseen(same.into_iter(), paint));
    }
    out
}

/// Machines whose files change in the very same way, together; no group is empty.
pub(super) fn alike(changes: &[MachineChange]) -> Vec<Vec<&MachineChange>> {
    let mut groups: Vec<Vec<&MachineChange>> = Vec::new();
    for change in changes {
        match groups.iter_mut().find(|group| group[0].files == change.files) {
            Some(group) => group.push(change),
            None => groups.push(vec![change]),
        }
    }
    groups
}

/// The line over a group.
pub(super) fn title(same: &[&MachineChange], paint: Paint) -> String {
    let names: Vec<&str> = same.iter().map(|change| change.machine.as_str()).collect();
    format!("{}\n", paint.wrap("1", &format!("{} ({})", names.join(", "), same[0].role)))
}

/// Says why a plan tells nothing of containers: one that was made from the files alone.
pub(super) fn say_if_unforeseen(changes: &[MachineChange]) {
    if changes.iter().any(|change| change.containers.is_none()) {
        say("no leader is running: what this means for containers is not known");
    }
}

/// What happens to containers, machines with the very same actions together.
fn foreseen<'c>(changes: impl Iterator<Item = &'c MachineChange>, paint: Paint) -> String {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for (change, foreseen) in changes.filter_map(|change| Some((change, change.containers.as_ref()?))) {
        let told = told(foreseen, paint);
        match groups.iter_mut().find(|(known, _)| *known == told) {
            Some((_, machines)) => machines.push(change.machine.as_str()),
            None => groups.push((told, vec![change.machine.as_str()])),
        }
    }
    groups.into_iter().map(|(told, machines)| format!("  on {}:{told}\n", machines.join(", "))).collect()
}

fn told(foreseen: &Foreseen, paint: Paint) -> String {
    if let Some(why) = &foreseen.unknown {
        return format!(" {} {why}", paint.wrap("33", "not known:"));
    }
    let mut out = String::new();
    for action in &foreseen.actions {
        let verb = paint.wrap(if action.downtime { "33" } else { "32" }, &format!("{:<10}", action.verb));
        out += &format!("\n    {}. {verb} {}: {}; {}", action.order, action.service, action.why, action.means);
    }
    if foreseen.actions.is_empty() {
        out += " no container is touched";
    }
    let left: Vec<&str> = foreseen.left_alone.iter().map(|left| left.service.as_str()).collect();
    if !left.is_empty() {
        out += &format!("\n    left alone: {}", left.join(", "));
    }
    for note in &foreseen.notes {
        out += &format!("\n    note: {note}");
    }
    out
}

/// How followers took a push.
pub(super) fn pushes(pushes: &[Push], paint: Paint) -> String {
    let line = |push: &Push| match (&push.apply, &push.error) {
        (Some(apply), _) => {
            format!("  {:<20} {} apply {apply} ({:.0} ms)\n", push.machine, paint.wrap("32", "told"), push.took_ms)
        }
        (None, error) => format!(
            "  {:<20} {} {}\n  {:<20} it follows by its long poll as soon as it reaches this leader\n",
            push.machine,
            paint.wrap("31", "not reached:"),
            error.as_deref().unwrap_or_default(),
            ""
        ),
    };
    pushes.iter().map(line).collect()
}

/// What it runs, and how that is to what it should.
pub(super) fn runs(machine: &Machine, fleet: &Fleet) -> String {
    let status = machine.status.as_ref();
    let running = status.and_then(|status| status.running.as_ref());
    if let Some(failed) = failed(machine, fleet) {
        return match running {
            Some(running) if running.revision != failed => format!("FAILED({failed}), RUNNING({})", running.revision),
            _ => format!("FAILED({failed})"),
        };
    }
    match running {
        None => "-".to_owned(),
        Some(running) if running.digest != machine.wanted => format!("{} (behind)", running.revision),
        Some(_) if machine.offered == fleet.revision || machine.offered == 0 => format!("{} (current)", fleet.revision),
        Some(_) => match fleet.rollout.as_ref().map(|rollout| rollout.phase) {
            Some(Phase::Returned | Phase::Stopped) => format!("{} (not {})", machine.offered, fleet.revision),
            _ => format!("{} (waits)", machine.offered),
        },
    }
}

/// The revision that failed on a machine and is not run there: as its follower says, or as the rollout remembers.
fn failed(machine: &Machine, fleet: &Fleet) -> Option<u64> {
    let said = machine.status.as_ref().and_then(|status| status.failed.as_ref()).map(|failed| failed.revision);
    let remembered = || {
        let rollout = fleet.rollout.as_ref()?;
        let member = rollout.machines.iter().find(|member| member.name == machine.name)?;
        (member.state == MemberState::Failed).then_some(rollout.revision)
    };
    said.or_else(remembered)
}

/// What was done and left alone, and why: of the last apply that changed something or failed.
pub(super) fn details(machine: &Machine) -> Vec<String> {
    let Some(status) = &machine.status else { return Vec::new() };
    let Some(apply) =
        status.last_change.as_ref().filter(|apply| apply.error.is_none() || status.state == State::Failed)
    else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    // What fails before it is written is refused as a whole: nothing of it will be done.
    let begun = apply.error.is_none() || apply.actions.iter().any(|action| action.outcome != Outcome::Pending);
    for action in &apply.actions {
        let how = match action.outcome {
            Outcome::Pending if !begun => "not begun",
            Outcome::Pending => "owed",
            Outcome::Proven => "proven",
            Outcome::Failed => "FAILED",
        };
        let name = action.container.as_deref().unwrap_or(&action.service);
        let told = match action.outcome {
            Outcome::Pending => String::new(),
            _ => format!("; {}, {:.0} ms", paragraph(&action.detail), action.took_ms),
        };
        lines.push(format!("{} {name}: {how} ({}{told})", action.verb, printable(&action.why)));
    }
    lines.extend(apply.left_alone.iter().map(|left| format!("left alone {}: {}", left.service, printable(&left.why))));
    lines.extend(apply.notes.iter().map(|note| format!("note: {}", printable(note))));
    lines.extend(apply.error.iter().map(|error| format!("FAILED revision {}: {}", apply.revision, paragraph(error))));
    lines
}

#[cfg(test)]
mod tests {
    use super::super::trouble::tests::machine;
    use super::*;
    use lockstep_shared::api::Apply;

    #[test]
    fn what_was_refused_as_a_whole_is_not_owed() {
        let told = |other: &str, error: &str| {
            let apply = format!(
                r#"{{"id":"a","revision":18,"digest":null,"files":[],"left_alone":[],"notes":[],"error":{error},"took_ms":[],"actions":[{other}
                {{"service":"web","container":"web-1","verb":"restart","why":"x changed","outcome":"pending","detail":"","took_ms":0}}]}}"#
            );
            let mut machine = machine("core-1");
            let status = machine.status.as_mut().unwrap();
            status.state = State::Failed;
            status.last_change = Some(serde_json::from_str::<Apply>(&apply).unwrap());
            details(&machine)
        };
        let done = r#"{"service":"db","container":"db-1","verb":"restart","why":"y changed","outcome":"failed","detail":"it died","took_ms":7},"#;
        assert_eq!(told("", r#""nothing was changed: no""#)[0], "restart web-1: not begun (x changed)");
        assert_eq!(told("", "null")[0], "restart web-1: owed (x changed)");
        let both = told(done, r#""the files are written, but db died""#);
        assert_eq!(both[..2], ["restart db-1: FAILED (y changed; it died, 7 ms)", "restart web-1: owed (x changed)"]);
    }
}
