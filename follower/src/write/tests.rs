use super::*;
use lockstep_shared::api::Change;
use lockstep_shared::{File as BundleFile, Mode};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

struct Case {
    folder: tempfile::TempDir,
    state: tempfile::TempDir,
    data: DataFolder,
    files: Vec<BundleFile>,
}

impl Case {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path(), false).unwrap();
        let file = |(path, text): &(&str, &str)| BundleFile::plain(SafePath::new(*path).unwrap(), text.as_bytes());
        Self { files: files.iter().map(file).collect(), folder, state: tempfile::tempdir().unwrap(), data }
    }

    fn steps(&self) -> Steps {
        Steps { write: self.files.iter().map(|file| Write::of(file, Change::Added)).collect(), ..Steps::default() }
    }

    fn content(&self) -> Contents {
        self.files.iter().map(|file| (file.path.clone(), file.content.clone())).collect()
    }

    /// One, so that there are both: files that were made before, and files that are not.
    fn spares(&self) -> Spares {
        Spares::filled(self.state.path(), 1)
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(path)).unwrap()
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

fn tree(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.strip_prefix(folder).unwrap().display().to_string());
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn staged_files_are_invisible_until_the_swap() {
    let case = Case::new(&[("a/conf/x", "new"), ("b", "bee")]);
    case.put("a/conf/x", "old");
    case.put("gone/x", "old");
    let mut steps = case.steps();
    steps.remove = vec![SafePath::new("gone/x").unwrap(), SafePath::new("never/there").unwrap()];
    steps.folders = vec![SafePath::new("a/data").unwrap()];
    let mut spares = case.spares();
    let staged = stage(&case.data, &steps, &case.content(), &mut spares).unwrap();
    assert_eq!(case.read("a/conf/x"), "old");
    staged.swap(&case.content()).unwrap().sync(&case.data).unwrap();
    assert_eq!(tree(case.folder.path()), ["a", "a/conf", "a/conf/x", "a/data", "b", "gone"]);
    assert_eq!(case.read("a/conf/x"), "new");
}

#[test]
fn undo_leaves_no_trace() {
    let case = Case::new(&[("new/folder/x", "x"), ("a/conf/x", "new")]);
    case.put("a/conf/x", "old");
    let before = tree(case.folder.path());
    stage(&case.data, &case.steps(), &case.content(), &mut case.spares()).unwrap().undo();
    assert_eq!(tree(case.folder.path()), before);
}

#[test]
fn a_failure_in_the_middle_changes_nothing() {
    let case = Case::new(&[("a/x", "x"), ("b/link/x", "x")]);
    case.put("b/y", "y");
    symlink("/tmp", case.folder.path().join("b/link")).unwrap();
    let before = tree(case.folder.path());
    let error = stage(&case.data, &case.steps(), &case.content(), &mut case.spares()).unwrap_err().to_string();
    assert!(error.contains("\"b/link\" is a symlink"), "{error}");
    assert_eq!(tree(case.folder.path()), before);
}

#[test]
fn a_symlink_planted_at_the_staged_name_is_not_followed() {
    let case = Case::new(&[("a/x", "secret")]);
    case.put("a/y", "");
    case.put("target", "untouched");
    symlink(case.folder.path().join("target"), case.folder.path().join("a/.x.lockstep-new")).unwrap();
    stage(&case.data, &case.steps(), &case.content(), &mut case.spares()).unwrap().swap(&case.content()).unwrap();
    assert_eq!((case.read("target").as_str(), case.read("a/x").as_str()), ("untouched", "secret"));
    assert!(case.folder.path().join("a/x").symlink_metadata().unwrap().is_file());
}

#[test]
fn in_place_keeps_the_inode_and_cuts_what_is_left_over() {
    let mut case = Case::new(&[("one", "short")]);
    case.put("one", "a much longer text");
    case.files[0].mode = Mode::try_from("0600".to_owned()).unwrap();
    let inode = |case: &Case| case.folder.path().join("one").metadata().unwrap().ino();
    let before = inode(&case);
    let mut steps = case.steps();
    steps.write[0].how = How::InPlace;
    stage(&case.data, &steps, &case.content(), &mut case.spares()).unwrap().swap(&case.content()).unwrap();
    assert_eq!((case.read("one").as_str(), inode(&case)), ("short", before));
    assert_eq!(case.folder.path().join("one").metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn after_a_crash_anywhere_redo_ends_with_the_new_files() {
    // Every prefix of the swap is a state that a crash can leave behind.
    for crashed_after in 0..=3 {
        let case = Case::new(&[("a/x", "new x"), ("b/y", "new y"), ("c/z", "new z")]);
        case.put("a/x", "old");
        case.put("old", "old");
        let mut steps = case.steps();
        steps.remove = vec![SafePath::new("old").unwrap()];
        std::mem::forget(stage(&case.data, &steps, &case.content(), &mut case.spares()).unwrap());
        for write in &steps.write[..crashed_after] {
            let to = case.folder.path().join(write.path.as_str());
            let staged = to.with_file_name(staged_name(write.path.file_name()));
            std::fs::rename(staged, to).unwrap();
        }
        let data = DataFolder::open(case.folder.path(), true).unwrap();
        data.sweep().unwrap();
        redo(&data, &steps, &case.content(), &mut case.spares()).unwrap();
        assert_eq!(tree(case.folder.path()), ["a", "a/x", "b", "b/y", "c", "c/z"]);
        for (path, text) in [("a/x", "new x"), ("b/y", "new y"), ("c/z", "new z")] {
            assert_eq!(case.read(path), text);
        }
    }
}

#[test]
fn the_longest_names_can_be_staged() {
    let name = "n".repeat(255);
    let case = Case::new(&[(&name, "x")]);
    stage(&case.data, &case.steps(), &case.content(), &mut case.spares()).unwrap().swap(&case.content()).unwrap();
    assert_eq!(case.read(&name), "x");
}

#[test]
fn a_full_disk_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "lockstep-test"])
        .arg(folder.path())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        return; // only root can make a disk that is full
    }
    let outcome = std::panic::catch_unwind(|| {
        std::fs::write(folder.path().join("small"), "old").unwrap();
        let data = DataFolder::open(folder.path(), false).unwrap();
        let files = [
            BundleFile::plain(SafePath::new("small").unwrap(), b"new".as_slice()),
            BundleFile::plain(SafePath::new("x/large").unwrap(), vec![7; 128 * 1024]),
        ];
        let steps =
            Steps { write: files.iter().map(|file| Write::of(file, Change::Changed)).collect(), ..Steps::default() };
        let contents = files.iter().map(|file| (file.path.clone(), file.content.clone())).collect();
        let state = tempfile::tempdir().unwrap();
        let mut spares = Spares::filled(state.path(), 2);
        let error = stage(&data, &steps, &contents, &mut spares).unwrap_err().to_string();
        assert!(error.contains("df -h"), "{error}");
        assert_eq!(tree(folder.path()), ["small"]);
        assert_eq!(std::fs::read_to_string(folder.path().join("small")).unwrap(), "old");
    });
    assert!(std::process::Command::new("umount").arg(folder.path()).status().unwrap().success());
    outcome.unwrap();
}

/// A machine where `before` was written, whose next bundle has only `after`.
fn exchange(before: &str, after: &str) -> (Case, Steps) {
    let case = Case::new(&[(after, "new")]);
    case.put(before, "old");
    let steps = Steps { remove: vec![SafePath::new(before).unwrap()], ..case.steps() };
    (case, steps)
}

#[test]
fn a_file_becomes_a_folder_and_a_folder_a_file() {
    for (before, after) in [("a/b", "a/b/c/d"), ("a/b/c/d", "a/b"), ("a", "a/b"), ("a/b", "a")] {
        let (case, steps) = exchange(before, after);
        let mut spares = case.spares();
        let staged = stage(&case.data, &steps, &case.content(), &mut spares).unwrap();
        assert_eq!(case.read(before), "old", "nothing is gone before the commit");
        staged.swap(&case.content()).unwrap();
        assert_eq!(case.read(after), "new");
        assert!(!tree(case.folder.path()).iter().any(|path| path.contains("lockstep-new")), "{before} to {after}");
        // Doing it once more, as the next start does after a crash at its very end, changes nothing.
        redo(&case.data, &steps, &case.content(), &mut case.spares()).unwrap();
        assert_eq!(case.read(after), "new");
    }
}

#[test]
fn a_crash_between_going_and_coming_is_finished() {
    for (before, after) in [("a/b", "a/b/c/d"), ("a/b/c/d", "a/b")] {
        let (case, steps) = exchange(before, after);
        // It is gone, and its folder may still be there.
        std::fs::remove_file(case.folder.path().join(before)).unwrap();
        redo(&case.data, &steps, &case.content(), &mut case.spares()).unwrap();
        assert_eq!(case.read(after), "new", "{before} to {after}");
    }
}

#[test]
fn a_folder_with_anything_of_somebody_elses_is_no_file() {
    let (case, steps) = exchange("a/b/c", "a/b");
    case.put("a/b/theirs", "theirs");
    let before = tree(case.folder.path());
    let said = stage(&case.data, &steps, &case.content(), &mut case.spares()).unwrap_err().to_string();
    assert!(said.contains("a/b/theirs") && said.contains("did not write"), "{said}");
    assert_eq!(tree(case.folder.path()), before);
}
