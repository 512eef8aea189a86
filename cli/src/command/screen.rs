//! The fleet on one screen: what is published, its rollout, a row for each
//! machine, and below what is wrong and what to do about it. Pure.

use super::show::{Paint, details, runs};
use super::trouble::{Grade, Trouble, ago, offset, troubles};
use super::{counted, rollout};
use crate::moment;
use crate::printable::printable;
use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use lockstep_leader::history::Entry;
use lockstep_shared::api::{Fleet, Machine, State};
use lockstep_shared::rollout::Phase;

/// Below so many columns, only what matters most is shown.
const NARROW: u16 = 76;

/// With more machines than this, what was done on each is left to `--details`.
const FEW: usize = 12;

/// Lines on a screen that are not rows of machines.
const AROUND: usize = 12;

/// How it is looked at.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct View {
    /// Columns of the terminal; `None` where there is none.
    pub(super) width: Option<u16>,
    /// Its lines.
    pub(super) height: Option<u16>,
    /// Also what was done on each machine, however many there are.
    pub(super) details: bool,
    /// Only machines with something wrong.
    pub(super) bad: bool,
}

/// A machine and what is wrong with it.
struct Row<'f> {
    machine: &'f Machine,
    troubles: Vec<Trouble>,
}

impl Row<'_> {
    /// The worst first, then by name.
    fn rank(&self) -> (u8, &str) {
        let grade = match self.troubles.first().map(|trouble| trouble.grade) {
            Some(Grade::Bad) => 0,
            Some(Grade::Odd) => 1,
            None => 2,
        };
        (grade, self.machine.name.as_str())
    }
}

/// The whole screen.
pub(super) fn screen(fleet: &Fleet, published: Option<&Entry>, now: i64, view: View, paint: Paint) -> String {
    let mut rows: Vec<Row> =
        fleet.machines.iter().map(|machine| Row { machine, troubles: troubles(machine, fleet, now) }).collect();
    rows.sort_by(|one, other| one.rank().cmp(&other.rank()));
    let well = rows.iter().filter(|row| row.troubles.is_empty()).count();
    let mut out = head(fleet, published, now, paint);
    out += &format!("machines: {}\n", tally(rows.len(), well, paint));
    if view.bad {
        rows.retain(|row| !row.troubles.is_empty());
    }
    let left_out = fit(&mut rows, view.height);
    if !rows.is_empty() {
        out += &format!("{}\n", table(&rows, fleet, now, view.width, paint));
    }
    if left_out > 0 {
        out += &format!("and {left_out} more, all well (lockstep status --all)\n");
    }
    for row in &rows {
        for Trouble { grade, what, next } in &row.troubles {
            let colour = if *grade == Grade::Bad { "31" } else { "33" };
            out += &format!("{}: {}\n", row.machine.name, paint.wrap(colour, what));
            if !next.is_empty() {
                out += &format!("    {next}\n");
            }
        }
    }
    if view.details || rows.len() <= FEW {
        for row in &rows {
            // What failed stands above.
            let lines = details(row.machine).into_iter().filter(|line| !line.starts_with("FAILED revision"));
            for line in lines.chain(super::drift::lines(row.machine, paint)) {
                out += &format!("{}: {line}\n", row.machine.name);
            }
        }
    }
    out
}

/// Leaves out machines that are well, where the screen is too low for all; how many.
fn fit(rows: &mut Vec<Row>, height: Option<u16>) -> usize {
    let Some(height) = height else { return 0 };
    let ill = rows.iter().filter(|row| !row.troubles.is_empty()).count();
    let room = usize::from(height).saturating_sub(AROUND).max(FEW).max(ill);
    let left_out = rows.len().saturating_sub(room);
    rows.truncate(room);
    left_out
}

fn head(fleet: &Fleet, published: Option<&Entry>, now: i64, paint: Paint) -> String {
    let mut out = format!("published: revision {}", fleet.revision);
    if let Some(entry) = published.filter(|entry| entry.number == fleet.revision) {
        let when = moment::parse(&entry.time).map_or_else(|_| String::new(), |time| format!(" ({})", ago(now - time)));
        out += &format!(", {}{when}, by {}", moment::local(&entry.time), printable(&entry.author));
        if !entry.message.is_empty() {
            out += &format!(": {}", printable(&entry.message));
        }
    }
    out.push('\n');
    if let Some(rollout) = fleet.rollout.as_ref().filter(|rollout| rollout.phase != Phase::Done) {
        out += &format!("rollout: {}\n", rollout::phase(rollout, paint));
    }
    out
}

fn tally(all: usize, well: usize, paint: Paint) -> String {
    match all - well {
        _ if all == 0 => "none yet: lockstep tokens create --role ROLE says what to type on the next one".to_owned(),
        0 => paint.wrap("32", &format!("{all}, all well")),
        ill => paint.wrap("33", &format!("{all}, {ill} of them with something to look at")),
    }
}

fn table(rows: &[Row], fleet: &Fleet, now: i64, width: Option<u16>, paint: Paint) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(width) = width {
        table.set_width(width);
    }
    let narrow = width.is_some_and(|width| width < NARROW);
    // Columns that say nothing of anybody are left out; where there is little room, the lines below say it.
    let drifts = !narrow && rows.iter().any(|row| drift(row.machine) > 0);
    let clocks = !narrow && rows.iter().any(|row| clock(row).is_some());
    let mut heads = vec!["machine", "role", "runs", "state", "containers", "heard"];
    if narrow {
        heads.retain(|head| !matches!(*head, "role" | "heard"));
    }
    if drifts {
        heads.push("drift");
    }
    if clocks {
        heads.push("clock");
    }
    table.set_header(heads);
    for row in rows {
        let machine = row.machine;
        let mut cells = vec![machine.name.to_string()];
        if !narrow {
            cells.push(machine.role.to_string());
        }
        cells.extend([runs(machine, fleet), state(machine, paint), containers(machine)]);
        if !narrow {
            cells.push(machine.seen.filter(|seen| *seen > 0).map_or("never".to_owned(), |seen| ago(now - seen)));
        }
        if drifts {
            cells.push(match drift(machine) {
                0 => "-".to_owned(),
                files => counted(files, "file"),
            });
        }
        if clocks {
            cells.push(clock(row).unwrap_or_else(|| "right".to_owned()));
        }
        table.add_row(cells);
    }
    table
}

fn drift(machine: &Machine) -> usize {
    machine.status.as_ref().map_or(0, |status| status.drift.len())
}

fn clock(row: &Row) -> Option<String> {
    row.machine.clock_ahead.filter(|ahead| ahead.unsigned_abs() >= 30).map(offset)
}

fn state(machine: &Machine, paint: Paint) -> String {
    match machine.status.as_ref().map(|status| status.state) {
        None => paint.wrap("33", "silent"),
        Some(State::New) => "new".to_owned(),
        Some(State::Applying) => paint.wrap("36", "applying"),
        Some(State::Applied) => paint.wrap("32", "applied"),
        Some(State::Failed) => paint.wrap("31", "FAILED"),
    }
}

fn containers(machine: &Machine) -> String {
    let Some(status) = &machine.status else { return "-".to_owned() };
    if !status.engine {
        return "no engine".to_owned();
    }
    let well = status
        .containers
        .iter()
        .filter(|container| container.state == "running" && container.health != "unhealthy")
        .count();
    format!("{well} of {} up", status.containers.len())
}

#[cfg(test)]
mod tests {
    use super::super::trouble::tests::{fleet, machine};
    use super::*;

    #[test]
    fn two_hundred_machines_fit_and_the_worst_are_first() {
        let mut machines: Vec<Machine> = (0..200).map(|number| machine(&format!("core-{number:03}"))).collect();
        machines[150].seen = Some(1);
        machines[70].clock_ahead = Some(45);
        let fleet = fleet(machines);
        let view = View { width: Some(100), height: Some(40), ..View::default() };
        let screen = super::screen(&fleet, None, 1000, view, Paint::plain());
        assert!(screen.lines().count() < 45, "{screen}");
        let place = |name: &str| screen.find(name).unwrap_or_else(|| panic!("{name} in {screen}"));
        assert!(place("core-150") < place("core-070") && place("core-070") < place("core-000"), "{screen}");
        assert!(screen.contains("and 172 more, all well") && screen.contains("200, 2 of them with"), "{screen}");
        assert!(screen.contains("45 s ahead") && screen.contains("timedatectl"), "{screen}");
        let bad = super::screen(&fleet, None, 1000, View { bad: true, ..View::default() }, Paint::plain());
        assert!(!bad.contains("core-000") && bad.contains("core-150"), "{bad}");
        let narrow = View { width: Some(50), height: Some(40), ..View::default() };
        let screen = super::screen(&fleet, None, 1000, narrow, Paint::plain());
        let table = screen.lines().filter(|line| line.starts_with(" core-0"));
        assert!(table.clone().count() > 5 && table.clone().all(|line| line.chars().count() <= 60), "{screen}");
    }
}
