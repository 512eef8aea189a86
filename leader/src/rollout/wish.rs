//! What people want of a rollout: that it goes on, stops, or is taken back.

use super::state::{End, Phase, Progress, Rollout, State};
use super::step::Effect;

impl State {
    pub(super) fn resume(&mut self, who: &str, now: i64, effects: &mut Vec<Effect>) -> Result<(), String> {
        let Some(rollout) = &mut self.rollout else { return Err(nothing()) };
        match &rollout.phase {
            Phase::Pausing { .. } => rollout.phase = Phase::Pausing { until: now },
            Phase::Stopped(_) => {
                rollout.phase = Phase::Running;
                for member in rollout.members.values_mut().filter(|member| member.wave <= rollout.wave) {
                    if matches!(member.progress, Progress::Held | Progress::Failed) {
                        member.begin_again(Progress::Offered, now);
                    }
                }
            }
            Phase::Returned(_) => {
                // All over again: nobody has it any more.
                (rollout.phase, rollout.wave) = (Phase::Running, 0);
                rollout.proven.clear();
                for member in rollout.members.values_mut() {
                    member.before = member.good.clone().or(member.before.take());
                    member.begin_again(if member.wave == 0 { Progress::Offered } else { Progress::Waiting }, now);
                }
            }
            _ => return Err(over(rollout, "resumed")),
        }
        effects.push(Effect::Note("rollout resumed", format!("revision {}, by {who}", rollout.revision)));
        effects.extend(rollout.members.keys().cloned().map(Effect::Shown));
        effects.extend([Effect::Keep(None), Effect::Offer]);
        Ok(())
    }

    pub(super) fn stop(&mut self, who: &str, now: i64, effects: &mut Vec<Effect>) -> Result<(), String> {
        let Some(rollout) = &self.rollout else { return Err(nothing()) };
        if !rollout.is_running() {
            return Err(over(rollout, "stopped"));
        }
        self.hold(End { at: now, machine: None, why: format!("stopped by {who}") }, effects);
        Ok(())
    }

    pub(super) fn abort(&mut self, who: &str, now: i64, effects: &mut Vec<Effect>) -> Result<(), String> {
        let Some(rollout) = &self.rollout else { return Err(nothing()) };
        if !rollout.is_running() && !matches!(rollout.phase, Phase::Stopped(_)) {
            return Err(over(rollout, "aborted"));
        }
        self.take_back(End { at: now, machine: None, why: format!("aborted by {who}") }, effects);
        Ok(())
    }
}

fn nothing() -> String {
    "there is no rollout: nothing was published since this leader began".to_owned()
}

fn over(rollout: &Rollout, what: &str) -> String {
    let revision = rollout.revision;
    match &rollout.phase {
        Phase::Done { .. } => format!(
            "the rollout of revision {revision} is through and can't be {what}: lockstep rollback goes back (lockstep history shows whereto)"
        ),
        Phase::Stopped(_) => format!(
            "the rollout of revision {revision} is stopped already: lockstep rollout resume goes on, lockstep rollout abort takes it back"
        ),
        Phase::Returned(_) => format!(
            "the rollout of revision {revision} is taken back already: lockstep rollout resume tries it again, lockstep publish brings something better"
        ),
        Phase::Replaced { by, .. } => format!("the rollout of revision {revision} was replaced by revision {by}"),
        Phase::Running | Phase::Pausing { .. } => {
            format!("the rollout of revision {revision} goes on and can't be {what}: lockstep rollout shows it")
        }
    }
}
