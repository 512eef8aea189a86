use super::*;
use crate::action::Verb;
use crate::applied::Owed;
use crate::container::Mount;
use crate::snapshot::Entry;
use crate::steps::How;
use lockstep_shared::{File, Mode, OnChange, Owner};

/// A machine: what was applied, what is on its disk, what runs on it.
#[derive(Default)]
struct Machine {
    applied: Option<Applied>,
    disk: Snapshot,
    containers: Vec<Container>,
}

fn file(path: &str, text: &str) -> File {
    File::plain(SafePath::new(path).unwrap(), text.as_bytes())
}

fn on(file: File, verb: &str) -> File {
    File { on_change: Some(OnChange::try_from(verb.to_owned()).unwrap()), ..file }
}

fn bundle(files: Vec<File>) -> Bundle {
    let name = |text: &str| Name::new(text).unwrap();
    Bundle::new(name("core"), name("core-1"), None, files).unwrap()
}

fn entry(text: &str) -> Entry {
    Entry::File { sha256: Sha256::of(text.as_bytes()), mode: 0o644, uid: 0, gid: 0 }
}

/// A running container with mounts `host:container`, relative to the data folder.
fn container(service: &str, mounts: &[&str]) -> Container {
    let mount = |text: &&str| {
        let (source, destination) = text.split_once(':').unwrap();
        Mount { source: Some(Path::new("/d").join(source)), destination: destination.into(), ..Mount::default() }
    };
    Container {
        id: format!("id-{service}"),
        name: format!("pryv_{service}_1"),
        service: service.to_owned(),
        state: "running".to_owned(),
        health: "none".to_owned(),
        mounts: mounts.iter().map(mount).collect(),
        depends_on: Vec::new(),
        ours: false,
    }
}

fn stopped(container: Container) -> Container {
    Container { state: "exited".to_owned(), ..container }
}

impl Machine {
    /// A machine that has applied these files.
    fn with(files: &[File], containers: Vec<Container>) -> Self {
        let mut machine = Self { containers, ..Self::default() };
        let bundle = bundle(files.to_vec());
        for file in files {
            let text = String::from_utf8_lossy(&file.content).into_owned();
            machine.disk.set(file.path.as_str(), entry(&text));
        }
        let compose = bundle.compose_file().map(|file| compose_file::read(&file.content).unwrap()).unwrap_or_default();
        let services = compose.services.iter().map(|(name, service)| (name.clone(), service.definition)).collect();
        machine.applied = Some(Applied::written("before", &bundle, 1, services, None, 0));
        machine
    }

    fn plan_for(&self, files: &[File], wanted: &Wanted) -> Plan {
        self.try_plan(files, wanted).unwrap()
    }

    fn plan(&self, files: &[File]) -> Plan {
        self.plan_for(files, &Wanted::all())
    }

    fn try_plan(&self, files: &[File], wanted: &Wanted) -> Result<Plan, PlanError> {
        plan(Inputs {
            bundle: &bundle(files.to_vec()),
            revision: 2,
            applied: self.applied.as_ref(),
            disk: &self.disk,
            data_folder: Path::new("/d"),
            containers: Some(&self.containers),
            wanted,
        })
    }

    fn owing(mut self, service: &str, verb: Verb, deferred: bool) -> Self {
        let action = Action {
            service: service.to_owned(),
            container: Some(format!("pryv_{service}_1")),
            verb,
            why: "of before".to_owned(),
            files: Vec::new(),
            depends_on: Vec::new(),
        };
        self.applied.as_mut().unwrap().owed.push(Owed { action, deferred });
        self
    }
}

/// `verb service` of every action, by wave.
fn acts(plan: &Plan) -> String {
    let waves = waves(&plan.actions);
    let wave = |wave: &Vec<usize>| {
        let acts = wave.iter().map(|index| &plan.actions[*index]);
        acts.map(|action| format!("{} {}", action.verb, action.service)).collect::<Vec<_>>().join(" + ")
    };
    waves.iter().map(wave).collect::<Vec<_>>().join(" > ")
}

fn left(plan: &Plan, service: &str) -> String {
    plan.left_alone.iter().find(|left| left.service == service).map(|left| left.why.clone()).unwrap_or_default()
}

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
    let Err(PlanError::Obstacles { obstacles, .. }) = machine.try_plan(&files, &Wanted::all()) else { panic!() };
    assert_eq!(
        obstacles,
        [
            Obstacle::NotAFile("a".to_owned()),
            Obstacle::Symlink("b".to_owned()),
            Obstacle::Reserved("c/.n.lockstep-new".to_owned())
        ]
    );
}

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

const COMPOSE: &str = "services:\n  web: {image: w, env_file: [web.env], depends_on: [db]}\n  db: {image: d}\n";

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
fn a_broken_compose_file_is_an_error_with_its_place() {
    let error = Machine::default().try_plan(&[file("pryv.yml", "services: [")], &Wanted::all()).unwrap_err();
    assert!(error.to_string().contains("\"pryv.yml\""), "{error}");
}

/// A file that goes into the volume `conf`.
fn poured(path: &str, text: &str) -> File {
    let place = lockstep_shared::VolumePath::new("conf", SafePath::new(path).unwrap());
    File { volume: place, ..file(path, text) }
}

fn with_volume(mut container: Container) -> Container {
    let mount = Mount {
        kind: "volume".to_owned(),
        name: Some("pryv_conf".to_owned()),
        volume: Some("conf".to_owned()),
        destination: "/conf".into(),
        ..Mount::default()
    };
    container.mounts.push(mount);
    container
}

const VOLUME: &str = "services: {web: {volumes: ['conf:/conf']}, db: {}}\nvolumes: {conf: {}}\n";

#[test]
fn a_volume_is_filled_before_those_that_mount_it_are_acted_on() {
    let files = |text| [file("pryv.yml", VOLUME), poured("a", text)];
    let mut machine = Machine::with(&files("1"), vec![container("db", &[]), with_volume(container("web", &[]))]);
    let place = files("1")[1].volume.clone().unwrap();
    machine.disk.set_in_volume(place.clone(), entry("1"));
    assert!(machine.plan(&files("1")).is_empty());
    let plan = machine.plan(&files("2"));
    assert_eq!(acts(&plan), "fill volume conf > restart web");
    assert_eq!(plan.changes().len(), 1);
    assert!(plan.steps.is_empty(), "nothing goes into the data folder");
    // What somebody changed in the volume is seen there.
    machine.disk.set_in_volume(place.clone(), entry("theirs"));
    assert_eq!(acts(&machine.plan(&files("1"))), "fill volume conf > restart web");
    // Gone from the bundle is gone from the volume, once.
    let plan = machine.plan(&files("1")[..1]);
    assert_eq!(plan.actions[0].fill().unwrap().remove[0].place, place);
    machine.disk.set_in_volume(place, Entry::Absent);
    assert_eq!(acts(&machine.plan(&files("1")[..1])), "");
}

#[test]
fn a_volume_that_nothing_mounts_is_filled_once_compose_makes_what_will() {
    let files = [file("pryv.yml", VOLUME), poured("a", "1")];
    let new = Machine::default().plan(&files);
    assert_eq!(acts(&new), "fill volume conf > create db + create web");
    assert_eq!(new.actions[0].fill().unwrap().services, ["web"]);
    let mut machine = Machine::with(&files, vec![container("db", &[])]);
    machine.applied.as_mut().unwrap().files.clear();
    let plan = machine.plan(&files);
    assert_eq!(acts(&plan), "");
    assert!(plan.notes[0].contains("no container mounts the volume conf"), "{plan}");
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
