//! Everything a revision is made from, read once: `platform.yml` and the
//! template tree, as bytes. Rendering sees only this, never the disk, so a
//! stored revision can be rendered again as it was.

use crate::fault::{Fault, Faults, one_line};
use lockstep_shared::Sha256;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name of the platform file within a source.
pub const PLATFORM: &str = "platform.yml";
/// The folder of the templates within a source.
pub const TEMPLATES: &str = "templates";

/// The largest file of a template tree, in bytes.
const LARGEST: u64 = 16 * 1024 * 1024;

/// The files by name: `platform.yml` and `templates/...`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// Sorted by name.
    pub files: BTreeMap<String, SourceFile>,
}

/// One file as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its bytes.
    pub bytes: Arc<[u8]>,
    /// Its hash.
    pub sha256: Sha256,
    /// Whether its owner may execute it.
    pub executable: bool,
}

impl SourceFile {
    /// From bytes.
    pub fn new(bytes: impl Into<Arc<[u8]>>, executable: bool) -> Self {
        let bytes = bytes.into();
        Self { sha256: Sha256::of(&bytes), bytes, executable }
    }
}

impl Source {
    /// Reads the platform file and the template tree.
    pub fn read(platform: &Path, templates: &Path) -> Result<Self, Faults> {
        let mut source = Self::default();
        let mut faults = Vec::new();
        match fs::read(platform) {
            Ok(bytes) => {
                source.files.insert(PLATFORM.to_owned(), SourceFile::new(bytes, false));
            }
            Err(error) => faults.push(Fault::new(
                PLATFORM,
                format!("{} can't be read: {error}; write it, or say where it is (paths.platform)", platform.display()),
            )),
        }
        source.walk(templates, &mut faults);
        Faults(faults).check()?;
        Ok(source)
    }

    /// Reads a template tree alone, where there is no platform file yet.
    pub fn templates(templates: &Path) -> Result<Self, Faults> {
        let mut source = Self::default();
        let mut faults = Vec::new();
        source.walk(templates, &mut faults);
        Faults(faults).check()?;
        Ok(source)
    }

    fn walk(&mut self, templates: &Path, faults: &mut Vec<Fault>) {
        match templates.canonicalize() {
            Ok(top) => Walk { top: &top, source: self, faults }.folder(&top, TEMPLATES),
            Err(error) => faults.push(Fault::new(
                TEMPLATES,
                format!(
                    "{} can't be read: {error}; install a release, or say where it is (paths.templates)",
                    templates.display()
                ),
            )),
        }
    }

    /// A file's text, if it is there; a fault where it is not UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Fault> {
        self.files.get(name).map(|file| utf8(name, &file.bytes)).transpose()
    }
}

/// Text of a file that has to be UTF-8, or where it stops being that.
pub fn utf8<'b>(name: &str, bytes: &'b [u8]) -> Result<&'b str, Fault> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        Fault::new(name, "not UTF-8 from here on: save it as UTF-8; a binary file travels as it is when its name doesn't end in .hbs")
            .at((line, column))
    })
}

struct Walk<'s> {
    top: &'s Path,
    source: &'s mut Source,
    faults: &'s mut Vec<Fault>,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path, name: &str) {
        let entries = match fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
            Ok(entries) => entries,
            Err(error) => return self.faults.push(Fault::new(name, format!("can't be listed: {error}"))),
        };
        for entry in entries {
            let Some(file_name) = entry.file_name().to_str().map(str::to_owned) else {
                let what =
                    format!("the name {} is not UTF-8: rename it", one_line(&entry.file_name().to_string_lossy()));
                self.faults.push(Fault::new(name, what));
                continue;
            };
            self.entry(&entry.path(), &format!("{name}/{file_name}"));
        }
    }

    fn entry(&mut self, path: &Path, name: &str) {
        let kind = match path.symlink_metadata() {
            Ok(meta) => meta.file_type(),
            Err(error) => return self.faults.push(Fault::new(name, format!("can't be read: {error}"))),
        };
        if kind.is_dir() {
            return self.folder(path, name);
        }
        let target = if kind.is_symlink() {
            match self.follow(path) {
                Ok(target) => target,
                Err(what) => return self.faults.push(Fault::new(name, what)),
            }
        } else {
            path.to_owned()
        };
        let read = fs::metadata(&target).map_err(|error| format!("can't be read: {error}")).and_then(|meta| {
            if !meta.is_file() {
                return Err("is neither a file nor a folder: remove it from the templates".to_owned());
            }
            if meta.len() > LARGEST {
                return Err(format!("has {} bytes, at most {LARGEST} are taken: configuration only", meta.len()));
            }
            let bytes = fs::read(&target).map_err(|error| format!("can't be read: {error}"))?;
            Ok(SourceFile::new(bytes, meta.permissions().mode() & 0o100 != 0))
        });
        match read {
            Ok(file) => {
                self.source.files.insert(name.to_owned(), file);
            }
            Err(what) => self.faults.push(Fault::new(name, what)),
        }
    }

    /// A link may stand for a file of the same tree and nothing else.
    fn follow(&self, path: &Path) -> Result<PathBuf, String> {
        let shown = fs::read_link(path).map(|target| one_line(&target.to_string_lossy())).unwrap_or_default();
        let target = path.canonicalize().map_err(|error| {
            format!("is a link to {shown}, which can't be read: {error}; remove it, or put a file in its place")
        })?;
        if !target.starts_with(self.top) {
            return Err(format!("is a link to {shown}, outside the templates: copy the file instead"));
        }
        if target.is_dir() {
            return Err(format!("is a link to the folder {shown}: only links to files are followed"));
        }
        Ok(target)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test lays out need not be durable")]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_may_not_leave_the_tree() {
        let root = tempfile::tempdir().unwrap();
        let templates = root.path().join("templates");
        fs::create_dir_all(templates.join("core/conf")).unwrap();
        fs::write(root.path().join(PLATFORM), "").unwrap();
        fs::write(root.path().join("secret"), "x").unwrap();
        fs::write(templates.join("core/a"), "a").unwrap();
        symlink("../a", templates.join("core/conf/inside")).unwrap();
        let read = || Source::read(&root.path().join(PLATFORM), &templates);
        assert_eq!(&*read().unwrap().files["templates/core/conf/inside"].bytes, b"a");
        symlink("../../../secret", templates.join("core/conf/outside")).unwrap();
        symlink("nowhere", templates.join("core/conf/dangling")).unwrap();
        symlink("../conf", templates.join("core/conf/loop")).unwrap();
        let faults = read().unwrap_err().0;
        assert_eq!(faults.len(), 3, "{faults:?}");
    }
}
