//! Writing a backup.

use super::room::{self, Room};
use super::{BackupError, DATABASE, FORM, KEY, LIST, List, Listed, at};
use crate::config::{self, Config};
use crate::source::{PLATFORM, Source};
use crate::store::{self, Store};
use lockstep_edge::{clock, durable};
use lockstep_shared::Sha256;
use sha2::Digest as _;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// How strongly a backup is packed. Most of it is sealed already and doesn't get smaller.
const LEVEL: i32 = 3;

/// A backup that was written.
#[derive(Debug)]
pub struct Saved {
    /// The last revision in it.
    pub revision: u64,
    /// Its size in bytes.
    pub size: u64,
    /// How many files are in it.
    pub files: usize,
}

/// Something that goes in: on disk or in memory.
enum Part {
    OnDisk(PathBuf),
    Here(Vec<u8>),
}

/// Writes a backup of a home to a new file, which only its owner can read; also
/// while its leader runs. Without keys it opens nothing by itself.
pub fn save(config: &Config, to: &Path, keys: bool) -> Result<Saved, BackupError> {
    if to.exists() {
        return Err(BackupError::Exists(to.to_owned()));
    }
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(BackupError::NoFolder(folder.to_owned()));
    }
    let room = Room::new(folder, room::BACKUP).map_err(at(folder))?;
    let snapshot = room.path().join(store::DATABASE);
    let key = config.state.join(store::KEY);
    Store::peek(&config.state)?.ok_or(BackupError::Nothing)?.snapshot(&snapshot)?;
    let key_bytes = zeroize::Zeroizing::new(std::fs::read(&key).map_err(at(&key))?);
    durable::replace(&room.path().join(store::KEY), &key_bytes, 0o600).map_err(at(room.path()))?;
    // A backup of something broken is worse than none.
    let revision = Store::verify(room.path())?;

    let mut parts: Vec<(Listed, Part)> = Vec::new();
    parts.push((listed(DATABASE, 0o600, &snapshot)?, Part::OnDisk(snapshot)));
    let source = Source::read(&config.platform, &config.templates)?;
    for (name, file) in source.files {
        let mode = if name == PLATFORM {
            mode_of(&config.platform)
        } else if file.executable {
            0o755
        } else {
            0o644
        };
        let size = file.bytes.len() as u64;
        parts.push((Listed { path: name, mode, size, sha256: file.sha256 }, Part::Here(file.bytes.to_vec())));
    }
    if keys {
        parts.push((listed(KEY, 0o600, &key)?, Part::OnDisk(key)));
        for (name, path) in config.files_with_keys()? {
            parts.push((listed(&name, 0o600, &path)?, Part::OnDisk(path)));
        }
    }
    let list = List {
        form: FORM,
        created: clock::rfc3339(clock::now()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision,
        keys,
        files: parts.iter().map(|(listed, _)| listed.clone()).collect(),
    };
    let mut file = NamedTempFile::new_in(room.path()).map_err(at(room.path()))?;
    pack(file.as_file_mut(), &list, parts).map_err(at(to))?;
    file.as_file().sync_all().map_err(at(to))?;
    let size = file.as_file().metadata().map_err(at(to))?.len();
    super::restore::check(file.path())?;
    file.persist_noclobber(to).map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists(to.to_owned()),
        _ => at(to)(error.error),
    })?;
    durable::sync_folder(folder).map_err(at(folder))?;
    Ok(Saved { revision, size, files: list.files.len() })
}

fn pack(to: &mut File, list: &List, parts: Vec<(Listed, Part)>) -> io::Result<()> {
    let mut packer = zstd::Encoder::new(to, LEVEL)?;
    packer.include_checksum(true)?;
    let mut archive = tar::Builder::new(packer);
    let json = serde_json::to_vec_pretty(list)?;
    append(&mut archive, LIST, 0o600, json.len() as u64, &json[..])?;
    for (listed, part) in parts {
        match part {
            Part::Here(bytes) => append(&mut archive, &listed.path, listed.mode, listed.size, &bytes[..])?,
            Part::OnDisk(path) => {
                append(&mut archive, &listed.path, listed.mode, listed.size, File::open(path)?.take(listed.size))?;
            }
        }
    }
    archive.into_inner()?.finish()?.flush()
}

fn append(archive: &mut tar::Builder<impl Write>, name: &str, mode: u32, size: u64, from: impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(mode);
    archive.append_data(&mut header, name, from)
}

fn listed(name: &str, mode: u32, path: &Path) -> Result<Listed, BackupError> {
    let mut file = File::open(path).map_err(at(path))?;
    let (mut hash, mut size) = (sha2::Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(at(path))? {
            0 => break,
            count => {
                hash.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
    Ok(Listed { path: name.to_owned(), mode, size, sha256: Sha256(hash.finalize().into()) })
}

fn mode_of(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().map_or(0o644, |meta| meta.permissions().mode() & 0o777)
}

impl Config {
    /// The files that hold followers' keys, by their names below the home.
    fn files_with_keys(&self) -> Result<Vec<(String, PathBuf)>, BackupError> {
        let mut files = Vec::new();
        let configured = self.root().join(config::FILE);
        for path in std::iter::once(configured).chain(self.key_files()) {
            if !path.exists() {
                continue;
            }
            let name = path.strip_prefix(self.root()).ok().and_then(Path::to_str).map(str::to_owned);
            let name = name.ok_or_else(|| BackupError::Outside(path.clone()))?;
            if files.iter().all(|(known, _)| *known != name) {
                files.push((name, path));
            }
        }
        Ok(files)
    }
}
