//! What changed files mean.

use super::*;

#[test]
fn nothing_changed_is_nothing_done() {
    let files = [file("web/conf/a", "1"), file("pryv.yml", "services: {web: {}}")];
    let plan = Machine::with(&files, vec![container("web", &["web/conf:/conf"])]).plan(&files);
    assert!(plan.is_empty() && plan.left_alone.is_empty() && plan.notes.is_empty(), "{plan}");
}

#[test]
fn a_changed_file_restarts_exactly_those_that_mount_it() {
    let machine = Machine::with(
        &[file("web/conf/a", "1"), file("db/conf/b", "1")],
        vec![container("db", &["db/conf:/conf"]), container("web", &["web/conf:/conf"])],
    );
    let plan = machine.plan(&[file("web/conf/a", "2"), file("db/conf/b", "1")]);
    assert_eq!(acts(&plan), "restart web");
    assert_eq!(plan.actions[0].why, "web/conf/a changed");
    assert_eq!(left(&plan, "db"), "no changed file under its mounts");
    assert_eq!(plan.steps.write.len(), 1);
}

#[test]
fn mode_and_owner_are_changes_too() {
    let machine = Machine::with(&[file("a", "1"), file("b", "1"), file("c", "1")], Vec::new());
    let strict = File { mode: Mode::try_from("0600".to_owned()).unwrap(), ..file("a", "1") };
    let owned = |path, uid| File { owner: Some(Owner { uid, gid: 0 }), ..file(path, "1") };
    let plan = machine.plan(&[strict, owned("b", 7), owned("c", 0)]);
    assert_eq!(plan.changes().iter().map(|change| change.path.as_str()).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn the_strongest_verb_of_several_files_is_done_once() {
    let case = |verbs: &[&str]| {
        let files = |text: &str| -> Vec<File> {
            let name = |index: usize| format!("web/conf/{index}");
            verbs.iter().enumerate().map(|(index, verb)| on(file(&name(index), text), verb)).collect()
        };
        let machine = Machine::with(&files("1"), vec![container("web", &["web/conf:/conf"])]);
        acts(&machine.plan(&files("2")))
    };
    assert_eq!(case(&["none", "none"]), "none web");
    assert_eq!(case(&["none", "signal:HUP"]), "signal:HUP web");
    assert_eq!(case(&["signal:HUP", "exec:[\"x\"]", "signal:HUP"]), "signal:HUP, exec:[\"x\"] web");
    assert_eq!(case(&["signal:HUP", "restart"]), "restart web");
    assert_eq!(case(&["restart", "recreate", "signal:HUP"]), "recreate web");
}

#[test]
fn the_role_may_name_whom_a_file_concerns() {
    let named = |text| File { services: vec!["db".to_owned()], ..file("web/conf/a", text) };
    let by_name = |text| File { containers: vec!["pryv_mq_1".to_owned()], ..file("web/conf/b", text) };
    let containers = vec![container("db", &[]), container("mq", &[]), container("web", &["web/conf:/conf"])];
    let plan = Machine::with(&[named("1"), by_name("1")], containers).plan(&[named("2"), by_name("2")]);
    assert_eq!(acts(&plan), "restart db + restart mq");
}

#[test]
fn what_is_gone_is_removed_and_nothing_else() {
    let mut machine = Machine::with(
        &[file("web/conf/old", "1"), file("web/conf/drifted", "1"), file("web/conf/folder", "1")],
        vec![container("web", &["web:/app"])],
    );
    machine.disk.set("web/conf/drifted", entry("by hand"));
    machine.disk.set("web/conf/folder", Entry::Folder);
    machine.disk.set("web/conf/not-ours", entry("x"));
    let plan = machine.plan(&[file("web/conf/new", "1")]);
    let removed: Vec<_> = plan.steps.remove.iter().map(SafePath::as_str).collect();
    assert_eq!(removed, ["web/conf/drifted", "web/conf/old"]);
    assert!(plan.notes.iter().any(|note| note.contains("web/conf/folder") && note.contains("left as it is")));
    assert_eq!(acts(&plan), "restart web");
}

#[test]
fn protected_folders_are_made_and_never_written() {
    let mut machine = Machine::default();
    machine.disk.set("web/log", Entry::Folder);
    let files = [
        file("web/data/.gitkeep", ""),
        file("web/log/.gitkeep", ""),
        file("web/data/x", "x"),
        file("web/backup/.gitkeep", ""),
    ];
    let plan = machine.plan(&files);
    assert_eq!(plan.steps.folders.iter().map(SafePath::as_str).collect::<Vec<_>>(), ["web/data"]);
    assert_eq!(plan.steps.write.iter().map(|write| write.path.as_str()).collect::<Vec<_>>(), ["web/backup/.gitkeep"]);
    assert!(plan.notes.iter().any(|note| note.contains("web/data/x is not written")), "{plan}");
}

#[test]
fn what_is_in_the_way_is_all_said_at_once() {
    let mut machine = Machine::default();
    machine.disk.set("a", Entry::Folder);
    machine.disk.set("b/x", Entry::Blocked(Obstacle::Symlink("b".to_owned())));
    machine.disk.set("b/y", Entry::Blocked(Obstacle::Symlink("b".to_owned())));
    let files = [file("a", ""), file("b/x", ""), file("b/y", ""), file("c/.n.lockstep-new", "")];
    let Err(PlanError::Obstacles(in_the_way)) = machine.try_plan(&files, &Wanted::all()) else { panic!() };
    assert_eq!(
        in_the_way[0].obstacles,
        [
            Obstacle::NotAFile("a".to_owned()),
            Obstacle::Symlink("b".to_owned()),
            Obstacle::Reserved("c/.n.lockstep-new".to_owned())
        ]
    );
}

#[test]
fn a_file_mounted_alone_is_written_in_place_only_for_those_that_go_on() {
    let how = |verb: &str| {
        let files = |text| [on(file("one.conf", text), verb)];
        let plan = Machine::with(&files("1"), vec![container("web", &["one.conf:/one.conf"])]).plan(&files("2"));
        (plan.steps.write[0].how, plan.notes.len())
    };
    assert_eq!(how("signal:HUP"), (How::InPlace, 1));
    assert_eq!(how("none"), (How::InPlace, 1));
    assert_eq!(how("restart"), (How::Rename, 0));
    assert_eq!(how("recreate"), (How::Rename, 0));
}

#[test]
fn a_container_whose_mounted_file_is_gone_is_not_restarted_to_death() {
    let machine = Machine::with(&[file("one.conf", "1")], vec![container("web", &["one.conf:/one.conf"])]);
    let plan = machine.plan(&[file("two.conf", "1")]);
    assert_eq!(acts(&plan), "");
    assert!(left(&plan, "web").contains("can't be started again"), "{plan}");
}

#[test]
fn a_file_hidden_by_a_deeper_mount_concerns_nobody() {
    let files = |text| [file("web/cache/a", text)];
    let mut web = container("web", &["web:/app"]);
    web.mounts.push(Mount { destination: "/app/cache".into(), ..Mount::default() });
    let plan = Machine::with(&files("1"), vec![web]).plan(&files("2"));
    assert_eq!(acts(&plan), "");
    assert_eq!(plan.notes, ["web/cache/a is hidden from pryv_web_1 by the mount at /app/cache: nothing is done to it"]);
}

#[test]
fn what_is_owed_is_done_though_nothing_changed() {
    let files = [file("web/conf/a", "1")];
    let machine = || Machine::with(&files, vec![container("web", &["web/conf:/c"])]);
    assert_eq!(acts(&machine().owing("web", Verb::Restart, false).plan_for(&files, &Wanted::retry())), "restart web");
    let waiting = machine().owing("web", Verb::Restart, true);
    let retried = waiting.plan_for(&files, &Wanted::retry());
    assert_eq!((acts(&retried).as_str(), retried.deferred.len()), ("", 1));
    assert_eq!(acts(&waiting.plan(&files)), "restart web");
    // A new change of its file ends the waiting.
    assert_eq!(acts(&waiting.plan_for(&[file("web/conf/a", "2")], &Wanted::retry())), "restart web");
    // Stopped meanwhile: it is owed all the same, as it may have died of the last change.
    let died =
        Machine::with(&files, vec![stopped(container("web", &["web/conf:/c"]))]).owing("web", Verb::Restart, false);
    assert_eq!(acts(&died.plan(&files)), "restart web");
    // Its container is gone: nothing is owed any more.
    let gone = Machine::with(&files, Vec::new()).owing("web", Verb::Restart, false).plan(&files);
    assert_eq!((acts(&gone).as_str(), gone.notes.len()), ("", 1));
    // What compose was to do ends with the service's definition, though its container stands.
    let undefined = Machine::with(&files, vec![container("web", &[])]).owing("web", Verb::Create, false);
    assert_eq!(acts(&undefined.plan(&files)), "");
}

#[test]
fn a_machine_without_engine_gets_its_files() {
    let bundle = bundle(vec![file("pryv.yml", COMPOSE)]);
    let disk = Snapshot::default();
    let wanted = Wanted::all();
    let inputs = Inputs {
        bundle: &bundle,
        revision: 1,
        applied: None,
        disk: &disk,
        data_folder: Path::new("/d"),
        containers: None,
        wanted: &wanted,
    };
    let plan = plan(inputs).unwrap();
    assert_eq!((plan.steps.write.len(), plan.actions.len(), plan.notes.len()), (1, 0, 1));
}

#[test]
fn is_readable_and_travels_as_json() {
    let before = [file("pryv.yml", COMPOSE), file("web/conf/a", "1"), file("old", "1")];
    let machine = Machine::with(&before, vec![container("db", &[]), container("web", &["web/conf:/conf"])]);
    let after = [file("pryv.yml", COMPOSE), on(file("web/conf/a", "2"), "signal:HUP"), file("web/data/.gitkeep", "")];
    let plan = machine.plan(&after);
    assert_eq!(
        plan.to_string(),
        "revision 2 of role core\n  ~ web/conf/a (0644)\n  - old\n  + web/data/\n  \
         1. signal:HUP web (pryv_web_1): web/conf/a changed\n  db is left alone: no changed file under its mounts\n"
    );
    let json = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
}

#[test]
fn an_empty_folder_gives_way_to_the_file_that_a_container_mounts() {
    let files = [file("pryv.yml", "services: {web: {}}"), file("web/x", "1")];
    let mut machine = Machine::with(&files[..1], vec![container("web", &["web/x:/x"])]);
    machine.disk.set("web/x", Entry::EmptyFolder);
    let plan = machine.plan(&files);
    assert_eq!(acts(&plan), "recreate web");
    assert_eq!(plan.steps.write[0].how, How::OverFolder);
    machine.disk.set("web/x", Entry::Folder);
    assert!(machine.try_plan(&files, &Wanted::all()).is_err());
    machine.disk.set("web/x", Entry::EmptyFolder);
    machine.containers[0].mounts.clear();
    assert!(machine.try_plan(&files, &Wanted::all()).is_err(), "nobody mounts it: somebody wanted that folder");
}
