//! What a changed compose file, env file or `.env` means for its services.

use super::{Changed, Inputs, Plan};
use crate::action::Verb;
use crate::compose_file::{ComposeFile, Service};
use crate::container::Container;
use lockstep_shared::SafePath;
use std::path::{Component, Path};

/// What compose has to do for a service, and why.
pub(super) struct Composed<'a> {
    pub(super) service: &'a str,
    pub(super) verb: Verb,
    pub(super) why: String,
    pub(super) files: Vec<&'a SafePath>,
}

/// What compose has to do. Notes on services that left the compose file go into the plan.
pub(crate) fn plan<'a>(
    inputs: Inputs<'a>,
    containers: &[Container],
    compose: &'a ComposeFile,
    changed: &[Changed<'a>],
    plan: &mut Plan,
) -> Vec<Composed<'a>> {
    let Some(file) = &inputs.bundle.compose else { return Vec::new() };
    let folder = file.parent().unwrap_or_default();
    let changed_at = |path: &str| changed.iter().find(|changed| changed.path.as_str() == path);
    let environment = if folder.is_empty() { ".env".to_owned() } else { format!("{folder}/.env") };
    let mut composed = Vec::new();
    for (name, service) in &compose.services {
        let exists = containers.iter().any(|container| container.service == *name);
        let known = inputs.applied.and_then(|applied| applied.services.get(name));
        let mut add = |verb, why, changed: Option<&Changed<'a>>| {
            let files = changed.into_iter().map(|changed| changed.path).collect();
            composed.push(Composed { service: name, verb, why, files });
        };
        match known {
            None if !exists && service.profiled => {
                plan.notes.push(format!("service {name} belongs to a profile and is not created by itself"));
            }
            None if !exists => add(Verb::Create, "it has no container yet".to_owned(), None),
            None => {
                if let Some(changed) = changed_at(file.as_str()) {
                    add(Verb::Converge, format!("{file} changed: compose compares"), Some(changed));
                }
            }
            Some(before) if *before != service.definition => {
                add(Verb::Recreate, format!("its definition in {file} changed"), changed_at(file.as_str()));
            }
            Some(_) => {}
        }
        for env_file in env_files(service, folder, inputs.data_folder) {
            if let Some(changed) = changed_at(&env_file) {
                add(Verb::Recreate, format!("its env_file {env_file} changed"), Some(changed));
            }
        }
        if let Some(changed) = changed_at(&environment) {
            add(Verb::Converge, format!("{environment} changed: compose compares"), Some(changed));
        }
    }
    for name in inputs.applied.into_iter().flat_map(|applied| applied.services.keys()) {
        let left = containers.iter().filter(|container| container.service == *name && !container.ours);
        for container in left.filter(|_| !compose.services.contains_key(name)) {
            plan.notes.push(format!(
                "service {name} left {file}, its container {0} still stands, since lockstep didn't create it; when it is not wanted any more: docker rm -f {0}",
                container.name
            ));
        }
    }
    composed
}

/// A service's env files below the data folder, as paths relative to it.
fn env_files(service: &Service, compose_folder: &str, data_folder: &Path) -> Vec<String> {
    let below = |written: &String| {
        let written = Path::new(written);
        let path = match written.strip_prefix(data_folder) {
            Ok(below) => below.to_owned(),
            Err(_) if written.is_absolute() => return None,
            Err(_) => Path::new(compose_folder).join(written),
        };
        plain(&path)
    };
    service.env_files.iter().filter_map(below).collect()
}

/// A relative path without `.` and `..`; `None` if it leads out.
fn plain(path: &Path) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}
