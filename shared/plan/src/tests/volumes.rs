//! Files in named volumes.

use super::*;

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
fn in_a_volume_what_goes_makes_way_and_what_is_not_lockstep_s_is_in_the_way() {
    let place = |path: &str| poured(path, "").volume.unwrap();
    let with = |files: &[File], disk: &[(&str, Entry)]| {
        let mut machine = Machine::with(files, vec![with_volume(container("web", &[]))]);
        for (path, entry) in disk {
            machine.disk.set_in_volume(place(path), entry.clone());
        }
        machine
    };
    let in_the_way = |machine: &Machine, files: &[File]| match machine.try_plan(files, &Wanted::all()) {
        Err(PlanError::Obstacles(in_the_way)) => in_the_way[0].to_string(),
        other => panic!("{other:?}"),
    };
    let under = |path: &str| Entry::Blocked(Obstacle::NotAFolder(path.to_owned()));
    // A file becomes a folder.
    let (one, folder) = ([poured("site", "1")], [poured("site/a", "1")]);
    let machine = with(&one, &[("site", entry("1")), ("site/a", under("site"))]);
    let fill = machine.plan(&folder).actions[0].fill().unwrap().clone();
    assert!(fill.replaces(&fill.remove[0]) && fill.write[0].place == place("site/a"));
    // The same file, but somebody else's.
    let foreign = with(&[], &[("site", entry("1")), ("site/a", under("site"))]);
    assert_eq!(
        in_the_way(&foreign, &folder),
        "in the volume conf, \"site\" is a file where a folder is needed: move it away"
    );
    // A folder becomes a file, unless it has anything else in it.
    let mut machine = with(&folder, &[("site", Entry::Folder), ("site/a", entry("1")), ("site/b", Entry::Folder)]);
    assert_eq!(machine.plan(&one).actions[0].fill().unwrap().remove[0].place, place("site/a"));
    machine.disk.set_in_volume(place("site/b/theirs"), entry("theirs"));
    assert!(in_the_way(&machine, &one).contains("has \"site/b/theirs\" in it, which lockstep did not write"));
    let linked = with(&folder, &[("site/a", Entry::Blocked(Obstacle::Symlink("site".to_owned())))]);
    assert!(in_the_way(&linked, &folder).contains("\"site\" is a symlink"));
}

#[test]
fn what_an_unfinished_apply_was_to_remove_from_a_volume_still_goes() {
    let (old, new) = ([poured("old", "1")], [poured("new", "1")]);
    let before = {
        let mut machine = Machine::with(&old, vec![with_volume(container("web", &[]))]);
        machine.disk.set_in_volume(old[0].volume.clone().unwrap(), entry("1"));
        machine
    };
    let action = before.plan(&new).actions[0].clone();
    assert_eq!(action.fill().unwrap().remove.len(), 1);
    // It was committed, and nothing was done in the volume.
    let mut after = Machine::with(&new, before.containers.clone());
    after.disk = before.disk.clone();
    after.applied.as_mut().unwrap().owed.push(Owed { action, deferred: false });
    let applied = after.applied.as_ref();
    assert!(places(&bundle(new.to_vec()), applied).any(|place| Some(place) == old[0].volume.as_ref()));
    assert_eq!(after.plan(&new).actions[0].fill().unwrap().remove.len(), 1);
    assert!(after.plan(&old).is_empty(), "it is wanted again, and there");
}
