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
