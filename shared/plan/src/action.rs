//! What is done to a container: the verbs, and one planned action.

use crate::volumes::Fill;
use lockstep_shared::{OnChange, SafePath};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is done to a container, cheapest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Nothing: the service reads the file by itself; only the proof is taken.
    None,
    /// Signals and commands in the running container, in this order; holds
    /// only [`OnChange::Signal`] and [`OnChange::Exec`].
    Live(Vec<OnChange>),
    /// The engine's restart.
    Restart,
    /// Handed to compose, which recreates it if its definition really differs.
    Converge,
    /// Recreated by compose, whether or not compose sees a difference.
    Recreate,
    /// Created by compose: there is no container yet.
    Create,
    /// Stopped and removed: its service left the compose file.
    Remove,
    /// Files of a named volume are written and removed. Stands alone: an action on a volume, not on a container.
    Fill(Box<Fill>),
}

impl Verb {
    /// The verb that does what both do.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Live(mut steps), Self::Live(more)) => {
                for step in more {
                    if !steps.contains(&step) {
                        steps.push(step);
                    }
                }
                Self::Live(steps)
            }
            // Compose may find nothing to do, and then nothing would re-read the files.
            (Self::Converge, Self::Restart | Self::Live(_)) | (Self::Restart | Self::Live(_), Self::Converge) => {
                Self::Recreate
            }
            (one, two) => {
                if one.strength() >= two.strength() {
                    one
                } else {
                    two
                }
            }
        }
    }

    fn strength(&self) -> u8 {
        match self {
            Self::None => 0,
            Self::Live(_) => 1,
            Self::Restart => 2,
            Self::Converge => 3,
            Self::Recreate => 4,
            Self::Create => 5,
            Self::Remove => 6,
            Self::Fill(_) => 7,
        }
    }

    /// Whether compose does it, for the whole service.
    pub fn is_composed(&self) -> bool {
        matches!(self, Self::Converge | Self::Recreate | Self::Create)
    }
}

impl From<OnChange> for Verb {
    fn from(verb: OnChange) -> Self {
        match verb {
            OnChange::None => Self::None,
            OnChange::Restart => Self::Restart,
            OnChange::Recreate => Self::Recreate,
            live @ (OnChange::Signal(_) | OnChange::Exec(_)) => Self::Live(vec![live]),
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Live(steps) => {
                for (index, step) in steps.iter().enumerate() {
                    write!(f, "{}{step}", if index > 0 { ", " } else { "" })?;
                }
                Ok(())
            }
            Self::Restart => f.write_str("restart"),
            Self::Converge | Self::Recreate => f.write_str("recreate"),
            Self::Create => f.write_str("create"),
            Self::Remove => f.write_str("remove"),
            Self::Fill(_) => f.write_str("fill"),
        }
    }
}

/// One planned action: on one container, or, where compose does it, on one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// The compose service.
    pub service: String,
    /// The container's name; `None` where compose acts on the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// What is done.
    pub verb: Verb,
    /// What made it necessary, for people.
    pub why: String,
    /// The files that made it necessary: the proof looks at these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<SafePath>,
    /// The services among the plan's that have to be done before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
}

impl Action {
    /// What it does to a volume, if it is about one.
    pub fn fill(&self) -> Option<&Fill> {
        match &self.verb {
            Verb::Fill(fill) => Some(fill),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(step: &str) -> Verb {
        OnChange::try_from(step.to_owned()).unwrap().into()
    }

    #[test]
    fn the_strongest_verb_wins_and_live_steps_add_up() {
        let both = live("signal:HUP").and(live("exec:[\"a\"]")).and(live("signal:HUP"));
        assert_eq!(both.to_string(), "signal:HUP, exec:[\"a\"]");
        assert_eq!(both.clone().and(Verb::None), both);
        assert_eq!(both.clone().and(Verb::Restart), Verb::Restart);
        assert_eq!(Verb::Recreate.and(Verb::Restart), Verb::Recreate);
        assert_eq!(Verb::Restart.and(Verb::Converge), Verb::Recreate);
        assert_eq!(Verb::None.and(Verb::Converge), Verb::Converge);
    }
}
