//! Services that come, go, change, wait for each other.

use super::*;

#[test]
fn a_stopped_container_stays_stopped_and_a_looping_one_is_restarted() {
    let files = |text| [on(file("web/conf/a", text), "signal:HUP")];
    let state = |state: &str| {
        let container = Container { state: state.to_owned(), ..container("web", &["web/conf:/conf"]) };
        let plan = Machine::with(&files("1"), vec![container]).plan(&files("2"));
        (acts(&plan), left(&plan, "web"))
    };
    assert_eq!(state("exited"), (String::new(), "stopped: reads the new files when it is started".to_owned()));
    assert_eq!(state("created").1, "stopped: reads the new files when it is started");
    assert_eq!(state("paused").1, "paused: reads the new files when it is restarted");
    assert_eq!(state("restarting").0, "restart web");
    assert_eq!(state("running").0, "signal:HUP web");
}

#[test]
fn the_first_apply_creates_all_services_and_later_ones_only_new_services() {
    let plan = Machine::default().plan(&[file("pryv.yml", COMPOSE), file("web.env", "A=1")]);
    assert_eq!(acts(&plan), "create db + create web");
    assert!(plan.notes.is_empty(), "{plan}");

    let machine = Machine::with(&[file("pryv.yml", COMPOSE)], vec![container("web", &[])]);
    let plan = machine.plan(&[file("pryv.yml", &format!("{COMPOSE}  new: {{image: n}}\n  tool: {{profiles: [t]}}\n"))]);
    assert_eq!(acts(&plan), "create new");
    assert_eq!(left(&plan, "db"), "not created; scripts/run-pryv db creates it when it is wanted");
    assert!(plan.notes.iter().any(|note| note.contains("tool belongs to a profile")));
}

#[test]
fn a_changed_definition_or_env_file_recreates_its_service_only() {
    let before = [file("pryv.yml", COMPOSE), file("web.env", "A=1")];
    let running = || vec![container("db", &[]), container("web", &[])];
    let definition = [file("pryv.yml", &COMPOSE.replace("image: d", "image: d2")), file("web.env", "A=1")];
    assert_eq!(acts(&Machine::with(&before, running()).plan(&definition)), "recreate db");
    let spelling = [file("pryv.yml", &format!("# new comment\n{COMPOSE}")), file("web.env", "A=1")];
    assert_eq!(acts(&Machine::with(&before, running()).plan(&spelling)), "");
    let env_file = [file("pryv.yml", COMPOSE), file("web.env", "A=2")];
    let plan = Machine::with(&before, running()).plan(&env_file);
    assert_eq!((acts(&plan).as_str(), plan.actions[0].why.as_str()), ("recreate web", "its env_file web.env changed"));
    assert!(plan.notes.is_empty(), "{plan}");
}

#[test]
fn a_changed_dot_env_is_compared_by_compose_for_all() {
    let files = |text| [file("pryv.yml", COMPOSE), file(".env", text)];
    let machine = Machine::with(&files("A=1"), vec![stopped(container("db", &[])), container("web", &[])]);
    let plan = machine.plan(&files("A=2"));
    assert_eq!(plan.actions.iter().map(|action| &action.verb).collect::<Vec<_>>(), [&Verb::Converge]);
    assert!(left(&plan, "db").starts_with("exited: scripts/run-pryv db"), "{plan}");
}

#[test]
fn a_recreated_service_is_not_restarted_as_well() {
    let before = [file("pryv.yml", COMPOSE), file("web/conf/a", "1")];
    let after = [file("pryv.yml", &COMPOSE.replace("image: w", "image: w2")), file("web/conf/a", "2")];
    let machine = Machine::with(&before, vec![container("db", &[]), container("web", &["web/conf:/conf"])]);
    let plan = machine.plan(&after);
    assert_eq!(acts(&plan), "recreate web");
    assert_eq!(plan.actions[0].container.as_deref(), Some("pryv_web_1"));
    assert_eq!(plan.actions[0].why, "its definition in pryv.yml changed, web/conf/a changed");
}

#[test]
fn what_left_the_compose_file_is_noted_and_not_touched() {
    let before = [file("pryv.yml", COMPOSE), file("web/conf/a", "1")];
    let after = [file("pryv.yml", "services: {db: {image: d}}"), file("web/conf/a", "2")];
    let machine = Machine::with(&before, vec![container("db", &[]), container("web", &["web/conf:/conf"])]);
    let plan = machine.plan(&after);
    assert_eq!(acts(&plan), "");
    assert_eq!(left(&plan, "web"), "it is not in the compose file");
    assert!(plan.notes.iter().any(|note| note.contains("docker rm -f pryv_web_1")), "{plan}");
}

#[test]
fn notify_for_some_services_does_those_and_keeps_the_rest() {
    let files = |text| [file("web/conf/a", text), file("db/conf/a", text)];
    let containers = vec![container("db", &["db/conf:/c"]), container("mq", &[]), container("web", &["web/conf:/c"])];
    let machine = Machine::with(&files("1"), containers);
    let plan = machine.plan_for(&files("2"), &Wanted::services(["web".to_owned(), "mq".to_owned(), "no".to_owned()]));
    assert_eq!(acts(&plan), "restart mq + restart web");
    assert_eq!(plan.actions[0].why, "asked for by notify");
    assert_eq!(plan.deferred.iter().map(|action| action.service.as_str()).collect::<Vec<_>>(), ["db"]);
    assert_eq!(left(&plan, "db"), "waits for a notification of its own");
    assert_eq!(plan.steps.write.len(), 2);
    assert!(plan.notes.iter().any(|note| note.contains("names no,")), "{plan}");
}

#[test]
fn dependencies_go_first_in_waves() {
    let files = |text| [file("c/a", text)];
    let with = |service: &str, needs: &[&str]| Container {
        depends_on: needs.iter().map(|need| (*need).to_owned()).collect(),
        ..container(service, &["c:/c"])
    };
    let run = |containers| acts(&Machine::with(&files("1"), containers).plan(&files("2")));
    let chain = vec![with("a", &["b"]), with("b", &["c"]), with("c", &[]), with("d", &[])];
    assert_eq!(run(chain), "restart c + restart d > restart b > restart a");
    // Through a service that isn't acted on itself.
    let through = vec![with("a", &["x"]), with("c", &[]), Container { mounts: Vec::new(), ..with("x", &["c"]) }];
    assert_eq!(run(through), "restart c > restart a");
    let cycle = vec![with("a", &["b"]), with("b", &["a"])];
    assert_eq!(run(cycle), "restart a > restart b");
}

#[test]
fn compose_acts_in_one_wave_and_what_needs_it_follows() {
    let compose = |image: &str| {
        format!(
            "services:\n  a: {{image: {image}}}\n  b: {{image: {image}, depends_on: [a]}}\n  c: {{depends_on: [b]}}\n"
        )
    };
    let files = |image, text| [file("pryv.yml", &compose(image)), file("c/conf", text)];
    let containers = vec![container("a", &[]), container("b", &[]), container("c", &["c:/c"])];
    let plan = Machine::with(&files("i", "1"), containers).plan(&files("j", "2"));
    assert_eq!(acts(&plan), "recreate a + recreate b > restart c");
}

#[test]
fn a_broken_compose_file_is_an_error_with_its_place() {
    let error = Machine::default().try_plan(&[file("pryv.yml", "services: [")], &Wanted::all()).unwrap_err();
    assert!(error.to_string().contains("\"pryv.yml\""), "{error}");
}

#[test]
fn what_lockstep_created_is_removed_first_and_nothing_else() {
    let compose = |services: &str| [file("pryv.yml", &format!("services: {{{services}}}"))];
    let ours = Container { ours: true, ..container("old", &[]) };
    let theirs = container("theirs", &[]);
    let machine = Machine::with(&compose("old: {}, theirs: {}"), vec![ours, theirs]);
    let plan = machine.plan(&compose("new: {}"));
    assert_eq!(acts(&plan), "remove old > create new");
    assert!(plan.notes.iter().any(|note| note.contains("docker rm -f pryv_theirs_1")), "{plan}");
    // It is not gone by a role that has no compose file at all.
    assert_eq!(acts(&machine.plan(&[file("a", "1")])), "");
}
