use super::*;
use crate::action::{Action, Verb};
use lockstep_shared::api::{Change, FailedBundle, Undo};
use lockstep_shared::{File, Name};

struct Machine {
    folder: tempfile::TempDir,
}

fn bundle(files: &[(&str, &str)]) -> Bundle {
    let name = |text: &str| Name::new(text).unwrap();
    let file = |(path, text): &(&str, &str)| File::plain(SafePath::new(*path).unwrap(), text.as_bytes());
    Bundle::new(name("core"), name("core-1"), None, files.iter().map(file).collect()).unwrap()
}

fn restart(service: &str) -> Action {
    Action {
        service: service.to_owned(),
        container: None,
        verb: Verb::Restart,
        why: "test".to_owned(),
        files: Vec::new(),
        depends_on: Vec::new(),
    }
}

/// The record of writing all of a bundle and removing what `before` had.
fn record(bundle: &Bundle, revision: u64, before: Option<&Applied>) -> (Record, Contents) {
    let gone = before.into_iter().flat_map(|before| before.files.keys());
    let steps = Steps {
        write: bundle.files.iter().map(|file| Write::of(file, Change::Changed)).collect(),
        remove: gone.filter(|path| bundle.file(path.as_str()).is_none()).cloned().collect(),
        folders: Vec::new(),
    };
    let applied = Applied::written("id", bundle, revision, BTreeMap::new(), before, 1);
    let contents = bundle.files.iter().map(|file| (file.path.clone(), file.content.clone())).collect();
    (Record { applied, steps, actions: vec![restart("web")], deferred: vec![restart("db")] }, contents)
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("pryv")).unwrap();
        Self { folder }
    }

    fn start(&self) -> (Store, Option<Applied>) {
        Store::open(&self.folder.path().join("state"), &self.folder.path().join("pryv")).unwrap()
    }

    fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.folder.path().join("pryv").join(path)).ok()
    }

    /// Puts a file back as a crash before its rename would have left it.
    fn put(&self, path: &str, text: &str) {
        std::fs::write(self.folder.path().join("pryv").join(path), text).unwrap();
    }
}

#[test]
fn after_a_crash_files_are_new_and_actions_are_owed() {
    let machine = Machine::new();
    let (one, two) = (bundle(&[("a/x", "1"), ("b", "1")]), bundle(&[("a/x", "2")]));
    {
        let (mut store, applied) = machine.start();
        assert_eq!(applied, None);
        let (first, contents) = record(&one, 1, None);
        store.write(&first, &contents).unwrap();
        let (second, contents) = record(&two, 2, Some(&first.applied));
        store.write(&second, &contents).unwrap();
    }
    machine.put("a/x", "1");
    machine.put("a/.x.lockstep-new", "2");
    machine.put("b", "1");
    let (mut store, applied) = machine.start();
    let mut applied = applied.unwrap();
    assert_eq!((machine.read("a/x").as_deref(), machine.read("b")), (Some("2"), None));
    assert_eq!(machine.read("a/.x.lockstep-new"), None);
    assert_eq!((applied.revision, applied.running.as_ref()), (2, None));
    let owed: Vec<_> = applied.owed.iter().map(|owed| (owed.action.service.as_str(), owed.deferred)).collect();
    assert_eq!(owed, [("web", false), ("db", true)]);
    // Once acted on and made durable, nothing is left to redo.
    applied.settle(Vec::new(), 2);
    store.settle(&applied, true).unwrap();
    store.checkpoint(&applied, None).unwrap();
    drop(store);
    machine.put("a/x", "by hand");
    assert_eq!(machine.start().1, Some(applied));
    assert_eq!(machine.read("a/x").as_deref(), Some("by hand"));
}

#[test]
fn what_was_proven_before_the_crash_is_not_done_again() {
    let machine = Machine::new();
    let one = bundle(&[("a", "1")]);
    {
        let (mut store, _) = machine.start();
        let (mut first, contents) = record(&one, 1, None);
        store.write(&first, &contents).unwrap();
        first.applied.settle(vec![Owed { action: restart("db"), deferred: true }], 2);
        store.settle(&first.applied, true).unwrap();
    }
    // Not made durable, so a power failure may have torn it: the journal knows better.
    std::fs::write(machine.folder.path().join("state/applied.json"), "torn").unwrap();
    let applied = machine.start().1.unwrap();
    assert_eq!(applied.running.as_ref().map(|running| running.revision), Some(1));
    assert_eq!(applied.owed.iter().map(|owed| owed.deferred).collect::<Vec<_>>(), [true]);
}

#[test]
fn where_nothing_was_acted_on_the_journal_says_all() {
    let machine = Machine::new();
    let one = bundle(&[("a", "1")]);
    {
        let (mut store, _) = machine.start();
        let (acted, contents) = record(&one, 1, None);
        store.write(&acted, &contents).unwrap();
        assert!(!store.journal_says_all(), "how acting ended is not in it");
        let (quiet, contents) = record(&one, 2, None);
        store.write(&Record { actions: Vec::new(), ..quiet }, &contents).unwrap();
        assert!(store.journal_says_all());
    }
    // Nothing else was saved.
    let applied = machine.start().1.unwrap();
    assert_eq!(applied.running.as_ref().map(|running| running.revision), Some(2));
    assert_eq!(applied.owed.iter().map(|owed| owed.deferred).collect::<Vec<_>>(), [true]);
}

#[test]
fn a_failure_while_staging_changes_nothing() {
    let machine = Machine::new();
    let (mut store, _) = machine.start();
    machine.put("file", "");
    let (first, contents) = record(&bundle(&[("a", "1"), ("file/x", "1")]), 1, None);
    assert!(matches!(store.write(&first, &contents), Err(WriteError::Before(_))));
    assert_eq!(machine.read("a"), None);
    drop(store);
    assert_eq!(machine.start().1, None);
}

/// Writes a bundle as an apply of its own, and has it proven.
fn prove(store: &mut Store, bundle: &Bundle, revision: u64, before: Option<&Applied>) -> Applied {
    let mut applied = commit(store, bundle, revision, before);
    applied.settle(Vec::new(), 2);
    store.settle(&applied, true).unwrap();
    applied
}

/// The same, but nothing is proven yet. Only what changes is written.
fn commit(store: &mut Store, bundle: &Bundle, revision: u64, before: Option<&Applied>) -> Applied {
    let (mut record, contents) = record(bundle, revision, before);
    let known = |write: &Write| before.and_then(|before| before.files.get(&write.path)).map(|known| known.sha256);
    record.steps.write.retain(|write| known(write) != Some(write.sha256));
    record.applied.apply = format!("apply {revision}");
    store.write(&record, &contents).unwrap();
    record.applied
}

#[test]
fn what_was_good_survives_a_row_of_applies_and_a_crash() {
    let machine = Machine::new();
    let one = bundle(&[("a/same", "same"), ("a/x", "1")]);
    let two = bundle(&[("a/same", "same"), ("a/x", "2")]);
    let three = bundle(&[("a/same", "same"), ("a/x", "3")]);
    {
        let (mut store, _) = machine.start();
        let first = prove(&mut store, &one, 1, None);
        assert!(store.can_go_back(&first, Some(&one)), "the journal has it all");
        let second = prove(&mut store, &two, 2, Some(&first));
        assert!(store.can_go_back(&second, Some(&two)), "the journal still has what the second left as it was");
        assert!(!store.can_go_back(&second, None), "nobody puts it together from the journal before the next start");
        commit(&mut store, &three, 3, Some(&second));
    }
    let (store, applied) = machine.start();
    let applied = applied.unwrap();
    assert_eq!((applied.revision, applied.running.as_ref().map(|running| running.revision)), (3, Some(2)));
    let good = store.good(&two.machine, two.digest).unwrap();
    assert_eq!(good, Some(two));
    assert_eq!(store.good(&one.machine, one.digest).unwrap(), None, "only the last");
}

#[test]
fn what_an_undo_needs_is_kept_before_the_next_commit() {
    let machine = Machine::new();
    let one = bundle(&[("a/x", "1"), ("a/y", "1")]);
    let applied = {
        let (mut store, _) = machine.start();
        let applied = prove(&mut store, &one, 1, None);
        store.checkpoint(&applied, None).unwrap();
        assert_eq!(store.good(&one.machine, one.digest).unwrap().as_ref(), Some(&one), "kept from the disk");
        applied
    };
    std::fs::remove_dir_all(machine.folder.path().join("state/previous")).unwrap();
    let (mut store, _) = machine.start();
    assert!(!store.can_go_back(&applied, None));
    store.checkpoint(&applied, None).unwrap();
    assert!(store.can_go_back(&applied, None));
    drop(store);
    // A file that somebody changed meanwhile is nothing to go back to.
    std::fs::remove_dir_all(machine.folder.path().join("state/previous")).unwrap();
    machine.put("a/x", "by hand");
    let (mut store, _) = machine.start();
    store.checkpoint(&applied, None).unwrap();
    assert!(!store.can_go_back(&applied, None));
    store.checkpoint(&applied, Some(&one)).unwrap();
    assert_eq!(store.good(&one.machine, one.digest).unwrap(), Some(one), "memory knows it still");
}

#[test]
fn a_failure_that_was_noted_is_known_after_a_crash() {
    let machine = Machine::new();
    let (one, two) = (bundle(&[("a", "1")]), bundle(&[("a", "2")]));
    {
        let (mut store, _) = machine.start();
        let first = prove(&mut store, &one, 1, None);
        let mut second = commit(&mut store, &two, 2, Some(&first));
        let failed = FailedBundle {
            revision: 2,
            digest: two.digest,
            since: 3,
            why: "it died".to_owned(),
            undo: Undo::Pending,
            advice: None,
        };
        second.fail(failed, vec![Owed { action: restart("web"), deferred: false }]);
        store.note(&second).unwrap();
    }
    let (store, applied) = machine.start();
    let applied = applied.unwrap();
    assert!(applied.undoes() && applied.failed.as_ref().is_some_and(|failed| failed.why == "it died"));
    assert_eq!(applied.owed.len(), 1, "what was acted on, not all that was planned");
    assert_eq!(store.good(&one.machine, one.digest).unwrap(), Some(one));
}
