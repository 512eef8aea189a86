//! A filled-in single-node platform of the original, and what its leader
//! served: the import serves the same.
#![allow(clippy::unwrap_used, reason = "a test")]

use lockstep_pryv::{Answers, Draft, Old, Root};
use lockstep_shared::{Bundle, Name};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/pryv-single-node")
}

/// Every file below a folder, by path.
fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    files
}

fn files(bundle: &Arc<Bundle>) -> BTreeMap<String, Vec<u8>> {
    bundle.files.iter().map(|file| (file.path.to_string(), file.content.to_vec())).collect()
}

#[test]
fn the_single_node_platform_keeps_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let old = Old::read(&fixture().join("input")).unwrap();
    let before = tree(&fixture().join("input"));
    let draft = Draft::of(&old, &Answers::default()).unwrap();
    lockstep_pryv::write(&draft, &root).unwrap();
    let bundles = Root::open(&root).unwrap().render(&Name::new("singlenode").unwrap()).unwrap();
    let found = files(bundles.values().next().unwrap());
    let expected = tree(&fixture().join("expected/singlenode"));
    assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
    for (path, bytes) in &expected {
        assert_eq!(String::from_utf8_lossy(bytes), String::from_utf8_lossy(&found[path]), "{path}");
        assert_eq!(bytes, &found[path], "{path}");
    }
    assert_eq!(before, tree(&fixture().join("input")));
}
