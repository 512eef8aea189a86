//! Checks in a service's own image: a throwaway container of it, without a
//! network, with the staged files where the service mounts the real ones.

use super::{CheckError, last_lines, limit};
use crate::applied::Applied;
use crate::container::{Container, Mount};
use crate::docker::throwaway::{Place, Ran, Recipe, What};
use crate::docker::{Details, Engine, EngineError};
use crate::plan::compose_file;
use crate::snapshot::is_staged;
use crate::steps::Check;
use lockstep_shared::{Bundle, SafePath};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Where the whole staged tree is, for checks that name it.
const TREE: &str = "/lockstep-staged";
/// How much of what others keep beside the managed files comes along, in bytes and files.
const MOST_BYTES: u64 = 64 * 1024 * 1024;
const MOST_FILES: usize = 10_000;

/// What checks in a container need to know of the machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site<'a> {
    /// The engine.
    pub(crate) engine: &'a Engine,
    /// The project's containers.
    pub(crate) containers: &'a [Container],
    /// The data folder, as the engine knows it.
    pub(crate) data_folder: &'a Path,
    /// The same, as this process knows it.
    pub(crate) own_folder: &'a Path,
    /// What was written last.
    pub(crate) applied: Option<&'a Applied>,
}

/// A file as it goes into the container.
struct Staged {
    mode: u32,
    owner: (u32, u32),
    bytes: Vec<u8>,
}

impl Site<'_> {
    /// Runs one check; why it was left out, if it was.
    pub(super) async fn run(
        &self,
        check: &Check,
        service: &str,
        bundle: &Bundle,
    ) -> Result<Option<String>, CheckError> {
        let skipped = |why: &str| Ok(Some(format!("the check of {} in {service} was skipped: {why}", check.path)));
        let Some(container) = self.containers.iter().find(|container| container.service == service) else {
            return skipped("it has no container yet");
        };
        let details = self.engine.details(&container.name).await?;
        let file = bundle.file(check.path.as_str());
        let place = match file.and_then(|file| file.volume.as_ref()) {
            Some(place) => container.sees_in_volume(place),
            None => container.sees(&self.data_folder.join(check.path.as_str())),
        };
        let needs_file = check.command.iter().any(|word| word.contains("{file}"));
        if needs_file && place.is_empty() {
            return Err(CheckError::Unseen { path: check.path.clone(), service: service.to_owned() });
        }
        let at = place.first().map(|place| place.display().to_string()).unwrap_or_default();
        let fill = |word: &String| word.replace("{file}", &at).replace("{tree}", TREE);
        let command: Vec<String> = check.command.iter().map(fill).collect();
        let (recipe, files) = self.recipe(container, &details, service, bundle, command);
        let made = match self.engine.make(&recipe).await {
            Err(EngineError::Refused { status: 404, .. }) => {
                return skipped(&format!("its image {} is not on this machine yet", recipe.image));
            }
            made => made?,
        };
        let ran = async {
            let archive = self.pack(&made, &recipe, files).await?;
            self.engine.unpack(&made, Path::new("/"), archive).await?;
            self.engine.run(&made, limit(check)).await
        };
        let ran = ran.await;
        self.engine.discard(&made).await;
        let refused = |how: String, said: &str| {
            let output = last_lines(said);
            // An image that only the engine knows by its digest tells a person less than the service.
            let of = if recipe.image.starts_with("sha256:") { service } else { recipe.image.as_str() };
            let command = format!("{} in {of}", check.command.join(" "));
            Err(CheckError::Refused { path: check.path.clone(), command, how, output })
        };
        match ran {
            Ok(Ran::Ended(0, _)) => Ok(None),
            Ok(Ran::Ended(code, said)) => refused(format!("failed with exit code {code}"), &said),
            Ok(Ran::Late) => refused(format!("did not end within {} s", limit(check).as_secs()), ""),
            // The image has no such program: what the engine says tells it best.
            Err(EngineError::Refused { operation: "starting", why, .. }) => {
                refused("could not be started".to_owned(), &why)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The container, and what is unpacked into it, by its path there.
    fn recipe(
        &self,
        container: &Container,
        details: &Details,
        service: &str,
        bundle: &Bundle,
        command: Vec<String>,
    ) -> (Recipe, BTreeMap<PathBuf, Staged>) {
        let mut files = BTreeMap::new();
        let of_bundle = bundle.files.iter().filter(|file| !file.is_protected());
        for file in of_bundle {
            let mut places = match &file.volume {
                Some(place) => container.sees_in_volume(place),
                None => container.sees(&self.data_folder.join(file.path.as_str())),
            };
            if command.iter().any(|word| word.contains(TREE)) {
                places.push(Path::new(TREE).join(file.path.as_str()));
            }
            for place in places {
                let owner = file.owner.map_or((0, 0), |owner| (owner.uid, owner.gid));
                files.insert(place, Staged { mode: file.mode.bits(), owner, bytes: file.content.to_vec() });
            }
        }
        for (path, staged) in self.beside(container, bundle) {
            for place in container.sees(&self.data_folder.join(path.as_str())) {
                files.entry(place).or_insert_with(|| Staged { bytes: staged.bytes.clone(), ..staged });
            }
        }
        let mounts = container.mounts.iter().filter_map(|mount| self.place(mount, bundle)).collect();
        let compose = bundle.compose_file().and_then(|file| compose_file::read(&file.content).ok()).unwrap_or_default();
        let hosts: BTreeSet<String> = compose
            .services
            .keys()
            .cloned()
            .chain(self.containers.iter().flat_map(|other| [other.service.clone(), other.name.clone()]))
            .collect();
        let recipe = Recipe {
            image: image(&compose, service, self.applied, details),
            command,
            mounts,
            user: Some(details.user.clone()).filter(|user| !user.is_empty()),
            environment: details.environment.clone(),
            folder: Some(details.folder.clone()).filter(|folder| !folder.is_empty()),
            hosts: hosts.into_iter().collect(),
        };
        (recipe, files)
    }

    /// What stands in for one of the service's mounts; a mounted file of the
    /// bundle needs none, and neither does a socket.
    fn place(&self, mount: &Mount, bundle: &Bundle) -> Option<Place> {
        let at = mount.destination.clone();
        let what = match (&mount.source, &mount.name) {
            (Some(source), _) => match source.strip_prefix(self.data_folder) {
                Ok(below) if below.to_str().is_some_and(|path| bundle.file(path).is_some()) => return None,
                Ok(below) if self.own_folder.join(below).is_file() => What::Host(source.clone()),
                Ok(_) => What::Fresh,
                Err(_) if source.extension().is_some_and(|end| end == "sock") => return None,
                Err(_) => What::Host(source.clone()),
            },
            (None, Some(name)) => {
                let filled = |file: &lockstep_shared::File| {
                    file.volume.as_ref().is_some_and(|place| mount.is_volume(place.volume()))
                };
                if bundle.files.iter().any(filled) {
                    What::Fresh
                } else {
                    What::Volume { name: name.clone(), writable: false }
                }
            }
            (None, None) => What::Fresh,
        };
        Some(Place { what, at })
    }

    /// Files that others keep in the folders that the container mounts: a
    /// certificate, a site of one's own. They come along as they are.
    fn beside(&self, container: &Container, bundle: &Bundle) -> Vec<(SafePath, Staged)> {
        let sources = container.mounts.iter().filter_map(|mount| mount.source.as_ref());
        let below = sources.filter_map(|source| source.strip_prefix(self.data_folder).ok());
        let mut open: Vec<PathBuf> = below.map(Path::to_owned).collect();
        let (mut found, mut bytes) = (Vec::new(), 0);
        while let Some(folder) = open.pop() {
            let Ok(entries) = std::fs::read_dir(self.own_folder.join(&folder)) else { continue };
            for entry in entries.flatten() {
                let path = folder.join(entry.file_name());
                let Some(safe) = path.to_str().and_then(|path| SafePath::new(path).ok()) else { continue };
                let Ok(meta) = entry.metadata() else { continue };
                let managed = bundle.file(safe.as_str()).is_some()
                    || self.applied.is_some_and(|applied| applied.files.contains_key(&safe));
                if meta.is_dir() && !SafePath::new(format!("{safe}/x")).is_ok_and(|inside| inside.is_protected()) {
                    open.push(path);
                } else if meta.is_file() && !managed && !is_staged(safe.file_name()) && found.len() < MOST_FILES {
                    bytes += meta.len();
                    if bytes > MOST_BYTES {
                        return found;
                    }
                    if let Ok(bytes) = std::fs::read(entry.path()) {
                        let owner = (meta.uid(), meta.gid());
                        found.push((safe, Staged { mode: meta.mode() & 0o7777, owner, bytes }));
                    }
                }
            }
        }
        found
    }

    /// The archive, with the folders that the container doesn't have: the
    /// engine would make them for root alone.
    async fn pack(
        &self,
        made: &str,
        recipe: &Recipe,
        files: BTreeMap<PathBuf, Staged>,
    ) -> Result<Vec<u8>, EngineError> {
        let fresh = |path: &Path| {
            let mut places = recipe.mounts.iter().filter(|place| matches!(place.what, What::Fresh));
            places.any(|place| path.starts_with(&place.at) && path != place.at)
        };
        let folders: BTreeSet<&Path> =
            files.keys().flat_map(|path| path.ancestors().skip(1)).filter(|path| path.parent().is_some()).collect();
        let mut new = BTreeSet::new();
        for folder in folders {
            let above_is_new = folder.parent().is_some_and(|above| new.contains(above));
            if fresh(folder) || above_is_new || self.engine.kind(made, folder).await?.is_none() {
                new.insert(folder);
            }
        }
        let packed = || -> io::Result<Vec<u8>> {
            let mut archive = tar::Builder::new(Vec::new());
            let relative = |path: &Path| path.strip_prefix("/").unwrap_or(path).to_owned();
            for folder in &new {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                header.set_size(0);
                archive.append_data(&mut header, relative(folder).join(""), io::empty())?;
            }
            for (path, file) in &files {
                let mut header = tar::Header::new_gnu();
                header.set_mode(file.mode);
                header.set_uid(file.owner.0.into());
                header.set_gid(file.owner.1.into());
                header.set_size(file.bytes.len() as u64);
                archive.append_data(&mut header, relative(path), file.bytes.as_slice())?;
            }
            archive.into_inner()
        };
        // Packing into memory fails only for paths that no container could have.
        packed().map_err(|error| EngineError::Refused {
            operation: "packing files for",
            target: made.to_owned(),
            why: error.to_string(),
            status: 0,
        })
    }
}

/// The image that the service will run: its container's, unless its definition changes.
fn image(compose: &compose_file::ComposeFile, service: &str, applied: Option<&Applied>, details: &Details) -> String {
    let defined = compose.services.get(service);
    let before = applied.and_then(|applied| applied.services.get(service));
    let changes = defined.is_some_and(|defined| before.is_some_and(|before| *before != defined.definition));
    // A variable's value is compose's to know.
    let written = defined.and_then(|defined| defined.image.clone()).filter(|image| changes && !image.contains('$'));
    written.unwrap_or_else(|| details.image.clone())
}
