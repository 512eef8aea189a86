//! What machines are offered after a return, and what there is to go back to.

use super::*;

#[test]
fn a_stop_leaves_those_that_have_it() {
    let mut fleet = Fleet::new(12);
    fleet.bad_roles.insert(name("reg"));
    fleet.begin(2, strategy(r#"{"waves": [1, "25%"], "onFailure": "stop"}"#));
    fleet.all(20);
    assert!(matches!(fleet.rollout().phase, Phase::Stopped(_)));
    // The third of the second wave waited behind the one that failed, which went back.
    assert_eq!(fleet.offered_new().len(), 1);
    let failed = name(fleet.poisoned.first().unwrap().as_str());
    let member = &fleet.rollout().members[&failed];
    assert_eq!(fleet.rollout().remembered(member), Some(digest(2, &failed)));
    assert_eq!(fleet.offered(&failed), digest(1, &failed), "to one that doesn't remember it, too");
    assert!(fleet.step(Event::Stop("ada".to_owned())).unwrap_err().contains("lockstep rollout resume"));
    fleet.step(Event::Abort("ada".to_owned())).unwrap();
    fleet.all(5);
    assert!(fleet.machines.iter().all(|(name, machine)| machine.running == digest(1, name)));
    assert!(fleet.step(Event::Abort("ada".to_owned())).unwrap_err().contains("taken back already"));
}

#[test]
fn what_failed_on_a_machine_is_not_offered_to_it_again_while_it_waits_for_the_next() {
    let mut fleet = Fleet::new(3);
    fleet.bad_roles.insert(name("core"));
    fleet.begin(2, Strategy::default());
    fleet.all(8);
    let (core, web) = (name("core-1"), name("web-1"));
    assert!(matches!(fleet.rollout().phase, Phase::Returned(_)));
    assert_eq!(fleet.offered(&core), digest(1, &core));
    fleet.begin(3, strategy(r#"{"waves": [1], "canary": ["web-1"]}"#));
    assert_eq!((fleet.offered(&web), fleet.offered(&core)), (digest(3, &web), digest(1, &core)));
}

#[test]
fn what_cannot_be_repaired_where_it_runs_stays_what_there_is_to_go_back_to() {
    let mut fleet = Fleet::new(3);
    fleet.begin(2, Strategy::default());
    fleet.all(8);
    let core = name("core-1");
    assert!(matches!(fleet.rollout().phase, Phase::Done { .. }));
    // Somebody put a folder where a file was: each attempt to write it is refused.
    let refused = |tried: u64, running: u64| {
        let failed = Failure { digest: digest(tried, &core), since: 7, why: "a folder".into(), undone: false };
        let running = Some(digest(running, &core));
        Report { state: api::State::Failed, running, failed: Some(failed), ..Report::default() }
    };
    fleet.step(Event::Report(core.clone(), refused(2, 2))).unwrap();
    assert_eq!(fleet.rollout().members[&core].progress, Progress::Failed);
    assert_eq!(fleet.offered(&core), digest(2, &core), "it runs that");
    fleet.begin(3, Strategy::default());
    fleet.step(Event::Report(core.clone(), refused(3, 2))).unwrap();
    assert!(matches!(fleet.rollout().phase, Phase::Returned(_)));
    assert_eq!((fleet.offered(&core), fleet.rollout().good()), (digest(2, &core), Some(2)));
}
