//! Files in named volumes. They are reached through the engine alone: read
//! through any container that mounts the volume, written through a throwaway
//! one that is never started, so that images without a shell and read-only
//! mounts are no obstacle. Writing again is harmless, which a crash relies on.

use crate::action::Action;
use crate::container::{Container, Mount};
use crate::docker::throwaway::{Place, Ran, Recipe, What};
use crate::docker::{Engine, EngineError};
use crate::plan::volumes::{Fill, VolumeRemove, VolumeWrite};
use crate::snapshot::{Entry, Snapshot};
use crate::write::Contents;
use futures_util::future::join_all;
use lockstep_edge::clock;
use lockstep_shared::{Bundle, SafePath, Sha256, VolumePath};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a volume is in the throwaway container that writes into it.
const HERE: &str = "/volume";
/// How many files are looked at at the same time.
const AT_ONCE: usize = 8;
/// Longest run of a removal.
const REMOVAL: Duration = Duration::from_secs(30);

/// Why a volume is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The engine refused or didn't answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Nothing mounts it, so it can't be known which one it is.
    #[error("no container mounts the volume {0}; once one does, the next attempt fills it")]
    Unmounted(String),
    /// The bytes are not at hand: after a crash, with the leader away.
    #[error("the new content of {0} is not at hand; it comes with the next answer of the leader")]
    NoContent(SafePath),
    /// The archive could not be made.
    #[error("the files for the volume {volume} could not be packed: {source}")]
    Pack {
        /// The volume.
        volume: String,
        /// Why.
        source: io::Error,
    },
    /// It was written, and is not there.
    #[error(
        "{path} was written to {place}, but is not there as it was written; is something else writing to this volume?"
    )]
    Unproven {
        /// The file.
        path: SafePath,
        /// Its place.
        place: VolumePath,
    },
    /// It can't be removed.
    #[error(
        "{place} can't be removed: the volume's folder on this machine is out of reach ({why}), and no image of the project has an rm; remove it by hand: docker run --rm -v {name}:/v IMAGE rm /v/{path}, with any image that has rm",
        path = .place.path()
    )]
    Stays {
        /// The file's place.
        place: VolumePath,
        /// The volume's name in the engine.
        name: String,
        /// Why its folder can't be used.
        why: String,
    },
}

/// Looks at places in volumes, through containers that mount them. Those of
/// volumes that none mounts are left out.
pub(crate) async fn look(
    engine: &Engine,
    containers: &[Container],
    places: impl Iterator<Item = &VolumePath>,
) -> Result<Vec<(VolumePath, Entry)>, EngineError> {
    let places: BTreeSet<&VolumePath> = places.collect();
    let seen = places.into_iter().filter_map(|place| {
        let seen = |container: &Container| Some((container.name.clone(), container.sees_in_volume(place).pop()?));
        containers.iter().find_map(seen).map(|(name, at)| (place.clone(), name, at))
    });
    let mut looked = Vec::new();
    for some in seen.collect::<Vec<_>>().chunks(AT_ONCE) {
        let mut looks = Vec::new();
        for (place, name, at) in some {
            looks.push(async move { Ok((place.clone(), look_at(engine, name, at).await?)) });
        }
        looked.extend(join_all(looks).await);
    }
    looked.into_iter().collect()
}

async fn look_at(engine: &Engine, name: &str, at: &Path) -> Result<Entry, EngineError> {
    Ok(engine.archive(name, at).await?.map_or(Entry::Absent, |archive| entry(&archive)))
}

/// Adds what was looked at to what stands on the disk.
pub(crate) fn add_to(snapshot: &mut Snapshot, looked: Vec<(VolumePath, Entry)>) {
    for (place, entry) in looked {
        snapshot.set_in_volume(place, entry);
    }
}

/// What an archive begins with.
fn entry(archive: &[u8]) -> Entry {
    let read = || -> io::Result<Entry> {
        let mut archive = tar::Archive::new(archive);
        let Some(entry) = archive.entries()?.next() else { return Ok(Entry::Absent) };
        let mut entry = entry?;
        let header = entry.header();
        let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let (mode, uid, gid) = (header.mode()? & 0o7777, number(header.uid()?), number(header.gid()?));
        if !header.entry_type().is_file() {
            // Whatever it is, writing the file replaces it.
            return Ok(Entry::Folder);
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        Ok(Entry::File { sha256: Sha256::of(&bytes), mode, uid, gid })
    };
    read().unwrap_or(Entry::Absent)
}

/// Writes and removes what `fill` says, through the image of a container that
/// mounts the volume, and looks again; what was seen, in words.
pub(crate) async fn fill(
    engine: &Engine,
    containers: &[Container],
    fill: &Fill,
    contents: &Contents,
) -> Result<String, VolumeError> {
    let (holder, mount, name) = holder(containers, &fill.volume)?;
    let missing = |write: &&VolumeWrite| !contents.contains_key(&write.file.path);
    if let Some(write) = fill.write.iter().find(missing) {
        return Err(VolumeError::NoContent(write.file.path.clone()));
    }
    tracing::info!(volume = name, files = fill.write.len(), removed = fill.remove.len(), "filling a volume");
    let image = engine.details(&holder.name).await?.image;
    let place = Place { what: What::Volume { name: name.to_owned(), writable: true }, at: HERE.into() };
    let recipe = Recipe { image, mounts: vec![place], ..Recipe::default() };
    let made = engine.make(&recipe).await?;
    let filled = async {
        if !fill.write.is_empty() {
            let archive = pack(engine, &made, fill, contents).await?;
            engine.unpack(&made, Path::new(HERE), archive).await?;
        }
        for remove in &fill.remove {
            self::remove(engine, containers, name, &recipe, remove).await?;
        }
        prove(engine, &made, fill).await
    };
    let filled = filled.await;
    engine.discard(&made).await;
    filled?;
    let number = fill.write.len() + fill.remove.len();
    let files = if number == 1 { "the file is".to_owned() } else { format!("all {number} files are") };
    let at = mount.destination.display();
    Ok(format!("{files} in {name} as written, which {} has at {at}", holder.name))
}

/// The new bytes of files that go into volumes.
pub(crate) fn poured(actions: &[Action], bundle: &Bundle) -> Contents {
    let writes = actions.iter().filter_map(Action::fill).flat_map(|fill| &fill.write);
    let files = writes.filter_map(|write| bundle.file(write.file.path.as_str()));
    files.map(|file| (file.path.clone(), file.content.clone())).collect()
}

fn holder<'c>(containers: &'c [Container], volume: &str) -> Result<(&'c Container, &'c Mount, &'c str), VolumeError> {
    let holders = containers.iter().find_map(|container| {
        let mount = container.mounts.iter().find(|mount| mount.is_volume(volume))?;
        Some((container, mount, mount.name.as_deref()?))
    });
    holders.ok_or_else(|| VolumeError::Unmounted(volume.to_owned()))
}

/// The files as an archive, with those folders that the volume doesn't have
/// yet: an entry for a folder that is there would change its owner and mode.
async fn pack(engine: &Engine, made: &str, fill: &Fill, contents: &Contents) -> Result<Vec<u8>, VolumeError> {
    let mut folders = BTreeSet::new();
    for write in &fill.write {
        let mut path = write.place.path().as_str();
        while let Some((folder, _)) = path.rsplit_once('/') {
            folders.insert(folder);
            path = folder;
        }
    }
    let mut new = Vec::new();
    for folder in folders {
        if !engine.stands(made, &Path::new(HERE).join(folder)).await? {
            new.push(folder);
        }
    }
    let packed = || -> io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        let now = u64::try_from(clock::now()).unwrap_or(0);
        for folder in new {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            header.set_size(0);
            header.set_mtime(now);
            archive.append_data(&mut header, format!("{folder}/"), io::empty())?;
        }
        for write in &fill.write {
            let bytes = contents.get(&write.file.path).map_or(&[][..], |bytes| bytes);
            let mut header = tar::Header::new_gnu();
            header.set_mode(write.file.mode.bits());
            header.set_size(bytes.len() as u64);
            header.set_mtime(now);
            let owner = write.file.owner.map_or((0, 0), |owner| (owner.uid, owner.gid));
            header.set_uid(owner.0.into());
            header.set_gid(owner.1.into());
            archive.append_data(&mut header, write.place.path().as_str(), bytes)?;
        }
        archive.into_inner()
    };
    packed().map_err(|source| VolumeError::Pack { volume: fill.volume.clone(), source })
}

/// The archive API can't remove: on the volume's own folder where that is
/// within reach, otherwise by `rm`, in the first of the project's images that has one.
async fn remove(
    engine: &Engine,
    containers: &[Container],
    name: &str,
    recipe: &Recipe,
    remove: &VolumeRemove,
) -> Result<(), VolumeError> {
    let path = remove.place.path();
    let why = match engine.volume_folder(name).await? {
        Some(folder) => match unlink(&folder, path) {
            Ok(()) => return Ok(()),
            Err(errno) => format!("{}: {}", folder.display(), io::Error::from(errno)),
        },
        None => "it isn't one of the engine's own on this machine".to_owned(),
    };
    let command = ["rm", "-f", "--", &format!("{HERE}/{path}")].map(str::to_owned).to_vec();
    let mut images = vec![recipe.image.clone()];
    for container in containers {
        let image = engine.details(&container.name).await?.image;
        if !images.contains(&image) {
            images.push(image);
        }
    }
    for image in images {
        let recipe = Recipe { image, command: command.clone(), user: Some("0:0".to_owned()), ..recipe.clone() };
        let made = engine.make(&recipe).await?;
        let ran = engine.run(&made, REMOVAL).await;
        engine.discard(&made).await;
        match ran {
            Ok(Ran::Ended(0, _)) => return Ok(()),
            Err(error) if error.is_absence() => return Err(error.into()),
            _ => {}
        }
    }
    Err(VolumeError::Stays { place: remove.place.clone(), name: name.to_owned(), why })
}

fn unlink(folder: &PathBuf, path: &SafePath) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(folder, flags, Mode::empty())?;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let parent = rustix::fs::openat2(&root, path.parent().unwrap_or("."), flags, Mode::empty(), beneath)?;
    match rustix::fs::unlinkat(&parent, path.file_name(), AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Looks at everything that was written and removed.
async fn prove(engine: &Engine, made: &str, fill: &Fill) -> Result<(), VolumeError> {
    let written = fill.write.iter().map(|write| (&write.place, &write.file.path, Some(&write.file)));
    let removed = fill.remove.iter().map(|remove| (&remove.place, &remove.path, None));
    let all: Vec<_> = written.chain(removed).collect();
    for some in all.chunks(AT_ONCE) {
        let places: Vec<PathBuf> = some.iter().map(|(place, ..)| Path::new(HERE).join(place.path().as_str())).collect();
        let mut looks = Vec::new();
        for at in &places {
            looks.push(look_at(engine, made, at));
        }
        for ((place, path, file), entry) in some.iter().zip(join_all(looks).await) {
            let entry = entry?;
            if !file.map_or(entry == Entry::Absent, |file| file.is_done(&entry)) {
                return Err(VolumeError::Unproven { path: (*path).clone(), place: (*place).clone() });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_engine_packs() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o640);
        header.set_uid(999);
        header.set_gid(7);
        header.set_cksum();
        builder.append_data(&mut header, "conf", b"hello".as_slice()).unwrap();
        let packed = builder.into_inner().unwrap();
        assert_eq!(entry(&packed), Entry::File { sha256: Sha256::of(b"hello"), mode: 0o640, uid: 999, gid: 7 });
        assert_eq!(entry(b""), Entry::Absent);
    }
}
