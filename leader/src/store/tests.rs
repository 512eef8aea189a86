//! What the store promises, whatever happens to its files.
#![allow(clippy::disallowed_methods, reason = "what a test lays out need not be durable")]

use super::*;
use crate::secrets::{Fresh, Used};
use crate::source::{Source, SourceFile};
use lockstep_shared::{Bundle, File as BundleFile, Name, SafePath, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn bundle(machine: &str, files: &[(&str, &str)]) -> (Name, Arc<Bundle>) {
    let files = files.iter().map(|(path, text)| BundleFile::plain(SafePath::new(*path).unwrap(), text.as_bytes()));
    (name(machine), Arc::new(Bundle::new(name("core"), name(machine), None, files.collect()).unwrap()))
}

fn revision_of(number: u64, source: &str, bundles: impl IntoIterator<Item = (Name, Arc<Bundle>)>) -> Revision {
    let mut files = Source::default();
    files.files.insert("platform.yml".into(), SourceFile::new(source.as_bytes(), false));
    files.files.insert("templates/core/run".into(), SourceFile::new(&b"#!"[..], true));
    Revision {
        number,
        created: 5,
        author: "me".into(),
        message: "canary why".into(),
        release: "1.0".into(),
        rolled_back_to: None,
        source: files,
        bundles: bundles.into_iter().collect(),
    }
}

fn revision(number: u64, content: &str) -> Revision {
    revision_of(number, content, [bundle("core-1", &[("a/b", content)])])
}

fn same(a: &Revision, b: &Revision) -> bool {
    (a.number, &a.author, &a.message, &a.source, &a.bundles) == (b.number, &b.author, &b.message, &b.source, &b.bundles)
}

fn none() -> Used {
    Used::default()
}

/// A closed store with two revisions.
fn filled(folder: &Path) -> (Revision, Revision) {
    let revisions = (revision(1, &"one\n".repeat(300)), revision(2, &"two\n".repeat(300)));
    let mut store = Store::open(folder).unwrap();
    store.insert(&revisions.0, &none()).unwrap();
    store.insert(&revisions.1, &none()).unwrap();
    revisions
}

/// The files of a state folder in another, the database as given.
fn with_database(state: &Path, to: &Path, database: &[u8]) {
    fs::create_dir_all(to).unwrap();
    fs::copy(state.join(KEY), to.join(KEY)).unwrap();
    fs::write(to.join(DATABASE), database).unwrap();
}

fn count(store: &Store, table: &str) -> u64 {
    store.connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

#[test]
fn what_goes_in_comes_out_and_is_not_readable() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let mut store = Store::open(&state).unwrap();
    assert!(store.latest().unwrap().is_none());
    store.insert(&revision(1, "canary-one"), &none()).unwrap();
    let fresh = vec![Fresh::given("KEY", "", "canary-three".to_owned(), "me")];
    let used = Used { values: BTreeSet::from(["canary-four".to_owned()]), fresh };
    store.put_draft(&used.fresh[0]).unwrap();
    assert_eq!(store.secret("KEY", "").unwrap(), None);
    store.insert(&revision(2, "canary-two"), &used).unwrap();
    assert!(store.draft("KEY", "").unwrap().is_none());
    assert!(matches!(Store::open(&state), Err(StoreError::Locked(_))));
    drop(store);
    let store = Store::open(&state).unwrap();
    assert!(same(&store.latest().unwrap().unwrap(), &revision(2, "canary-two")));
    assert!(same(&store.revision(1).unwrap().unwrap(), &revision(1, "canary-one")));
    for unknown in [0, 3, u64::MAX] {
        assert!(store.revision(unknown).unwrap().is_none());
    }
    assert_eq!(store.secret("KEY", "").unwrap().as_deref(), Some("canary-three"));
    assert_eq!(store.secret("KEY", "core").unwrap(), None);
    assert_eq!(store.rendered_secrets().unwrap(), BTreeSet::from(["canary-four".to_owned()]));
    for entry in fs::read_dir(&state).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"canary"));
    }
}

#[test]
fn numbers_have_no_gaps_and_nothing_is_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path()).unwrap();
    assert!(matches!(store.insert(&revision(2, "x"), &none()), Err(StoreError::Order { last: 0, wanted: 2 })));
    store.insert(&revision(1, "x"), &none()).unwrap();
    assert!(matches!(store.insert(&revision(1, "y"), &none()), Err(StoreError::Order { last: 1, wanted: 1 })));
    assert!(same(&store.latest().unwrap().unwrap(), &revision(1, "x")));
}

#[test]
fn a_revision_costs_what_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path()).unwrap();
    let fleet = |changed: &str| -> BTreeMap<Name, Arc<Bundle>> {
        let machine = |index: usize| {
            let own = if index == 7 { changed } else { "same" };
            let paths: Vec<String> = (0..70).map(|file| format!("part{}/conf/file{file}", file % 7)).collect();
            let files: Vec<(&str, &str)> = paths
                .iter()
                .enumerate()
                .map(|(file, path)| (path.as_str(), if file == 33 { own } else { path }))
                .collect();
            bundle(&format!("core-{index}"), &files)
        };
        (0..20).map(machine).collect()
    };
    store.insert(&revision_of(1, "p1", fleet("a")), &none()).unwrap();
    assert_eq!(count(&store, "bundle"), 20);
    let before = count(&store, "content");
    store.insert(&revision_of(2, "p1", fleet("b")), &none()).unwrap();
    assert_eq!(count(&store, "bundle"), 21);
    assert_eq!(count(&store, "content"), before + 2, "the file and its piece of the list");
    let (first, second) = (store.head(1).unwrap().unwrap(), store.head(2).unwrap().unwrap());
    let (old, new) = (store.holdings(&first).unwrap(), store.holdings(&second).unwrap());
    let (gone, come) = store.differing(&old, &new).unwrap();
    assert_eq!((gone.len(), come.len()), (1, 1));
    assert_eq!(&*come[&name("core-7")].files[0].content, b"b");
    assert_eq!(second.touched.len(), 1);
    assert_eq!((second.touched[0].touch, second.touched[0].file_count), (Touch::Changed, 1));
    assert_eq!(second.touched[0].files[0].as_str(), "part5/conf/file33");
    assert_eq!(store.revision(1).unwrap().unwrap().bundles, fleet("a"));
    assert_eq!(store.revision(2).unwrap().unwrap().bundles, fleet("b"));
}

#[test]
fn machines_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path()).unwrap();
    let of = |machines: &[&str]| -> Vec<_> { machines.iter().map(|name| bundle(name, &[("f", name)])).collect() };
    let fleets = [&["a", "b"][..], &["b"], &["b", "c"], &["a", "b"]];
    for (number, fleet) in (1..).zip(fleets) {
        store.insert(&revision_of(number, "p", of(fleet)), &none()).unwrap();
    }
    for (number, fleet) in (1..).zip(fleets) {
        let read = store.revision(number).unwrap().unwrap();
        assert_eq!(read.bundles, of(fleet).into_iter().collect());
    }
    let numbers = |machine| -> Vec<u64> {
        store.heads(u64::MAX, machine, 10).unwrap().into_iter().map(|head| head.number).collect()
    };
    assert_eq!(numbers(Some("a")), [4, 2, 1]);
    assert_eq!(numbers(Some("b")), [1]);
    assert_eq!(numbers(None), [4, 3, 2, 1]);
    assert_eq!(store.heads(3, None, 1).unwrap()[0].number, 2);
    assert_eq!(store.machines().unwrap(), ["a", "b", "c"]);
    let third = store.head(3).unwrap().unwrap();
    assert_eq!(third.touched.iter().map(|touched| touched.touch).collect::<Vec<_>>(), [Touch::New]);
}

#[test]
fn what_was_proven_is_found_by_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let row = |at, revision| Proven {
        machine: "core-1".into(),
        at,
        revision: Some(revision),
        digest: Some(Sha256::of(b"x")),
        failed: None,
    };
    store.put_proven(&[row(100, 1), row(200, 2), row(200, 3)]).unwrap();
    let at = |time| store.proven_at("core-1", time).unwrap().and_then(|proven| proven.revision);
    assert_eq!([at(99), at(100), at(199), at(200), at(900)], [None, Some(1), Some(1), Some(3), Some(3)]);
    assert_eq!(store.proven_at("core-2", 900).unwrap(), None);
}

#[test]
fn a_foreign_key_is_told() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    durable::replace(&folder.path().join(KEY), &[7; 32], 0o600).unwrap();
    assert!(matches!(Store::open(folder.path()).unwrap().latest(), Err(StoreError::Damaged { .. })));
}

#[test]
fn a_publication_that_was_cut_off_anywhere_is_whole_or_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let (_, last) = filled(&state);
    let database = fs::read(state.join(DATABASE)).unwrap();
    // Held open, so that the third lies in the write-ahead log only.
    let mut store = Store::open(&state).unwrap();
    let next = revision(3, &"three\n".repeat(300));
    store.insert(&next, &none()).unwrap();
    assert_eq!(fs::read(state.join(DATABASE)).unwrap(), database, "not yet moved into the database");
    let log = fs::read(state.join("store.db-wal")).unwrap();
    let mut found = [0, 0];
    for (index, cut) in (0..=log.len()).step_by(487).chain([log.len()]).enumerate() {
        for torn in [false, true] {
            let copy = folder.path().join(format!("cut-{index}-{torn}"));
            with_database(&state, &copy, &database);
            let mut bytes = log[..cut].to_vec();
            if torn {
                // What the disk had there before, as after a power cut.
                bytes.resize(log.len(), 0xA5);
            }
            fs::write(copy.join("store.db-wal"), bytes).unwrap();
            let latest = Store::open(&copy).unwrap().latest().unwrap().unwrap();
            assert!(same(&latest, &last) || same(&latest, &next), "cut at {cut}");
            found[usize::from(same(&latest, &next))] += 1;
            fs::remove_dir_all(copy).unwrap();
        }
    }
    assert!(found[0] > 10 && found[1] >= 1, "{found:?}");
}

#[test]
fn a_flipped_bit_is_told_or_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let (_, last) = filled(&state);
    let database = fs::read(state.join(DATABASE)).unwrap();
    let mut told = 0;
    for place in (0..database.len()).step_by(89) {
        let copy = folder.path().join(format!("flip-{place}"));
        let mut bytes = database.clone();
        bytes[place] ^= 1 << (place % 8);
        with_database(&state, &copy, &bytes);
        match Store::open(&copy).and_then(|store| store.latest()) {
            Ok(Some(read)) => assert!(same(&read, &last), "bit at {place}"),
            Ok(None) => panic!("bit at {place}: as if nothing was ever published"),
            Err(_) => told += 1,
        }
        fs::remove_dir_all(copy).unwrap();
    }
    assert!(told > 5, "{told}");
}

#[test]
fn a_truncated_or_emptied_database_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let (_, last) = filled(&state);
    let database = fs::read(state.join(DATABASE)).unwrap();
    for (index, length) in (0..database.len()).step_by(4096).enumerate() {
        let copy = folder.path().join(format!("short-{index}"));
        with_database(&state, &copy, &database[..length]);
        match Store::open(&copy).and_then(|store| store.latest()) {
            Ok(read) => assert!(read.is_some_and(|read| same(&read, &last)), "{length}"),
            Err(error) => {
                let said = error.to_string();
                assert!(said.contains("lockstep restore") || matches!(error, StoreError::Newer { .. }), "{said}");
            }
        }
    }
}

#[test]
fn a_database_that_is_gone_is_not_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    let away = folder.path().join("away");
    fs::rename(folder.path().join(DATABASE), &away).unwrap();
    assert!(matches!(Store::open(folder.path()), Err(StoreError::Missing(_))));
    assert!(matches!(Store::peek(folder.path()), Err(StoreError::Missing(_))));
    // Interrupted just before it was moved in place, it is.
    fs::rename(&away, folder.path().join(MAKING)).unwrap();
    assert_eq!(Store::open(folder.path()).unwrap().last_number().unwrap(), 2);
    fs::remove_file(folder.path().join(KEY)).unwrap();
    assert!(Store::open(folder.path()).err().unwrap().to_string().contains("restore"));
}

#[test]
fn a_database_that_is_moved_away_takes_nothing_more() {
    for file in [DATABASE, "store.db-wal"] {
        for copied_back in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            filled(folder.path());
            let mut store = Store::open(folder.path()).unwrap();
            let path = folder.path().join(file);
            let bytes = fs::read(&path).unwrap();
            let away = folder.path().join("away");
            fs::rename(&path, &away).unwrap();
            if copied_back {
                fs::write(&path, bytes).unwrap();
            }
            assert!(matches!(store.insert(&revision(3, "x"), &none()), Err(StoreError::Moved(_))), "{file}");
            assert!(matches!(
                store.put_draft(&Fresh::given("A", "", "bbbb".to_owned(), "me")),
                Err(StoreError::Moved(_))
            ));
            // The very file back in its place: all is well again.
            fs::rename(&away, &path).unwrap();
            store.insert(&revision(3, "x"), &none()).unwrap();
            assert_eq!(store.last_number().unwrap(), 3);
        }
    }
}

#[test]
fn a_snapshot_is_whole_and_a_damaged_one_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let (_, last) = filled(&state);
    let copy = folder.path().join("copy");
    fs::create_dir(&copy).unwrap();
    fs::copy(state.join(KEY), copy.join(KEY)).unwrap();
    let store = Store::open(&state).unwrap();
    store.snapshot(&copy.join(DATABASE)).unwrap();
    assert_eq!(Store::verify(&copy).unwrap(), 2);
    assert!(same(&Store::open(&copy).unwrap().latest().unwrap().unwrap(), &last));
    let file = fs::File::options().write(true).open(copy.join(DATABASE)).unwrap();
    file.write_all_at(&[0xFF; 4096], 3 * 8192).unwrap();
    assert!(Store::verify(&copy).is_err());
}

#[test]
fn a_store_of_layout_1_opens_and_is_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/stores/layout-1");
    for file in [DATABASE, KEY] {
        fs::copy(old.join(file), folder.path().join(file)).unwrap();
    }
    fs::set_permissions(folder.path().join(KEY), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    // A reader brings it up to date too, where no leader has it.
    assert_eq!(Store::peek(folder.path()).unwrap().unwrap().last_number().unwrap(), 4);
    let mut store = Store::open(folder.path()).unwrap();
    let mut shown = String::new();
    for number in 1..=4 {
        let read = store.revision(number).unwrap().unwrap();
        shown += &format!("{number} {} {:?} {}\n", read.author, read.message, read.release);
        for (file, content) in &read.source.files {
            let text = if file == "platform.yml" {
                String::from_utf8_lossy(&content.bytes).trim().to_owned()
            } else {
                String::new()
            };
            shown += &format!("  {file} {} {text}\n", content.executable);
        }
        for bundle in read.bundles.values() {
            shown += &format!("  {} {} {}\n", bundle.machine, bundle.role, bundle.digest);
        }
        let head = store.head(number).unwrap().unwrap();
        shown += &format!("  {:?} {:?}\n", head.edited, head.touched);
    }
    insta::assert_snapshot!(shown);
    assert_eq!(store.rendered_secrets().unwrap().len(), 1);
    assert_eq!(store.secret("TOKEN", "").unwrap().unwrap().len(), 32);
    let mut next = store.latest().unwrap().unwrap();
    next.number = 5;
    store.insert(&next, &none()).unwrap();
    assert_eq!(Store::verify(folder.path()).unwrap(), 5);
}
