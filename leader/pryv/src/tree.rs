//! The original's template tree: the files of each role as its leader reads
//! them, and those it leaves out.

use crate::ImportError;
use crate::live::Live;
use lockstep_shared::{Name, SafePath};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The largest file that lockstep takes, in bytes.
const LARGEST: u64 = 16 * 1024 * 1024;

/// One role.
#[derive(Debug)]
pub struct OldRole {
    /// Its name: the folder's.
    pub name: Name,
    /// In the order in which the original lists them.
    pub files: Vec<OldFile>,
    /// What of them stands on this machine, if it has the role.
    pub(crate) live: BTreeMap<SafePath, Live>,
}

/// One file of a role.
#[derive(Debug)]
pub struct OldFile {
    /// Below the role's folder.
    pub path: SafePath,
    /// As it stands on the disk.
    pub bytes: Vec<u8>,
    /// As the original reads it: what is not UTF-8 becomes U+FFFD.
    pub text: String,
    /// Whether that changes it.
    pub binary: bool,
    /// Whether its owner may execute it: the original forgets that.
    pub executable: bool,
    /// The file of equal base name for which the original leaves it out.
    pub dropped_for: Option<SafePath>,
}

/// Reads all roles below the template folder; the names of what stands there
/// and is none. `wanted` are those that followers have.
pub(crate) fn read(folder: &Path, wanted: &BTreeSet<&str>) -> Result<(Vec<OldRole>, Vec<String>), ImportError> {
    let mut roles = Vec::new();
    let mut others = Vec::new();
    for entry in sorted(folder)? {
        let path = folder.join(&entry);
        let shown = entry.to_string_lossy().into_owned();
        if !path.symlink_metadata().map_err(|error| ImportError::read(&path, error))?.is_dir() {
            others.push(shown);
            continue;
        }
        // Somebody's repository, or another folder that only stands there.
        if !wanted.contains(shown.as_str()) && (shown.starts_with('.') || Name::new(shown.as_str()).is_err()) {
            others.push(shown);
            continue;
        }
        let name = Name::new(shown).map_err(|bad| ImportError::at(&path, bad.to_string()))?;
        if matches!(name.as_str(), "partials" | "migrations") {
            let what = format!("a role can't be called {name} in lockstep: rename it in a copy of the installation");
            return Err(ImportError::at(&path, what));
        }
        let mut files = Vec::new();
        walk(&path, "", &mut files)?;
        shadow(&mut files);
        roles.push(OldRole { name, files, live: BTreeMap::new() });
    }
    Ok((roles, others))
}

/// As Node's `readdir` gives them: by bytes.
fn sorted(folder: &Path) -> Result<Vec<OsString>, ImportError> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(|error| ImportError::read(folder, error))?;
    let mut names: Vec<OsString> = entries.into_iter().map(|entry| entry.file_name()).collect();
    names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    Ok(names)
}

fn walk(folder: &Path, below: &str, files: &mut Vec<OldFile>) -> Result<(), ImportError> {
    for entry in sorted(folder)? {
        let path = folder.join(&entry);
        let Some(name) = entry.to_str() else {
            return Err(ImportError::at(&path, "the name is not UTF-8: rename it in a copy of the installation"));
        };
        let relative = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        let meta = path.symlink_metadata().map_err(|error| ImportError::read(&path, error))?;
        if meta.is_dir() {
            walk(&path, &relative, files)?;
            continue;
        }
        // The original follows links to files.
        let meta = fs::metadata(&path).map_err(|error| ImportError::read(&path, error))?;
        if !meta.is_file() {
            return Err(ImportError::at(&path, "is no file: the original can't serve its role with it; remove it"));
        }
        if meta.len() > LARGEST {
            let what = format!("has {} bytes, and lockstep takes at most {LARGEST}: configuration only", meta.len());
            return Err(ImportError::at(&path, what));
        }
        let bytes = fs::read(&path).map_err(|error| ImportError::read(&path, error))?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        files.push(OldFile {
            path: SafePath::new(relative).map_err(|bad| ImportError::at(&path, bad.to_string()))?,
            binary: text.as_bytes() != bytes,
            bytes,
            text,
            executable: meta.permissions().mode() & 0o100 != 0,
            dropped_for: None,
        });
    }
    Ok(())
}

/// Of files with equal base names anywhere in a role the original leaves some
/// out: a JSON file that comes after another kind, and a JSON file before any.
fn shadow(files: &mut [OldFile]) {
    let mut seen: HashMap<String, usize> = HashMap::new();
    for at in 0..files.len() {
        let stem = stem(files[at].path.file_name()).to_owned();
        let json = |file: &OldFile| file.path.as_str().ends_with(".json");
        if let Some(&before) = seen.get(&stem) {
            if json(&files[before]) {
                files[before].dropped_for = Some(files[at].path.clone());
            } else if json(&files[at]) {
                files[at].dropped_for = Some(files[before].path.clone());
                continue;
            }
        }
        seen.insert(stem, at);
    }
}

/// A file's name without its extension, as Node's `path.parse` has it.
fn stem(name: &str) -> &str {
    match name.rfind('.') {
        Some(dot) if dot > 0 => &name[..dot],
        _ => name,
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test lays out need not be durable")]
mod tests {
    use super::*;

    #[test]
    fn equal_base_names_shadow_each_other_across_folders() {
        let folder = tempfile::tempdir().unwrap();
        for path in
            ["a/conf/x.json", "b/conf/x.yml", "c/conf/x.json", "d/y.json", "e/y.json", "f/.gitkeep", "g/.gitkeep"]
        {
            let path = folder.path().join("core").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"{}\xff").unwrap();
        }
        let (roles, _) = read(folder.path(), &BTreeSet::new()).unwrap();
        let left: Vec<_> =
            roles[0].files.iter().filter(|file| file.dropped_for.is_none()).map(|file| file.path.as_str()).collect();
        assert_eq!(left, ["b/conf/x.yml", "e/y.json", "f/.gitkeep", "g/.gitkeep"]);
        assert!(roles[0].files.iter().all(|file| file.binary && file.text == "{}\u{fffd}"));
    }
}
