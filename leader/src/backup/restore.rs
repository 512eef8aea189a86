//! Putting a backup in place. Everything is unpacked beside and looked at
//! first; then the database goes in last, and until then no leader starts
//! (its key without it). What was there before is moved aside, never removed.

use super::room::{self, Room};
use super::{BackupError, DATABASE, FORM, KEY, LIST, List, Listed, at};
use crate::config::{self, Config};
use crate::source::{PLATFORM, TEMPLATES};
use crate::store::{self, Store};
use lockstep_edge::{clock, durable};
use lockstep_shared::{SafePath, Sha256};
use sha2::Digest as _;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The largest list, in bytes.
const LARGEST_LIST: u64 = 64 * 1024 * 1024;

/// What is wanted of a restoration.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Move aside what is there.
    pub replace: bool,
    /// `store.key`, for a backup without keys.
    pub key: Option<PathBuf>,
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// The last revision.
    pub revision: u64,
    /// When the backup was made: RFC 3339, UTC.
    pub created: String,
    /// Where what was there before is now.
    pub aside: Option<PathBuf>,
    /// Whether the leader's configuration came with it.
    pub configured: bool,
}

/// Restores a home from a backup. Refuses while a leader runs on it, and what
/// doesn't open; then nothing is changed.
pub fn restore(
    from: &Path,
    root: &Path,
    env: impl IntoIterator<Item = (String, String)>,
    wanted: &Wanted,
) -> Result<Restored, BackupError> {
    let archive = Archive::open(from)?;
    fs::create_dir_all(root).map_err(at(root))?;
    let room = Room::new(root, room::RESTORATION).map_err(at(root))?;
    let staged = room.path();
    archive.read(Some(staged))?;
    let list = archive.list;
    if !list.keys {
        let key = wanted.key.as_deref().ok_or_else(|| BackupError::NoKey(from.to_owned()))?;
        let bytes = zeroize::Zeroizing::new(fs::read(key).map_err(at(key))?);
        durable::replace(&staged.join(KEY), &bytes, 0o600).map_err(at(key))?;
    }
    let revision = Store::verify(&staged.join("state"))?;

    let configured = list.files.iter().any(|file| file.path == config::FILE);
    let target = Config::load(if configured { staged } else { root }, env)?;
    let below = |path: &Path| -> Result<PathBuf, BackupError> {
        let base = if configured { staged } else { root };
        path.strip_prefix(base).map(|name| root.join(name)).map_err(|_| BackupError::Outside(path.to_owned()))
    };
    let state = below(&target.state)?;
    let places = Places { platform: below(&target.platform)?, templates: below(&target.templates)?, state };
    let _lock = store::lock(&places.state)?;

    let moves = places.moves(staged, root, &list.files);
    let occupied: Vec<String> =
        moves.iter().filter(|(_, to)| to.symlink_metadata().is_ok()).map(|(_, to)| to.display().to_string()).collect();
    if !occupied.is_empty() && !wanted.replace {
        return Err(BackupError::Occupied(occupied));
    }
    let aside = (!occupied.is_empty()).then(|| free(root)).transpose()?;
    if let Some(aside) = &aside {
        // The database first: from here on no leader starts before the new one is in.
        let database = places.state.join(store::DATABASE);
        for suffix in ["", "-wal", "-shm"] {
            let mut path = database.as_os_str().to_owned();
            path.push(suffix);
            put_aside(Path::new(&path), root, aside)?;
        }
    }
    for (from, to) in &moves {
        match &aside {
            // Never a moment without a key: with neither key nor database a leader would make both anew.
            Some(aside) if to.ends_with(store::KEY) => keep_copy(to, root, aside)?,
            Some(aside) => put_aside(to, root, aside)?,
            None => {}
        }
        let folder = to.parent().unwrap_or(root);
        fs::create_dir_all(folder).map_err(at(folder))?;
        shift(from, to).map_err(at(to))?;
        durable::sync_folder(folder).map_err(at(folder))?;
    }
    Ok(Restored { revision, created: list.created, aside, configured })
}

/// Where the parts go.
struct Places {
    platform: PathBuf,
    templates: PathBuf,
    state: PathBuf,
}

impl Places {
    /// From the staged part to its place, in order: the key first, the database last.
    fn moves(&self, staged: &Path, root: &Path, files: &[Listed]) -> Vec<(PathBuf, PathBuf)> {
        let mut moves = vec![(staged.join(KEY), self.state.join(store::KEY))];
        let own = |path: &str| {
            path == DATABASE || path == KEY || path == PLATFORM || path.starts_with(&format!("{TEMPLATES}/"))
        };
        for file in files.iter().filter(|file| !own(&file.path)) {
            moves.push((staged.join(&file.path), root.join(&file.path)));
        }
        for (name, to) in [(PLATFORM, &self.platform), (TEMPLATES, &self.templates)] {
            if staged.join(name).exists() {
                moves.push((staged.join(name), to.clone()));
            }
        }
        moves.push((staged.join(DATABASE), self.state.join(store::DATABASE)));
        moves
    }
}

/// A folder that isn't there yet.
fn free(root: &Path) -> Result<PathBuf, BackupError> {
    let day = clock::rfc3339(clock::now()).replace(':', "");
    for again in 1..1000 {
        let name = if again == 1 { format!("replaced-{day}") } else { format!("replaced-{day}-{again}") };
        let path = root.join(name);
        match fs::create_dir(&path) {
            Ok(()) => {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).map_err(at(&path))?;
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(at(&path)(error)),
        }
    }
    Err(BackupError::Exists(root.join(format!("replaced-{day}"))))
}

fn put_aside(path: &Path, root: &Path, aside: &Path) -> Result<(), BackupError> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    let name = path.strip_prefix(root).map_err(|_| BackupError::Outside(path.to_owned()))?;
    let to = aside.join(name);
    let folder = to.parent().unwrap_or(aside);
    fs::create_dir_all(folder).map_err(at(folder))?;
    shift(path, &to).map_err(at(path))?;
    durable::sync_folder(folder).map_err(at(folder))
}

/// Keeps a copy of a file that is about to be replaced.
fn keep_copy(path: &Path, root: &Path, aside: &Path) -> Result<(), BackupError> {
    let Ok(bytes) = fs::read(path).map(zeroize::Zeroizing::new) else { return Ok(()) };
    let name = path.strip_prefix(root).map_err(|_| BackupError::Outside(path.to_owned()))?;
    let to = aside.join(name);
    let folder = to.parent().unwrap_or(aside);
    fs::create_dir_all(folder).map_err(at(folder))?;
    durable::replace(&to, &bytes, 0o600).map_err(at(&to))
}

/// Renames; over the border of a file system, as a volume of its own is, copies
/// and then removes, so that the target is whole when it gets its name.
pub(crate) fn shift(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {}
        done => return done,
    }
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            shift(&entry.path(), &to.join(entry.file_name()))?;
        }
        return fs::remove_dir(from);
    }
    let mut name = to.as_os_str().to_owned();
    name.push(".restoring");
    let mode = from.metadata()?.permissions().mode() & 0o777;
    let mut copy = File::options().write(true).create(true).truncate(true).mode(mode).open(&name)?;
    io::copy(&mut File::open(from)?, &mut copy)?;
    copy.sync_all()?;
    fs::rename(&name, to)?;
    fs::remove_file(from)
}

/// A backup, being read.
struct Archive {
    path: PathBuf,
    list: List,
}

type Tar = tar::Archive<zstd::Decoder<'static, io::BufReader<File>>>;

impl Archive {
    fn open(path: &Path) -> Result<Self, BackupError> {
        let mut this = Self { path: path.to_owned(), list: List::none() };
        let mut tar = this.tar()?;
        let mut entries = tar.entries().map_err(|error| this.broken(error))?;
        let first = entries.next().ok_or_else(|| this.broken("it is empty"))?.map_err(|error| this.broken(error))?;
        if first.path_bytes() != LIST.as_bytes() || first.size() > LARGEST_LIST {
            return Err(this.broken("it is no backup of lockstep"));
        }
        let mut json = Vec::new();
        let mut limited = first.take(LARGEST_LIST);
        limited.read_to_end(&mut json).map_err(|error| this.broken(error))?;
        this.list = serde_json::from_slice(&json).map_err(|error| this.broken(format!("its list: {error}")))?;
        if this.list.form != FORM {
            return Err(BackupError::Newer { path: path.to_owned(), found: this.list.form });
        }
        let has = |name: &str| this.list.files.iter().any(|file| file.path == name);
        if !has(DATABASE) || (this.list.keys && !has(KEY)) {
            return Err(this.broken("its list lacks the store or its key"));
        }
        Ok(this)
    }

    fn tar(&self) -> Result<Tar, BackupError> {
        let file = File::open(&self.path).map_err(at(&self.path))?;
        let decoder = zstd::Decoder::new(file).map_err(|error| self.broken(error))?;
        Ok(tar::Archive::new(decoder))
    }

    fn broken(&self, what: impl std::fmt::Display) -> BackupError {
        BackupError::Damaged { path: self.path.clone(), what: what.to_string() }
    }

    /// Reads all of it, each file with its own hash, none but those in the list; into an empty folder, if one is given.
    fn read(&self, to: Option<&Path>) -> Result<(), BackupError> {
        let mut tar = self.tar()?;
        let mut entries = tar.entries().map_err(|error| self.broken(error))?;
        entries.next();
        for listed in &self.list.files {
            let mut entry = entries
                .next()
                .ok_or_else(|| self.broken(format!("{} is missing", listed.path)))?
                .map_err(|error| self.broken(error))?;
            let same = entry.path_bytes() == listed.path.as_bytes() && entry.size() == listed.size;
            if !same || !entry.header().entry_type().is_file() {
                return Err(self.broken(format!("{} is not where its list says", listed.path)));
            }
            let name = SafePath::new(listed.path.clone()).map_err(|error| self.broken(error))?;
            let mut out = to.map(|folder| create(&folder.join(name.as_str()), listed.mode & 0o755)).transpose()?;
            let mut hash = sha2::Sha256::new();
            let mut buffer = vec![0; 1 << 16];
            loop {
                let count = entry.read(&mut buffer).map_err(|error| self.broken(error))?;
                if count == 0 {
                    break;
                }
                hash.update(&buffer[..count]);
                if let Some((path, out)) = &mut out {
                    out.write_all(&buffer[..count]).map_err(at(path))?;
                }
            }
            if let Some((path, out)) = &out {
                out.sync_all().map_err(at(path))?;
            }
            if Sha256(hash.finalize().into()) != listed.sha256 {
                return Err(self.broken(format!("{} is not what it was", listed.path)));
            }
        }
        // The end of the packing has a checksum of its own; it is read with the rest.
        io::copy(&mut tar.into_inner(), &mut io::sink()).map(drop).map_err(|error| self.broken(error))
    }
}

/// Reads a backup to its end: whether it is what it was.
pub(super) fn check(path: &Path) -> Result<(), BackupError> {
    Archive::open(path)?.read(None)
}

fn create(path: &Path, mode: u32) -> Result<(PathBuf, File), BackupError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(at(folder))?;
    let file = File::options().write(true).create_new(true).mode(mode).open(path).map_err(at(path))?;
    Ok((path.to_owned(), file))
}

impl List {
    fn none() -> Self {
        Self { form: FORM, created: String::new(), version: String::new(), revision: 0, keys: false, files: Vec::new() }
    }
}
