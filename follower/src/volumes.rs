//! Files in named volumes. They are reached through the engine alone, by a
//! throwaway container that is never started: images without a shell and
//! read-only mounts are no obstacle. None is looked into through a container of
//! the project: Docker mounts all that such a one has, and makes an empty folder
//! of each file that is missing. Writing again is harmless, which a crash relies on.

use crate::action::Action;
use crate::container::{Container, Mount};
use crate::docker::throwaway::{Kind, Place, Ran, Recipe, What};
use crate::docker::{Engine, EngineError};
use crate::plan::volumes::{Fill, VolumeRemove, VolumeWrite};
use crate::snapshot::{Entry, InTheWay, Obstacle, Snapshot};
use crate::write::Contents;
use futures_util::future::join_all;
use lockstep_edge::clock;
use lockstep_shared::{Bundle, SafePath, Sha256, VolumePath};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where volumes are in a throwaway container, each by its name in the engine.
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
    /// Something that lockstep didn't write came in the way after the plan was made.
    #[error(transparent)]
    InTheWay(#[from] InTheWay),
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

/// A throwaway container that has volumes and nothing else of the machine.
struct Site<'e> {
    engine: &'e Engine,
    made: String,
    recipe: Recipe,
}

/// Looks at places in volumes, and at all that is below those that are folders.
/// Those of volumes that no container mounts are left out.
pub(crate) async fn look(
    engine: &Engine,
    containers: &[Container],
    places: impl Iterator<Item = &VolumePath>,
) -> Result<Vec<(VolumePath, Entry)>, EngineError> {
    let places: BTreeSet<&VolumePath> = places.collect();
    let name = |place: &VolumePath| holder(containers, place.volume()).map(|(.., name)| name);
    let names: BTreeSet<&str> = places.iter().filter_map(|place| name(place)).collect();
    let places: Vec<_> = places.into_iter().filter_map(|place| Some((place, name(place)?))).collect();
    let Some(site) = Site::make(engine, containers, &names, false).await? else { return Ok(Vec::new()) };
    let looked = site.look(&places).await;
    engine.discard(&site.made).await;
    looked
}

impl<'e> Site<'e> {
    /// A container with these volumes; `None` if there is none whose image it could have.
    async fn make(
        engine: &'e Engine,
        containers: &[Container],
        names: &BTreeSet<&str>,
        writable: bool,
    ) -> Result<Option<Self>, EngineError> {
        let volume = |name: &&str| Place { what: What::Volume { name: (*name).to_owned(), writable }, at: at(name) };
        let mounts: Vec<Place> = names.iter().map(volume).collect();
        if names.is_empty() {
            return Ok(None);
        }
        // It is never started, so any image will do; that of one that has the volume is most likely still there.
        let (holders, others): (Vec<_>, Vec<_>) =
            containers.iter().partition(|container| names.iter().any(|name| container.mounts_volume(name)));
        let mut missing = None;
        for container in holders.into_iter().chain(others) {
            let made = async {
                let image = engine.details(&container.name).await?.image;
                let recipe = Recipe { image, mounts: mounts.clone(), ..Recipe::default() };
                Ok(Self { engine, made: engine.make(&recipe).await?, recipe })
            };
            match made.await {
                // It is gone meanwhile, or its image is.
                Err(error @ EngineError::Refused { status: 404, .. }) => missing = Some(error),
                made => return made.map(Some),
            }
        }
        missing.map_or(Ok(None), Err)
    }

    /// What stands at these places, each with the engine's name of its volume.
    async fn look(&self, places: &[(&VolumePath, &str)]) -> Result<Vec<(VolumePath, Entry)>, EngineError> {
        let mut folders = BTreeMap::new();
        let (mut looked, mut open) = (Vec::new(), Vec::new());
        for (place, name) in places {
            match self.above(&mut folders, &at(name), place.path()).await? {
                Some(entry) => looked.push(((*place).clone(), entry)),
                None => open.push((*place, at(name).join(place.path().as_str()))),
            }
        }
        let mut below = Vec::new();
        for some in open.chunks(AT_ONCE) {
            let mut looks = Vec::new();
            for (_, at) in some {
                looks.push(self.engine.archive(&self.made, at));
            }
            for ((place, _), archive) in some.iter().zip(join_all(looks).await) {
                let entry = archive?.map_or(Entry::Absent, |archive| entry(place, &archive, &mut below));
                looked.push(((*place).clone(), entry));
            }
        }
        // What was looked at for itself counts.
        below.extend(looked);
        Ok(below)
    }

    /// What stands at a path if not all above it are folders: Docker would follow a link there.
    async fn above(
        &self,
        folders: &mut BTreeMap<PathBuf, Option<Kind>>,
        volume: &Path,
        path: &SafePath,
    ) -> Result<Option<Entry>, EngineError> {
        for (end, _) in path.as_str().match_indices('/') {
            let folder = &path.as_str()[..end];
            let at = volume.join(folder);
            let kind = match folders.get(&at) {
                Some(kind) => *kind,
                None => self.engine.kind(&self.made, &at).await?,
            };
            folders.insert(at, kind);
            match kind {
                None => return Ok(Some(Entry::Absent)),
                Some(Kind::Folder) => {}
                Some(Kind::File) => return Ok(Some(Entry::Blocked(Obstacle::NotAFolder(folder.to_owned())))),
                Some(Kind::Symlink) => return Ok(Some(Entry::Blocked(Obstacle::Symlink(folder.to_owned())))),
                Some(Kind::Special) => return Ok(Some(Entry::Blocked(Obstacle::Special(folder.to_owned())))),
            }
        }
        Ok(None)
    }

    /// All that `fill` is about.
    async fn look_at_all(&self, fill: &Fill, name: &str) -> Result<Snapshot, EngineError> {
        let written = fill.write.iter().map(|write| (&write.place, name));
        let removed = fill.remove.iter().map(|remove| (&remove.place, name));
        let mut snapshot = Snapshot::default();
        add_to(&mut snapshot, self.look(&written.chain(removed).collect::<Vec<_>>()).await?);
        Ok(snapshot)
    }
}

/// Where a volume is in a throwaway container.
fn at(name: &str) -> PathBuf {
    Path::new(HERE).join(name)
}

/// Adds what was looked at to what stands on the disk.
pub(crate) fn add_to(snapshot: &mut Snapshot, looked: Vec<(VolumePath, Entry)>) {
    for (place, entry) in looked {
        snapshot.set_in_volume(place, entry);
    }
}

/// What an archive of a place shows; what it shows below goes to `below`.
fn entry(place: &VolumePath, archive: &[u8], below: &mut Vec<(VolumePath, Entry)>) -> Entry {
    let mut read = || -> io::Result<Entry> {
        let mut archive = tar::Archive::new(archive);
        let mut entries = archive.entries()?;
        let Some(first) = entries.next() else { return Ok(Entry::Absent) };
        let first = one(&mut first?, place.path().as_str())?;
        for inside in entries {
            let mut inside = inside?;
            // It is named by the last part of the place's own path.
            let path: PathBuf = inside.path()?.components().skip(1).collect();
            let path = Path::new(place.path().as_str()).join(path).display().to_string();
            let safe = SafePath::new(path.as_str()).ok();
            let Some(inner) = safe.and_then(|safe| VolumePath::new(place.volume(), safe)) else {
                return Ok(Entry::Blocked(Obstacle::NotOurs(place.path().to_string(), path)));
            };
            below.push((inner, one(&mut inside, &path)?));
        }
        Ok(first)
    };
    // Too large to be read to its end, so nobody knows what is in it.
    read().unwrap_or_else(|_| Entry::Blocked(Obstacle::NotAFile(place.path().to_string())))
}

/// One entry of an archive.
fn one(entry: &mut tar::Entry<'_, impl io::Read>, path: &str) -> io::Result<Entry> {
    let header = entry.header();
    let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let (mode, uid, gid) = (header.mode()? & 0o7777, number(header.uid()?), number(header.gid()?));
    Ok(match header.entry_type() {
        kind if kind.is_file() => {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            Entry::File { sha256: Sha256::of(&bytes), mode, uid, gid }
        }
        kind if kind.is_dir() => Entry::Folder,
        kind if kind.is_symlink() => Entry::Blocked(Obstacle::Symlink(path.to_owned())),
        _ => Entry::Blocked(Obstacle::Special(path.to_owned())),
    })
}

/// Writes and removes what `fill` says, through the image of a container that
/// mounts the volume, and looks again; what was seen, in words.
pub(crate) async fn fill(
    engine: &Engine,
    containers: &[Container],
    fill: &Fill,
    contents: &Contents,
) -> Result<String, VolumeError> {
    let unmounted = || VolumeError::Unmounted(fill.volume.clone());
    let (holder, mount, name) = holder(containers, &fill.volume).ok_or_else(unmounted)?;
    let missing = |write: &&VolumeWrite| !contents.contains_key(&write.file.path);
    if let Some(write) = fill.write.iter().find(missing) {
        return Err(VolumeError::NoContent(write.file.path.clone()));
    }
    tracing::info!(volume = name, files = fill.write.len(), removed = fill.remove.len(), "filling a volume");
    let site = Site::make(engine, containers, &BTreeSet::from([name]), true).await?.ok_or_else(unmounted)?;
    let filled = site.fill(containers, fill, name, contents).await;
    engine.discard(&site.made).await;
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

fn holder<'c>(containers: &'c [Container], volume: &str) -> Option<(&'c Container, &'c Mount, &'c str)> {
    containers.iter().find_map(|container| {
        let mount = container.mounts.iter().find(|mount| mount.is_volume(volume))?;
        Some((container, mount, mount.name.as_deref()?))
    })
}

impl Site<'_> {
    async fn fill(
        &self,
        containers: &[Container],
        fill: &Fill,
        name: &str,
        contents: &Contents,
    ) -> Result<(), VolumeError> {
        // Unpacking replaces whatever stands at a path, a whole folder too, so it
        // has to be known just before that all of it is to go.
        let before = self.look_at_all(fill, name).await?;
        InTheWay::in_volume(&fill.volume, fill.obstacles(&before)).map_or(Ok(()), Err)?;
        if !fill.write.is_empty() {
            let archive = self.pack(fill, name, contents).await?;
            self.engine.unpack(&self.made, &at(name), archive).await?;
        }
        for remove in fill.remove.iter().filter(|remove| !fill.replaces(remove)) {
            if matches!(before.in_volume(&remove.place), Entry::File { .. }) {
                self.remove(containers, name, remove).await?;
            }
        }
        self.prove(fill, name).await
    }

    /// The files as an archive, with those folders that the volume doesn't have
    /// yet: an entry for a folder that is there would change its owner and mode.
    async fn pack(&self, fill: &Fill, name: &str, contents: &Contents) -> Result<Vec<u8>, VolumeError> {
        let mut folders = BTreeSet::new();
        for write in &fill.write {
            let mut path = write.place.path().as_str();
            while let Some((folder, _)) = path.rsplit_once('/') {
                folders.insert(folder);
                path = folder;
            }
        }
        let mut new = BTreeSet::new();
        for folder in folders {
            let above_is_new = folder.rsplit_once('/').is_some_and(|(above, _)| new.contains(above));
            if above_is_new || self.engine.kind(&self.made, &at(name).join(folder)).await? != Some(Kind::Folder) {
                new.insert(folder);
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
    async fn remove(&self, containers: &[Container], name: &str, remove: &VolumeRemove) -> Result<(), VolumeError> {
        let (engine, path) = (self.engine, remove.place.path());
        let why = match engine.volume_folder(name).await? {
            Some(folder) => match unlink(&folder, path) {
                Ok(()) => return Ok(()),
                Err(errno) => format!("{}: {}", folder.display(), io::Error::from(errno)),
            },
            None => "it isn't one of the engine's own on this machine".to_owned(),
        };
        let file = at(name).join(path.as_str()).display().to_string();
        let command: Vec<String> = ["rm", "-f", "--", &file].map(str::to_owned).to_vec();
        let mut images = vec![self.recipe.image.clone()];
        for container in containers {
            let image = engine.details(&container.name).await?.image;
            if !images.contains(&image) {
                images.push(image);
            }
        }
        for image in images {
            let user = Some("0:0".to_owned());
            let recipe = Recipe { image, command: command.clone(), user, ..self.recipe.clone() };
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

    /// Looks at everything that was written and removed.
    async fn prove(&self, fill: &Fill, name: &str) -> Result<(), VolumeError> {
        let after = self.look_at_all(fill, name).await?;
        let unwritten = fill.write.iter().find(|write| !write.file.is_done(after.in_volume(&write.place)));
        // A folder in its place, or a file above it, is what came instead.
        let left = fill.remove.iter().find(|remove| matches!(after.in_volume(&remove.place), Entry::File { .. }));
        let unproven = unwritten.map(|write| (&write.file.path, &write.place));
        match unproven.or_else(|| left.map(|remove| (&remove.path, &remove.place))) {
            Some((path, place)) => Err(VolumeError::Unproven { path: path.clone(), place: place.clone() }),
            None => Ok(()),
        }
    }
}

fn unlink(folder: &PathBuf, path: &SafePath) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(folder, flags, Mode::empty())?;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let parent = rustix::fs::openat2(&root, path.parent().unwrap_or("."), flags, Mode::empty(), beneath);
    match parent.and_then(|parent| rustix::fs::unlinkat(&parent, path.file_name(), AtFlags::empty())) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> VolumePath {
        VolumePath::new("conf", SafePath::new(path).unwrap()).unwrap()
    }

    /// An archive as the engine packs it: what a path names, and all below it.
    fn packed(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(text.len() as u64);
            header.set_mode(0o640);
            header.set_uid(999);
            header.set_gid(7);
            builder.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn reads_what_the_engine_packs() {
        use tar::EntryType::{Directory, Fifo, Regular};
        let mut below = Vec::new();
        let hello = Entry::File { sha256: Sha256::of(b"hello"), mode: 0o640, uid: 999, gid: 7 };
        assert_eq!(entry(&place("a/conf"), &packed(&[("conf", Regular, "hello")]), &mut below), hello);
        assert_eq!(entry(&place("a/conf"), b"", &mut below), Entry::Absent);
        let pipe = Entry::Blocked(Obstacle::Special("a/conf".to_owned()));
        assert_eq!(entry(&place("a/conf"), &packed(&[("conf", Fifo, "")]), &mut below), pipe);
        assert!(below.is_empty());
        let folder = packed(&[("conf/", Directory, ""), ("conf/x/", Directory, ""), ("conf/x/y", Regular, "hello")]);
        assert_eq!(entry(&place("a/conf"), &folder, &mut below), Entry::Folder);
        assert_eq!(below, [(place("a/conf/x"), Entry::Folder), (place("a/conf/x/y"), hello)]);
        // One that can't be read to its end is nobody's to replace.
        let unknown = Entry::Blocked(Obstacle::NotAFile("a/conf".to_owned()));
        assert_eq!(entry(&place("a/conf"), &folder[..folder.len() - 1100], &mut below), unknown);
    }
}
