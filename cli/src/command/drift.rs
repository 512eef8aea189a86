//! Files that somebody else changed on a machine, as `lockstep status` shows them.

use super::show::Paint;
use lockstep_shared::api::Machine;

/// One line a file, and below it what is different.
pub(super) fn lines(machine: &Machine, paint: Paint) -> Vec<String> {
    let mut lines = Vec::new();
    for drift in machine.status.iter().flat_map(|status| &status.drift) {
        let what_then = if drift.repaired { "written again" } else { "left as it is" };
        let said = format!("drift: {}: {} ({what_then})", drift.path, drift.what);
        lines.push(if drift.repaired { said } else { paint.wrap("33", &said) });
        lines.extend(drift.diff.lines().map(|line| format!("  {}", paint.diff_line(line))));
    }
    lines
}
