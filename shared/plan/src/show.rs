//! The plan as a person reads it.

use super::{Plan, waves};
use crate::steps::How;
use lockstep_shared::api::Change;
use std::fmt;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "revision {} of role {}", self.revision, self.role)?;
        for write in &self.steps.write {
            let sign = if write.change == Change::Added { '+' } else { '~' };
            let how = match write.how {
                How::Rename => "",
                How::InPlace => ", in place",
                How::OverFolder => ", over the empty folder there",
            };
            let owner = write.owner.map(|owner| format!(" {owner}")).unwrap_or_default();
            writeln!(f, "  {sign} {} ({}{owner}{how})", write.path, write.mode)?;
        }
        for path in &self.steps.remove {
            writeln!(f, "  - {path}")?;
        }
        for folder in &self.steps.folders {
            writeln!(f, "  + {folder}/")?;
        }
        for check in &self.checks {
            let place = check.service.as_ref().map(|service| format!(" in {service}")).unwrap_or_default();
            writeln!(f, "  check {}{place}: {}", check.path, check.command.join(" "))?;
        }
        for (number, wave) in waves(&self.actions).iter().enumerate() {
            for action in wave.iter().map(|index| &self.actions[*index]) {
                let container = action.container.as_deref().unwrap_or("-");
                writeln!(f, "  {}. {} {} ({container}): {}", number + 1, action.verb, action.service, action.why)?;
            }
        }
        for action in &self.deferred {
            writeln!(f, "  later: {} {}: {}", action.verb, action.service, action.why)?;
        }
        for left in &self.left_alone {
            writeln!(f, "  {} is left alone: {}", left.service, left.why)?;
        }
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        if self.is_empty() { writeln!(f, "  nothing to do") } else { Ok(()) }
    }
}
