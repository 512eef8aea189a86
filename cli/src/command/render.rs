//! `lockstep render ROLE`: from the files on disk, without a leader.

use super::{leader_config, print, say, write_out};
use crate::arguments::Format;
use crate::exit::{Done, Failed, failed};
use lockstep_leader::config::Config;
use lockstep_leader::memo::Memo;
use lockstep_leader::published::tar;
use lockstep_leader::release::{self, Release};
use lockstep_leader::render::Machine;
use lockstep_leader::roster;
use lockstep_leader::secrets::{Drafts, Secrets};
use lockstep_leader::source::Source;
use lockstep_leader::store::Store;
use lockstep_shared::{Bundle, Name};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

pub(super) fn run(
    root: &Path,
    role: &str,
    machine: Option<&str>,
    out: Option<&Path>,
    format: Format,
) -> Result<Done, Failed> {
    let config = leader_config(root)?;
    let bundle = render(&config, role, machine)?;
    match (out, format) {
        (Some(folder), _) => {
            write_tree(&bundle, folder)?;
            say(&format!("{} files of {role} are in {}", bundle.files.len(), folder.display()));
        }
        (None, Format::Json) => print(&format!("{}\n", String::from_utf8_lossy(&bundle.to_json(0))))?,
        (None, Format::Tar) => write_out(&tar(&bundle, 0))?,
    }
    Ok(Done::Good)
}

fn render(config: &Config, role: &str, machine: Option<&str>) -> Result<Arc<Bundle>, Failed> {
    let role = Name::new(role)?;
    let store = Store::peek(&config.state)?;
    if let Some(store) = &store {
        roster::load(&config.members, store)?;
    }
    let all = release::machines(config);
    let chosen = match machine {
        Some(name) => match all.iter().find(|machine| machine.name.as_str() == name) {
            Some(machine) if machine.role == role => machine.clone(),
            Some(machine) => {
                return Err(failed(format!(
                    "{name} has the role {}: lockstep render {} --machine {name}",
                    machine.role, machine.role
                )));
            }
            None => {
                return Err(failed(format!("no follower is called {name}: lockstep followers list names them")));
            }
        },
        None => all.iter().find(|machine| machine.role == role).cloned().unwrap_or_else(|| Machine {
            name: role.clone(),
            role: role.clone(),
            addresses: Vec::new(),
            url: None,
        }),
    };
    let source = Source::read(&config.platform, &config.templates)?;
    let mut memo = Memo::default();
    // Looked at, not published: and one machine alone doesn't tell which services its role has.
    let release = Release::compile_naming(&source, &all, &config.members.disabled(), &mut memo).as_published();
    if !release.compiled.templates.roles.contains_key(&role) {
        let roles: Vec<&str> = release.compiled.templates.roles.keys().map(Name::as_str).collect();
        return Err(failed(format!("no role is called {role}; roles of this release: {}", roles.join(", "))));
    }
    if store.is_none() && release.compiled.settings.by_name.values().any(|setting| setting.secret.is_some()) {
        say(
            "no leader has made this platform's secrets yet: they are random in what follows, and other ones each time",
        );
    }
    let mut secrets = Secrets::new(super::environment(), store.as_ref(), Drafts::Read);
    let bundles = release.render(std::slice::from_ref(&chosen), &all, &mut secrets, 0, &mut memo)?;
    bundles.into_values().next().ok_or_else(|| failed("nothing was rendered"))
}

fn write_tree(bundle: &Bundle, folder: &Path) -> Result<(), Failed> {
    let at = |path: &Path, error: std::io::Error| failed(format!("{}: {error}", path.display()));
    let make = |path: &Path| {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(|error| at(path, error))
    };
    make(folder)?;
    if std::fs::read_dir(folder).map_err(|error| at(folder, error))?.next().is_some() {
        return Err(failed(format!("{} is not empty: give a new folder", folder.display())));
    }
    for file in &bundle.files {
        let path = folder.join(file.path.as_str());
        make(path.parent().unwrap_or(folder))?;
        let mut open = std::fs::OpenOptions::new();
        let written = open.write(true).create_new(true).mode(file.mode.bits()).open(&path).and_then(|mut target| {
            std::io::Write::write_all(&mut target, &file.content)?;
            target.set_permissions(std::fs::Permissions::from_mode(file.mode.bits()))
        });
        written.map_err(|error| at(&path, error))?;
    }
    Ok(())
}
