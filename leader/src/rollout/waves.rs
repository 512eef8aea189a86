//! Which machine comes in which wave: a pure function of the strategy and of
//! who is there.

use super::strategy::{Share, Strategy};
use lockstep_shared::Name;
use std::collections::BTreeMap;

/// A machine that waits for its wave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: Name,
    /// Its role.
    pub role: Name,
    /// Whether it was heard from lately: one that wasn't is nobody's canary.
    pub alive: bool,
    /// Whether it has nothing else to run until its wave comes: then it comes in the first.
    pub new: bool,
}

/// The wave of every machine, from 0, and how many waves there are; at least
/// one. No wave is empty. Within a wave and between roles machines come evenly:
/// the first of each role before the second of any.
pub fn waves(strategy: &Strategy, candidates: &[Candidate]) -> (BTreeMap<Name, usize>, usize) {
    let mut raw: BTreeMap<Name, usize> = BTreeMap::new();
    let named = |candidate: &&Candidate| strategy.canary.contains(&candidate.name);
    raw.extend(candidates.iter().filter(named).map(|candidate| (candidate.name.clone(), 0)));
    let rest: Vec<&Candidate> = candidates.iter().filter(|candidate| !named(candidate)).collect();
    for (role, own) in &strategy.roles {
        if let Some(own) = &own.waves {
            place(own, rest.iter().copied().filter(|candidate| candidate.role == *role), &mut raw);
        }
    }
    let common = |candidate: &&Candidate| strategy.roles.get(&candidate.role).is_none_or(|own| own.waves.is_none());
    place(&strategy.waves, rest.iter().copied().filter(common), &mut raw);
    if let Some(first) = raw.values().min().copied() {
        let new = candidates.iter().filter(|candidate| candidate.new);
        raw.extend(new.map(|candidate| (candidate.name.clone(), first)));
    }
    close_gaps(raw)
}

/// Gives machines their waves, from 1: those named as canaries are before.
fn place<'c>(shares: &[Share], candidates: impl Iterator<Item = &'c Candidate>, waves: &mut BTreeMap<Name, usize>) {
    let ordered = evenly(candidates);
    let ends: Vec<usize> = shares.iter().map(|share| share.of(ordered.len())).collect();
    for (index, candidate) in ordered.iter().enumerate() {
        let wave = ends.iter().position(|end| index < *end).unwrap_or(ends.len());
        waves.insert(candidate.name.clone(), wave + 1);
    }
}

/// Who is there comes first; then the first of each role, the second of each, and so on.
fn evenly<'c>(candidates: impl Iterator<Item = &'c Candidate>) -> Vec<&'c Candidate> {
    let mut sorted: Vec<&Candidate> = candidates.collect();
    sorted.sort_by(|one, other| (!one.alive, &one.role, &one.name).cmp(&(!other.alive, &other.role, &other.name)));
    let mut met: BTreeMap<(bool, &Name), usize> = BTreeMap::new();
    let mut ordered: Vec<(bool, usize, &Candidate)> = sorted
        .into_iter()
        .map(|candidate| {
            let count = met.entry((candidate.alive, &candidate.role)).or_default();
            *count += 1;
            (!candidate.alive, *count, candidate)
        })
        .collect();
    ordered.sort_by_key(|(away, nth, _)| (*away, *nth));
    ordered.into_iter().map(|(_, _, candidate)| candidate).collect()
}

fn close_gaps(raw: BTreeMap<Name, usize>) -> (BTreeMap<Name, usize>, usize) {
    let mut used: Vec<usize> = raw.values().copied().collect();
    used.sort_unstable();
    used.dedup();
    let count = used.len().max(1);
    let waves = raw.into_iter().map(|(name, wave)| (name, used.partition_point(|other| *other < wave)));
    (waves.collect(), count)
}

#[cfg(test)]
mod tests {
    use super::{BTreeMap, Candidate, Name, Share, waves};
    use crate::rollout::strategy::Strategy;
    use proptest::prelude::{Strategy as _, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

    fn candidates(count: usize) -> Vec<Candidate> {
        let roles = ["core", "reg", "web"];
        let one = |index: usize| {
            let role = roles[index % 3];
            Candidate {
                name: Name::new(format!("{role}-{}", index / 3 + 1)).unwrap(),
                role: Name::new(role).unwrap(),
                alive: true,
                new: false,
            }
        };
        (0..count).map(one).collect()
    }

    fn in_wave(waves: &BTreeMap<Name, usize>, wave: usize) -> Vec<&str> {
        waves.iter().filter(|(_, other)| **other == wave).map(|(name, _)| name.as_str()).collect()
    }

    fn strategy(text: &str) -> Strategy {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_canary_then_a_quarter_then_all() {
        let (waves, count) = waves(&strategy(r#"{"waves": [1, "25%", "100%"]}"#), &candidates(12));
        assert_eq!(count, 3);
        assert_eq!(in_wave(&waves, 0), ["core-1"]);
        assert_eq!(in_wave(&waves, 1), ["reg-1", "web-1"]);
        assert_eq!(in_wave(&waves, 2).len(), 9);
    }

    #[test]
    fn without_waves_everybody_is_in_the_first() {
        let (waves, count) = waves(&Strategy::default(), &candidates(5));
        assert_eq!((count, in_wave(&waves, 0).len()), (1, 5));
    }

    #[test]
    fn who_is_away_is_no_canary_and_who_is_new_need_not_wait() {
        let mut all = candidates(6);
        all[0].alive = false;
        all[5].new = true;
        let (waves, _) = waves(&strategy(r#"{"waves": [1]}"#), &all);
        assert_eq!(in_wave(&waves, 0), ["core-2", "web-2"]);
    }

    #[test]
    fn a_named_canary_comes_before_all() {
        let (waves, count) = waves(&strategy(r#"{"canary": ["web-2"], "waves": ["50%"]}"#), &candidates(7));
        assert_eq!(count, 3);
        assert_eq!(in_wave(&waves, 0), ["web-2"]);
        assert_eq!(in_wave(&waves, 1).len(), 3);
    }

    #[test]
    fn a_role_may_have_waves_of_its_own() {
        let text = r#"{"waves": ["100%"], "roles": {"core": {"waves": [1, 2]}}}"#;
        let (waves, count) = waves(&strategy(text), &candidates(12));
        assert_eq!(count, 3);
        assert_eq!(in_wave(&waves, 0).len(), 9);
        assert_eq!((in_wave(&waves, 1), in_wave(&waves, 2).len()), (vec!["core-2"], 2));
    }

    proptest! {
        #[test]
        fn nobody_is_forgotten_and_no_wave_is_empty(
            count in 0_usize..40,
            shares in proptest::collection::vec(prop_oneof![(1_u32..30).prop_map(Share::Number), (1_u32..=100).prop_map(Share::Percent)], 0..5),
            away in proptest::collection::vec(any::<bool>(), 40),
        ) {
            let mut all = candidates(count);
            for (candidate, away) in all.iter_mut().zip(away) {
                candidate.alive = !away;
            }
            let (waves, number) = waves(&Strategy { waves: shares, ..Strategy::default() }, &all);
            prop_assert_eq!(waves.len(), count);
            for wave in 0..number {
                prop_assert!(count == 0 || waves.values().any(|other| *other == wave));
            }
        }
    }
}
