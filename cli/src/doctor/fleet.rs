//! What the leader knows of its followers: versions, and who is silent or failed.

use super::{Finding, Level, fine, found};
use crate::command::{Grade, counted, troubles};
use lockstep_shared::api::Fleet;
use std::collections::BTreeMap;

/// How many machines are named.
const NAMED: usize = 5;

pub(super) fn judge(fleet: &Fleet, version: &str, now: i64) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut others: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for machine in &fleet.machines {
        if let Some(status) =
            machine.status.as_ref().filter(|status| status.version != version && !status.version.is_empty())
        {
            others.entry(&status.version).or_default().push(machine.name.as_str());
        }
    }
    for (other, machines) in &others {
        findings.push(found(
            "versions",
            Level::Warning,
            format!(
                "{} run{} lockstep {other}, the leader {version}",
                named(machines),
                if machines.len() == 1 { "s" } else { "" }
            ),
            "followers are upgraded after their leader, and soon: what a newer one writes an older one may not know",
            "install the leader's version there and restart the follower; lockstep upgrade says what changes",
        ));
    }
    let ill = |grade: Grade| {
        let ill = fleet
            .machines
            .iter()
            .filter(|machine| troubles(machine, fleet, now).first().is_some_and(|trouble| trouble.grade == grade));
        ill.map(|machine| machine.name.as_str()).collect::<Vec<_>>()
    };
    for (grade, level) in [(Grade::Bad, Level::Broken), (Grade::Odd, Level::Note)] {
        let machines = ill(grade);
        if !machines.is_empty() {
            findings.push(found(
                "machines",
                level,
                format!("{} to look at: {}", counted(machines.len(), "machine"), named(&machines)),
                "they failed, are silent, behind, or have a clock that is off",
                "lockstep status --bad",
            ));
        }
    }
    if findings.is_empty() {
        findings.push(fine(
            "machines",
            match fleet.machines.len() {
                0 => "there are no machines yet".to_owned(),
                1 => "the one machine is well".to_owned(),
                all => format!("all {all} machines are well"),
            },
        ));
    }
    findings
}

fn named(machines: &[&str]) -> String {
    let mut text = machines[..machines.len().min(NAMED)].join(", ");
    if machines.len() > NAMED {
        text += &format!(" and {} more", machines.len() - NAMED);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::trouble_tests::{fleet, machine};

    #[test]
    fn other_versions_and_ill_machines_are_told() {
        let mut one = machine("core-1");
        one.status.as_mut().unwrap().version = "0.1.0".into();
        assert_eq!(judge(&fleet(vec![one.clone()]), "0.1.0", 1000)[0].level, Level::Fine);
        let findings = judge(&fleet(vec![one.clone()]), "0.2.0", 1000);
        assert!(findings[0].what.contains("core-1 runs lockstep 0.1.0, the leader 0.2.0"), "{findings:?}");
        one.seen = Some(1);
        assert_eq!(judge(&fleet(vec![one]), "0.1.0", 1000)[0].level, Level::Broken);
    }
}
