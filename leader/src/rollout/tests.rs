mod back;

use super::lease::Leases;
use super::report::{Failure, Report};
use super::state::{Ground, Offer, Phase, Progress, Rollout, SILENT, State};
use super::step::{Effect, Event};
use super::strategy::{OnFailure, Share, Strategy};
use lockstep_shared::api::{self, Lease, LeaseRequest, Verdict};
use lockstep_shared::{Name, Sha256};
use proptest::prelude::{Strategy as _, any, prop_assert, prop_oneof, proptest};
use std::collections::{BTreeMap, BTreeSet, HashMap};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn digest(revision: u64, machine: &Name) -> Sha256 {
    Sha256::of(format!("{revision} {machine}").as_bytes())
}

fn strategy(text: &str) -> Strategy {
    serde_json::from_str(text).unwrap()
}

/// A fleet that plays by the rules: what each machine runs, and what it is at.
struct Fleet {
    state: State,
    now: i64,
    machines: BTreeMap<Name, Machine>,
    /// Machines that ran what is bad for their role.
    poisoned: BTreeSet<Name>,
    bad_roles: BTreeSet<Name>,
    effects: Vec<Effect>,
}

#[derive(Clone)]
struct Machine {
    role: Name,
    running: Sha256,
    /// What is being applied, and whether the lease is there.
    apply: Option<(Sha256, bool)>,
    failed: Option<(Sha256, i64)>,
    away: bool,
}

impl Fleet {
    /// Machines of three roles that run revision 1.
    fn new(count: usize) -> Self {
        let roles = ["core", "reg", "web"];
        let machine = |index: usize| {
            let role = roles[index % 3];
            let machine = name(&format!("{role}-{}", index / 3 + 1));
            let running = digest(1, &machine);
            (machine, Machine { role: name(role), running, apply: None, failed: None, away: false })
        };
        let machines: BTreeMap<Name, Machine> = (0..count).map(machine).collect();
        let mut sizes = BTreeMap::new();
        for machine in machines.values() {
            *sizes.entry(machine.role.clone()).or_default() += 1;
        }
        let now = 1_000_000;
        let heard = machines.keys().map(|name| (name.clone(), now)).collect();
        let state = State { rollout: None, leases: Leases::default(), heard, sizes, usual: Strategy::default() };
        Self { state, now, machines, poisoned: BTreeSet::new(), bad_roles: BTreeSet::new(), effects: Vec::new() }
    }

    fn begin(&mut self, revision: u64, strategy: Strategy) {
        let next =
            self.machines.iter().map(|(name, machine)| (name.clone(), (machine.role.clone(), digest(revision, name))));
        let digests = self.machines.keys().map(|name| (name.clone(), digest(revision - 1, name))).collect();
        let ground = Ground {
            last: self.state.rollout.as_ref(),
            revision: revision - 1,
            digests: &digests,
            alive: &|name| self.state.is_alive(name, self.now),
            now: self.now,
        };
        let rollout = Rollout::begin(revision, &next.collect(), strategy, &ground);
        self.step(Event::Begin(Box::new(rollout))).unwrap();
    }

    fn step(&mut self, event: Event) -> Result<(), String> {
        self.effects = self.state.step(event, self.now)?;
        let answers: Vec<(Name, Lease)> = self
            .effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Answer(name, lease) => Some((name.clone(), lease.clone())),
                _ => None,
            })
            .collect();
        for (name, lease) in answers {
            let machine = self.machines.get_mut(&name).unwrap();
            match lease.verdict {
                Verdict::Granted => machine.apply = machine.apply.map(|(digest, _)| (digest, true)),
                Verdict::Stopped => machine.apply = None,
                Verdict::Wait => {}
            }
        }
        Ok(())
    }

    fn offered(&self, name: &Name) -> Sha256 {
        self.state.rollout.as_ref().and_then(|rollout| rollout.offered_digest(name)).unwrap()
    }

    fn report(&mut self, name: &Name) {
        let machine = &self.machines[name];
        let report = Report {
            state: match (&machine.apply, &machine.failed) {
                (Some(_), _) => api::State::Applying,
                (None, Some(_)) => api::State::Failed,
                (None, None) => api::State::Applied,
            },
            running: Some(machine.running),
            apply: Some(("apply".to_owned(), machine.apply.map(|(digest, _)| digest))),
            failed: machine.failed.map(|(digest, since)| Failure {
                digest,
                since,
                why: "it died".to_owned(),
                undone: true,
            }),
            ..Report::default()
        };
        self.step(Event::Report(name.clone(), report)).unwrap();
    }

    /// One machine does the next thing that there is for it.
    fn act(&mut self, name: &Name) {
        let offered = self.offered(name);
        let remembered = self.rollout().remembered(&self.rollout().members[name]);
        let machine = self.machines.get_mut(name).unwrap();
        if machine.away {
            return;
        }
        if machine.failed.is_some_and(|(digest, _)| digest != offered && Some(digest) != remembered) {
            machine.failed = None;
        }
        match machine.apply {
            None if machine.running == offered || machine.failed.is_some() => self.report(name),
            None => {
                machine.apply = Some((offered, false));
                let role = machine.role.clone();
                self.report(name);
                let request = LeaseRequest {
                    apply: "apply".to_owned(),
                    revision: 0,
                    digest: offered,
                    services: vec!["nginx".to_owned()],
                };
                self.step(Event::Ask(name.clone(), role, request, offered)).unwrap();
            }
            Some((_, false)) => self.report(name),
            Some((applied, true)) => {
                machine.apply = None;
                if applied != digest(1, name) && self.bad_roles.contains(&machine.role) {
                    self.poisoned.insert(name.clone());
                    machine.failed = Some((applied, self.now));
                } else {
                    machine.running = applied;
                    machine.failed = None;
                }
                self.report(name);
            }
        }
    }

    fn all(&mut self, rounds: usize) {
        let names: Vec<Name> = self.machines.keys().cloned().collect();
        for _ in 0..rounds {
            for name in &names {
                self.act(name);
            }
            self.pass(1);
        }
    }

    fn pass(&mut self, seconds: i64) {
        self.now += seconds;
        self.step(Event::Tick).unwrap();
    }

    fn rollout(&self) -> &Rollout {
        self.state.rollout.as_ref().unwrap()
    }

    fn offered_new(&self) -> BTreeSet<Name> {
        let rollout = self.rollout();
        let new = rollout.members.iter().filter(|(_, member)| rollout.offer(member) == Offer::New);
        new.map(|(name, _)| name.clone()).collect()
    }

    /// What must hold at every moment.
    fn check(&self) {
        let rollout = self.rollout();
        let mut held: HashMap<&Name, usize> = HashMap::new();
        for lease in self.state.leases.held.values() {
            *held.entry(&lease.role).or_default() += 1;
        }
        for (role, count) in held {
            assert!(count <= rollout.strategy.most_unavailable(role, self.state.sizes[role]), "{count} of {role}");
        }
        if self.state.leases.held.values().any(|lease| lease.alone) {
            assert_eq!(self.state.leases.held.len(), 1, "alone means alone");
        }
        assert_eq!(rollout.members.len(), self.machines.len(), "nobody is forgotten");
        for (name, member) in &rollout.members {
            let new = rollout.offer(member) == Offer::New;
            assert!(!new || member.wave <= rollout.wave, "{name} is offered it before its wave");
            let over = matches!(rollout.phase, Phase::Returned(_));
            assert!(!over || !new, "{name} is offered it after the return");
        }
    }
}

#[test]
fn without_waves_everybody_is_offered_it_and_they_restart_one_after_the_other() {
    let mut fleet = Fleet::new(6);
    fleet.begin(2, Strategy::default());
    assert_eq!(fleet.offered_new().len(), 6);
    let names: Vec<Name> = fleet.machines.keys().cloned().collect();
    for name in &names {
        fleet.act(name);
    }
    // The first restart is alone in the fleet; then one in each role at most.
    assert_eq!(fleet.state.leases.held.len(), 1);
    assert!(fleet.state.leases.queue[0].why.contains("core-1 restarts first, alone"));
    fleet.all(12);
    assert!(matches!(fleet.rollout().phase, Phase::Done { .. }));
    assert!(fleet.machines.iter().all(|(name, machine)| machine.running == digest(2, name)));
}

#[test]
fn a_failure_in_the_second_wave_returns_the_first() {
    let mut fleet = Fleet::new(12);
    fleet.bad_roles.insert(name("reg"));
    fleet.begin(2, strategy(r#"{"waves": [1, "25%"]}"#));
    assert_eq!(fleet.offered_new(), BTreeSet::from([name("core-1")]));
    fleet.all(20);
    let Phase::Returned(end) = &fleet.rollout().phase else { panic!("{:?}", fleet.rollout().phase) };
    assert_eq!((end.machine.as_ref(), fleet.poisoned.len()), (Some(&name("reg-1")), 1));
    assert_eq!(fleet.rollout().members[&name("core-1")].progress, Progress::Returned);
    assert!(fleet.machines.iter().all(|(name, machine)| machine.running == digest(1, name)));
    // Once more, from the first wave on; it is corrected by hand meanwhile.
    fleet.bad_roles.clear();
    fleet.step(Event::Resume("ada".to_owned())).unwrap();
    assert_eq!(fleet.offered_new(), BTreeSet::from([name("core-1")]));
    fleet.all(40);
    assert!(matches!(fleet.rollout().phase, Phase::Done { .. }));
}

#[test]
fn a_canary_that_gets_unhealthy_after_its_proof_ends_it_in_the_pause_and_not_later() {
    let canary = name("core-2");
    let two = digest(2, &canary);
    let unwell = Failure { digest: two, since: 7, why: "it is unhealthy".into(), undone: false };
    let (running, unwell) = (Some(two), Some(Box::new(unwell)));
    let sick = Report { state: api::State::Applied, running, unwell, ..Report::default() };
    let waves = strategy(r#"{"canary": ["core-2"], "waves": ["100%"], "pauseSeconds": 60}"#);
    for on_failure in [OnFailure::Return, OnFailure::Stop] {
        let mut fleet = Fleet::new(9);
        fleet.begin(2, Strategy { on_failure, ..waves.clone() });
        fleet.all(20);
        assert!(matches!(fleet.rollout().phase, Phase::Pausing { .. }), "{:?}", fleet.rollout().phase);
        // The second time it is still so, and must not be taken for well.
        for _ in 0..2 {
            fleet.step(Event::Report(canary.clone(), sick.clone())).unwrap();
            assert!(matches!(fleet.rollout().phase, Phase::Returned(_) | Phase::Stopped(_)), "{on_failure:?}");
            assert_eq!(fleet.rollout().members[&canary].progress, Progress::Failed);
            assert_eq!(fleet.offered(&canary), digest(1, &canary));
        }
        fleet.all(40);
        assert!(fleet.machines.iter().all(|(name, machine)| machine.running == digest(1, name)), "{on_failure:?}");
    }
    // Once everybody has it, it is the container's own trouble.
    let mut fleet = Fleet::new(6);
    fleet.begin(2, Strategy::default());
    fleet.all(40);
    assert!(matches!(fleet.rollout().phase, Phase::Done { .. }));
    fleet.step(Event::Report(canary.clone(), sick)).unwrap();
    assert_eq!(fleet.rollout().members[&canary].progress, Progress::Done);
}

#[test]
fn the_same_failure_counts_once() {
    let mut fleet = Fleet::new(3);
    fleet.bad_roles.insert(name("core"));
    fleet.begin(2, strategy(r#"{"onFailure": "stop"}"#));
    fleet.all(4);
    assert!(matches!(fleet.rollout().phase, Phase::Stopped(_)));
    fleet.step(Event::Resume("ada".to_owned())).unwrap();
    // It reports what it reported before, not having looked yet.
    fleet.report(&name("core-1"));
    assert!(matches!(fleet.rollout().phase, Phase::Running));
}

#[test]
fn who_is_away_holds_nobody_up_and_gets_it_later() {
    let mut fleet = Fleet::new(6);
    fleet.machines.get_mut(&name("web-2")).unwrap().away = true;
    fleet.begin(2, strategy(r#"{"waves": [1]}"#));
    fleet.all(10);
    assert!(fleet.rollout().is_running(), "it was heard from a moment ago");
    for _ in 0..SILENT {
        fleet.all(1);
    }
    assert!(matches!(fleet.rollout().phase, Phase::Done { .. }));
    assert_eq!(fleet.rollout().reached(), (5, 6));
    fleet.machines.get_mut(&name("web-2")).unwrap().away = false;
    fleet.all(3);
    assert_eq!(fleet.rollout().reached(), (6, 6));
}

#[test]
fn a_fleet_that_is_away_as_a_whole_is_not_offered_the_next_wave() {
    let mut fleet = Fleet::new(6);
    fleet.pass(SILENT + 1);
    fleet.begin(2, strategy(r#"{"waves": [1]}"#));
    fleet.pass(SILENT * 10);
    assert_eq!(fleet.offered_new().len(), 1);
    // But what was never heard from can't be waited for.
    let mut fleet = Fleet::new(6);
    fleet.state.heard.clear();
    fleet.begin(2, strategy(r#"{"waves": [1]}"#));
    assert_eq!(fleet.offered_new().len(), 6);
}

#[test]
fn who_vanishes_with_a_lease_stops_it() {
    let mut fleet = Fleet::new(6);
    fleet.begin(2, Strategy::default());
    fleet.act(&name("core-1"));
    fleet.machines.get_mut(&name("core-1")).unwrap().away = true;
    for _ in 0..=SILENT {
        fleet.all(1);
    }
    let Phase::Returned(end) = &fleet.rollout().phase else { panic!("{:?}", fleet.rollout().phase) };
    assert!(end.why.contains("was not heard from"), "{}", end.why);
    assert!(fleet.machines.iter().all(|(name, machine)| machine.running == digest(1, name)));
}

#[test]
fn who_is_put_out_holds_nobody_up() {
    let mut fleet = Fleet::new(6);
    fleet.begin(2, Strategy::default());
    let (out, next) = (name("core-1"), name("core-2"));
    fleet.act(&out);
    fleet.act(&next);
    assert!(fleet.state.leases.held.contains_key(&out), "it restarts first, alone");
    assert_eq!(fleet.machines[&next].apply.map(|(_, leased)| leased), Some(false));
    fleet.step(Event::Out(out.clone(), "core-1 was disabled".to_owned())).unwrap();
    fleet.machines.remove(&out);
    assert!(!fleet.state.leases.held.contains_key(&out) && fleet.state.leases.held.contains_key(&next));
    fleet.all(20);
    assert!(matches!(fleet.rollout().phase, Phase::Done { .. }), "{:?}", fleet.rollout().phase);
    assert_eq!(fleet.rollout().reached(), (5, 5));

    // One that waits for its turn is told that there is none.
    let mut fleet = Fleet::new(6);
    fleet.begin(2, Strategy::default());
    fleet.act(&out);
    fleet.act(&next);
    fleet.step(Event::Out(next.clone(), "core-2 was removed".to_owned())).unwrap();
    let told = fleet.effects.iter().any(
        |effect| matches!(effect, Effect::Answer(name, lease) if *name == next && lease.verdict == Verdict::Stopped),
    );
    assert!(told && fleet.state.leases.queue.is_empty());
}

#[test]
fn patience_ends() {
    let mut fleet = Fleet::new(2);
    fleet.begin(2, strategy(r#"{"patienceSeconds": 60}"#));
    for _ in 0..62 {
        // They live, and never take it.
        fleet.report(&name("core-1"));
        fleet.report(&name("reg-1"));
        fleet.pass(1);
    }
    let Phase::Returned(end) = &fleet.rollout().phase else { panic!("{:?}", fleet.rollout().phase) };
    assert_eq!(end.why, "it did not take it within 60 s");
}

#[test]
fn a_pause_between_waves_is_kept_and_can_be_cut_short() {
    let mut fleet = Fleet::new(6);
    fleet.begin(2, strategy(r#"{"waves": [1, 2], "pauseSeconds": 30}"#));
    fleet.all(4);
    assert!(matches!(fleet.rollout().phase, Phase::Pausing { .. }));
    assert_eq!(fleet.offered_new().len(), 1);
    fleet.pass(30);
    assert_eq!(fleet.offered_new().len(), 2);
    fleet.all(4);
    assert!(matches!(fleet.rollout().phase, Phase::Pausing { .. }));
    fleet.step(Event::Resume("ada".to_owned())).unwrap();
    assert_eq!(fleet.offered_new().len(), 6);
}

#[test]
fn a_later_revision_goes_on_from_what_each_machine_has() {
    let mut fleet = Fleet::new(6);
    fleet.begin(2, strategy(r#"{"waves": [1]}"#));
    fleet.all(2);
    fleet.step(Event::Stop("ada".to_owned())).unwrap();
    assert_eq!(fleet.rollout().reached().0, 1);
    fleet.bad_roles.insert(name("core"));
    fleet.begin(3, strategy(r#"{"waves": [1]}"#));
    let core = &fleet.rollout().members[&name("core-1")];
    assert_eq!(core.good.as_ref().map(|was| was.revision), Some(2));
    assert_eq!(fleet.rollout().members[&name("web-2")].good.as_ref().map(|was| was.revision), Some(1));
    fleet.all(6);
    assert!(matches!(fleet.rollout().phase, Phase::Returned(_)));
    assert_eq!(fleet.machines[&name("core-1")].running, digest(2, &name("core-1")));
    assert_eq!(fleet.machines[&name("web-2")].running, digest(1, &name("web-2")));
}

#[test]
fn what_is_not_offered_gets_no_lease() {
    let mut fleet = Fleet::new(3);
    fleet.begin(2, strategy(r#"{"waves": [1]}"#));
    let web = name("web-1");
    let request = LeaseRequest { apply: "a".to_owned(), revision: 2, digest: digest(2, &web), services: Vec::new() };
    fleet.step(Event::Ask(web.clone(), web.clone(), request.clone(), digest(1, &web))).unwrap();
    let answer = fleet.effects.iter().find_map(|effect| match effect {
        Effect::Answer(_, lease) => Some(lease.clone()),
        _ => None,
    });
    assert_eq!(answer.map(|lease| lease.verdict), Some(Verdict::Stopped));
    // What it runs may be restarted, also while a rollout goes on.
    let own = LeaseRequest { digest: digest(1, &web), ..request };
    fleet.step(Event::Ask(web.clone(), web.clone(), own, digest(1, &web))).unwrap();
    assert!(fleet.state.leases.held.contains_key(&web));
}

proptest! {
    #[test]
    fn whatever_happens(
        count in 1_usize..14,
        shares in proptest::collection::vec(prop_oneof![(1_u32..8).prop_map(Share::Number), (1_u32..=100).prop_map(Share::Percent)], 0..4),
        most in prop_oneof![(1_u32..4).prop_map(Share::Number), (1_u32..=100).prop_map(Share::Percent)],
        on_failure in prop_oneof![proptest::strategy::Just(OnFailure::Stop), proptest::strategy::Just(OnFailure::Return), proptest::strategy::Just(OnFailure::Continue)],
        pause_seconds in 0_u64..5,
        bad in proptest::collection::vec(any::<bool>(), 3),
        happenings in proptest::collection::vec((0_u8..12, 0_usize..14), 0..200),
    ) {
        let mut fleet = Fleet::new(count);
        let roles = ["core", "reg", "web"];
        fleet.bad_roles = roles.iter().zip(bad).filter(|(_, bad)| *bad).map(|(role, _)| name(role)).collect();
        let strategy = Strategy {
            waves: shares, max_unavailable: most, on_failure, pause_seconds, patience_seconds: 60, ..Strategy::default()
        };
        fleet.begin(2, strategy);
        fleet.check();
        let names: Vec<Name> = fleet.machines.keys().cloned().collect();
        let mut by_hand = false;
        for (what, whom) in happenings {
            let whom = &names[whom % names.len()];
            match what {
                0..=5 => fleet.act(whom),
                6 => fleet.pass(1),
                7 => fleet.pass(40),
                8 => fleet.machines.get_mut(whom).unwrap().away ^= true,
                9 => {
                    // Its follower is started anew and goes on with what it holds.
                    let machine = fleet.machines.get_mut(whom).unwrap();
                    machine.apply = None;
                    fleet.step(Event::Gone(whom.clone())).unwrap();
                }
                10 => by_hand |= fleet.step(Event::Resume("ada".to_owned())).is_ok(),
                _ => {}
            }
            fleet.check();
        }
        // One that is bad for a whole role restarts one machine of the fleet with it, not more.
        prop_assert!(by_hand || on_failure == OnFailure::Continue || fleet.poisoned.len() <= 1, "{:?}", fleet.poisoned);
        // And it ends, once everybody is there and time goes on.
        for machine in fleet.machines.values_mut() {
            machine.away = false;
        }
        fleet.all(count * 8 + 400);
        fleet.check();
        prop_assert!(!fleet.rollout().is_running(), "{:?}\n{:#?}", fleet.rollout(), fleet.state.leases);
    }
}
