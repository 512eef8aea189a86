//! Whether the service runs, now and after a reboot; how many files it may open.

use super::{Finding, Level, fine, found, output};
use std::path::Path;

/// Connections beside those of followers: the store, people, containers.
const BESIDE: u64 = 256;

/// A systemd unit, as `systemctl show` tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) loaded: bool,
    pub(super) active: String,
    pub(super) enabled: bool,
    pub(super) restarts: u64,
}

/// How one side runs.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// `leader` or `follower`.
    pub(super) side: &'static str,
    pub(super) runs: bool,
    /// `None` without systemd.
    pub(super) unit: Option<Unit>,
    /// How many files the running process may open at most.
    pub(super) open_files: Option<u64>,
    /// How many machines connect to it.
    pub(super) machines: u64,
}

pub(super) fn gather(side: &'static str, runs: bool, pid: Option<u32>, machines: usize) -> Facts {
    let unit = Path::new("/run/systemd/system").is_dir().then(|| unit(side)).flatten();
    let open_files = pid.and_then(|pid| limit(&std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?));
    Facts { side, runs, unit, open_files, machines: machines as u64 }
}

fn unit(side: &str) -> Option<Unit> {
    let properties = "--property=LoadState,ActiveState,UnitFileState,NRestarts";
    output("systemctl", &["show", &format!("lockstep-{side}.service"), properties]).map(|said| read(&said))
}

fn read(said: &str) -> Unit {
    let mut unit = Unit::default();
    for (name, value) in said.lines().filter_map(|line| line.split_once('=')) {
        match name {
            "LoadState" => unit.loaded = value == "loaded",
            "ActiveState" => value.clone_into(&mut unit.active),
            "UnitFileState" => unit.enabled = value.starts_with("enabled"),
            "NRestarts" => unit.restarts = value.parse().unwrap_or_default(),
            _ => {}
        }
    }
    unit
}

/// The hard limit of open files: the service raises its own to that.
fn limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let side = facts.side;
    let unit = facts.unit.as_ref().filter(|unit| unit.loaded);
    let mut findings = Vec::new();
    let log = format!("lockstep logs {side}");
    match (unit, facts.runs) {
        (Some(unit), _) if unit.active == "failed" => findings.push(found(
            "service",
            Level::Broken,
            format!("the {side}'s unit has failed"),
            "it was started several times and ended each time",
            format!("{log}; then systemctl reset-failed lockstep-{side}, systemctl start lockstep-{side}"),
        )),
        (Some(_), false) => findings.push(found(
            "service",
            Level::Broken,
            format!("the {side} doesn't run"),
            "nothing is served or applied until it does",
            format!("systemctl start lockstep-{side}; {log}"),
        )),
        (None, false) => findings.push(found(
            "service",
            Level::Broken,
            format!("the {side} doesn't run"),
            "nothing is served or applied until it does",
            format!("lockstep {side} in the foreground, scripts/run-config-{side}, or the unit of deploy/"),
        )),
        (_, true) => findings.push(fine("service", format!("the {side} runs"))),
    }
    if let Some(unit) = unit {
        if !unit.enabled {
            findings.push(found(
                "service",
                Level::Warning,
                format!("the {side}'s unit is not enabled"),
                "it doesn't start after a reboot",
                format!("systemctl enable lockstep-{side}"),
            ));
        }
        if unit.restarts > 0 && unit.active != "failed" {
            findings.push(found(
                "service",
                Level::Warning,
                format!("systemd has restarted the {side} {} times", unit.restarts),
                "it ended without being asked to",
                format!("{log} says why; systemctl restart lockstep-{side} begins counting anew"),
            ));
        }
    }
    let wanted = facts.machines.saturating_mul(4) + BESIDE;
    if let Some(open_files) = facts.open_files.filter(|open_files| *open_files < wanted) {
        findings.push(found(
            "service",
            Level::Warning,
            format!("the {side} may open {open_files} files, and should be able to open {wanted}"),
            "each waiting machine is an open connection; further ones are left waiting",
            format!("systemctl edit lockstep-{side}: [Service] LimitNOFILE=65536; or ulimit -Hn before it is started"),
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_runs_and_comes_back() {
        let unit = read("LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nNRestarts=0\n");
        let facts = |runs, unit: &Unit, open_files| Facts {
            side: "leader",
            runs,
            unit: Some(unit.clone()),
            open_files: Some(open_files),
            machines: 100,
        };
        let levels = |facts: Facts| judge(&facts).iter().map(|finding| finding.level).collect::<Vec<_>>();
        assert_eq!(levels(facts(true, &unit, 65536)), [Level::Fine]);
        assert_eq!(levels(facts(false, &unit, 65536)), [Level::Broken]);
        assert_eq!(levels(facts(true, &unit, 512)), [Level::Fine, Level::Warning]);
        let off = Unit { enabled: false, ..unit.clone() };
        assert_eq!(levels(facts(true, &off, 65536)), [Level::Fine, Level::Warning]);
        let failed = Unit { active: "failed".into(), restarts: 5, ..unit.clone() };
        assert_eq!(levels(facts(false, &failed, 65536)), [Level::Broken]);
        let none = Facts { unit: None, ..facts(false, &unit, 65536) };
        assert!(judge(&none)[0].fix.contains("scripts/run-config-leader"));
        assert_eq!(limit("Max open files            1024                 524288               files\n"), Some(524_288));
    }
}
