//! How a revision goes out: in which waves, how many machines of a role may
//! restart at a time, and what a failure does. From `config-leader.json`, with
//! what a publication says over it.

use lockstep_shared::Name;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use utoipa::ToSchema;

/// The strategy of one rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Strategy {
    /// Machines that come before all waves, in a wave of their own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub canary: Vec<Name>,
    /// How many machines have the revision by the end of each wave; the rest follows in a last one. Empty: all at once.
    #[serde(deserialize_with = "shares")]
    pub waves: Vec<Share>,
    /// How many machines of a role may restart containers at a time.
    pub max_unavailable: Share,
    /// Seconds between the end of a wave and the next.
    pub pause_seconds: u64,
    /// Seconds that a machine may take before it counts as failed.
    pub patience_seconds: u64,
    /// What a failure does.
    pub on_failure: OnFailure,
    /// Whether the first restart in each role is alone in the whole fleet until it is proven.
    pub first_alone: bool,
    /// What is otherwise for a role.
    pub roles: BTreeMap<Name, ForRole>,
}

/// What is otherwise for a role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ForRole {
    /// Waves of its own machines, counted among these alone.
    #[serde(deserialize_with = "some_shares", skip_serializing_if = "Option::is_none")]
    pub waves: Option<Vec<Share>>,
    /// How many of its machines may restart containers at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<Share>,
}

/// What a failure does to a rollout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// No further machine gets the revision; those that have it keep it.
    Stop,
    /// The same, and those that have it are offered the last good one again.
    #[default]
    Return,
    /// The others go on.
    Continue,
}

/// A number of machines, or a percentage of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// So many; at least 1.
    Number(u32),
    /// So many of a hundred; 1 to 100.
    Percent(u32),
}

/// Why a strategy can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadStrategy {
    /// Not a number of machines.
    #[error("{0:?} is no number of machines: write a number from 1, or a percentage from 1% to 100%")]
    Share(String),
    /// Waves that don't grow.
    #[error(
        "{0} doesn't grow from {1} to {2}: each wave says how many machines have the revision by its end, e.g. 1,25%,100%"
    )]
    Shrinking(String, Share, Share),
    /// No time at all for a machine.
    #[error("{0} is too short: give a machine at least 10 s before it counts as failed")]
    Patience(String),
    /// All at once and in waves.
    #[error("all at once leaves no room for waves, a canary or a limit: leave out one or the other")]
    AtOnce,
    /// A pause between waves that aren't there.
    #[error(
        "a pause is between waves, and there are none: add waves (--waves 1,25%,100%) or a canary (--canary), or leave out the pause"
    )]
    NothingToPause,
}

/// What one publication wants otherwise than `config-leader.json` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Wish {
    /// One machine first: these, or (an empty list) one of the leader's choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<Vec<Name>>,
    /// How many machines have the revision by the end of each wave: `1`, `25%`, `100%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub waves: Option<Vec<Share>>,
    /// How many machines of a role may restart at a time: `2`, `25%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub max_unavailable: Option<Share>,
    /// Seconds between waves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_seconds: Option<u64>,
    /// What a failure does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// Everybody now: no waves, no order, no limit.
    pub all_at_once: bool,
}

impl Default for Strategy {
    fn default() -> Self {
        Self {
            canary: Vec::new(),
            waves: Vec::new(),
            max_unavailable: Share::Number(1),
            pause_seconds: 0,
            patience_seconds: 900,
            on_failure: OnFailure::Return,
            first_alone: true,
            roles: BTreeMap::new(),
        }
    }
}

impl Strategy {
    /// Refuses what makes no sense; `place` is where it is written.
    pub fn check(&self, place: &str) -> Result<(), BadStrategy> {
        grows(&format!("{place}.waves"), &self.waves)?;
        for (role, own) in &self.roles {
            grows(&format!("{place}.roles.{role}.waves"), own.waves.as_deref().unwrap_or_default())?;
        }
        if self.patience_seconds < 10 {
            return Err(BadStrategy::Patience(format!("{place}.patienceSeconds")));
        }
        Ok(())
    }

    /// The same with a publication's wishes over it.
    pub fn with(&self, wish: &Wish) -> Result<Self, BadStrategy> {
        let mut own = self.clone();
        if wish.all_at_once {
            if wish.canary.is_some() || wish.waves.is_some() || wish.max_unavailable.is_some() {
                return Err(BadStrategy::AtOnce);
            }
            (own.canary, own.waves, own.roles) = (Vec::new(), Vec::new(), BTreeMap::new());
            (own.max_unavailable, own.first_alone) = (Share::Percent(100), false);
        }
        if let Some(waves) = &wish.waves {
            grows("waves", waves)?;
            own.waves.clone_from(waves);
            own.roles.values_mut().for_each(|role| role.waves = None);
        }
        if let Some(canary) = &wish.canary {
            own.canary.clone_from(canary);
            if canary.is_empty() && own.waves.first() != Some(&Share::Number(1)) {
                own.waves.insert(0, Share::Number(1));
            }
        }
        if let Some(most) = wish.max_unavailable {
            own.max_unavailable = most;
            own.roles.values_mut().for_each(|role| role.max_unavailable = None);
        }
        own.pause_seconds = wish.pause_seconds.unwrap_or(own.pause_seconds);
        own.on_failure = wish.on_failure.unwrap_or(own.on_failure);
        if wish.pause_seconds.is_some_and(|pause| pause > 0) && !own.has_waves() {
            return Err(BadStrategy::NothingToPause);
        }
        Ok(own)
    }

    /// Whether machines come one after the other, and not all at once.
    pub fn has_waves(&self) -> bool {
        !self.canary.is_empty() || !self.waves.is_empty() || self.roles.values().any(|role| role.waves.is_some())
    }

    /// How many machines of a role, which has so many in all, may restart at a time.
    pub fn most_unavailable(&self, role: &Name, of: usize) -> usize {
        let own = self.roles.get(role).and_then(|own| own.max_unavailable);
        // Rounded down: a quarter of three machines is no reason to lose one more than none; but one always may.
        match own.unwrap_or(self.max_unavailable) {
            Share::Number(number) => number as usize,
            Share::Percent(percent) => (of * percent as usize / 100).max(1),
        }
    }
}

impl fmt::Display for Strategy {
    /// In words, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = |shares: &[Share]| shares.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if !self.canary.is_empty() {
            let names: Vec<&str> = self.canary.iter().map(Name::as_str).collect();
            write!(f, "first {}; then ", names.join(", "))?;
        }
        match self.waves.as_slice() {
            [] => f.write_str("all machines")?,
            waves => write!(f, "waves of {}", listed(waves))?,
        }
        for (role, own) in self.roles.iter().filter_map(|(role, own)| Some((role, own.waves.as_ref()?))) {
            write!(f, ", {role} {}", listed(own))?;
        }
        match self.max_unavailable {
            Share::Percent(100) => f.write_str("; restarts without limit")?,
            most => write!(f, "; at most {most} of a role restarting")?,
        }
        if self.pause_seconds > 0 {
            write!(f, "; {} s between waves", self.pause_seconds)?;
        }
        f.write_str(match self.on_failure {
            OnFailure::Stop => "; a failure stops it",
            OnFailure::Return => "; a failure returns it",
            OnFailure::Continue => "; failures are passed over",
        })
    }
}

/// Whether waves of one kind grow; a number and a percentage can't be compared without knowing the fleet.
fn grows(place: &str, waves: &[Share]) -> Result<(), BadStrategy> {
    for pair in waves.windows(2) {
        let shrinks = match (pair[0], pair[1]) {
            (Share::Number(one), Share::Number(next)) | (Share::Percent(one), Share::Percent(next)) => next <= one,
            _ => false,
        };
        if shrinks {
            return Err(BadStrategy::Shrinking(place.to_owned(), pair[0], pair[1]));
        }
    }
    Ok(())
}

impl Share {
    /// Of so many machines; rounded up, so that a wave is never empty.
    pub fn of(self, all: usize) -> usize {
        match self {
            Self::Number(number) => (number as usize).min(all),
            Self::Percent(percent) => (all * percent as usize).div_ceil(100),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl FromStr for Share {
    type Err = BadStrategy;
    fn from_str(text: &str) -> Result<Self, BadStrategy> {
        let bad = || BadStrategy::Share(text.to_owned());
        let text = text.trim();
        match text.strip_suffix('%') {
            Some(percent) => match percent.trim().parse() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                _ => Err(bad()),
            },
            None => text.parse().ok().filter(|number| *number > 0).map(Self::Number).ok_or_else(bad),
        }
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    /// From `2`, `"2"` or `"25%"`.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        share(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

fn share(value: &Value) -> Result<Share, BadStrategy> {
    match value {
        Value::String(text) => text.parse(),
        other => other.to_string().parse(),
    }
}

/// From a list, or, as the environment has it, `1,25%,100%`.
fn shares<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Share>, D::Error> {
    let listed = match Value::deserialize(deserializer)? {
        Value::Array(items) => items.iter().map(share).collect(),
        Value::String(text) => text.split(',').map(str::parse).collect(),
        Value::Null => Ok(Vec::new()),
        other => share(&other).map(|one| vec![one]),
    };
    listed.map_err(D::Error::custom)
}

fn some_shares<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Share>>, D::Error> {
    shares(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn read(text: &str) -> Result<Strategy, String> {
        let strategy: Strategy = serde_json::from_str(text).map_err(|error| error.to_string())?;
        strategy.check("rollout").map_err(|error| error.to_string())?;
        Ok(strategy)
    }

    #[test]
    fn what_can_be_written() {
        let strategy =
            read(r#"{"waves": [1, "25%", "100%"], "maxUnavailable": 2, "roles": {"core": {"waves": "1,50%"}}}"#)
                .unwrap();
        assert_eq!(strategy.waves, [Share::Number(1), Share::Percent(25), Share::Percent(100)]);
        assert_eq!(strategy.roles[&name("core")].waves, Some(vec![Share::Number(1), Share::Percent(50)]));
        assert_eq!(serde_json::from_str::<Strategy>(&serde_json::to_string(&strategy).unwrap()).unwrap(), strategy);
        assert_eq!(read("{}").unwrap(), Strategy::default());
        assert_eq!(read(r#"{"waves": "1"}"#).unwrap().waves, [Share::Number(1)]);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, wanted) in [
            (r#"{"waves": ["0%"]}"#, "\"0%\" is no number of machines"),
            (r#"{"maxUnavailable": 0}"#, "\"0\" is no number"),
            (r#"{"maxUnavailable": 1.5}"#, "\"1.5\" is no number"),
            (r#"{"waves": ["25%", "10%"]}"#, "rollout.waves doesn't grow from 25% to 10%"),
            (r#"{"roles": {"core": {"waves": [2, 2]}}}"#, "rollout.roles.core.waves doesn't grow from 2 to 2"),
            (r#"{"patienceSeconds": 1}"#, "rollout.patienceSeconds is too short"),
            (r#"{"onFailure": "shrug"}"#, "unknown variant `shrug`"),
            (r#"{"wave": 1}"#, "unknown field `wave`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn a_publication_may_want_it_otherwise() {
        let config = read(r#"{"waves": ["50%"], "roles": {"core": {"maxUnavailable": "10%"}}}"#).unwrap();
        let canary = config.with(&Wish { canary: Some(Vec::new()), ..Wish::default() }).unwrap();
        assert_eq!(canary.waves, [Share::Number(1), Share::Percent(50)]);
        let named = config.with(&Wish { canary: Some(vec![name("core-2")]), ..Wish::default() }).unwrap();
        assert_eq!((named.canary.len(), named.waves.len()), (1, 1));
        let all = config.with(&Wish { all_at_once: true, ..Wish::default() }).unwrap();
        assert!(!all.has_waves() && !all.first_alone && all.most_unavailable(&name("core"), 12) == 12);
        let both = Wish { all_at_once: true, canary: Some(Vec::new()), ..Wish::default() };
        assert_eq!(config.with(&both), Err(BadStrategy::AtOnce));
        assert_eq!(config.most_unavailable(&name("core"), 4), 1);
        assert_eq!(config.most_unavailable(&name("core"), 40), 4);
        assert_eq!(config.most_unavailable(&name("web"), 40), 1);
    }
}
