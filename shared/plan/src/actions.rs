//! Which containers are affected, and what is done to each: one action per
//! container, the cheapest that works.

use super::compose::{self, Composed};
use super::volumes::{self, Fills};
use super::{Changed, Inputs, Plan, order};
use crate::action::{Action, Verb};
use crate::compose_file::ComposeFile;
use crate::container::Container;
use crate::steps::How;
use lockstep_shared::api::{Change, LeftAlone};
use lockstep_shared::{OnChange, SafePath};
use std::collections::{BTreeMap, BTreeSet};

/// An action while it is being put together.
#[derive(Debug, Default)]
struct Draft {
    verb: Option<Verb>,
    files: Vec<SafePath>,
    reasons: Vec<String>,
    /// Whether more speaks for it than what waits for a notification anyway.
    due: bool,
}

impl Draft {
    fn add(&mut self, verb: Verb, path: Option<&SafePath>, reason: Option<String>) {
        self.verb = Some(match self.verb.take() {
            Some(before) => before.and(verb),
            None => verb,
        });
        self.due = true;
        self.files.extend(path.filter(|path| !self.files.contains(path)).cloned());
        self.reasons.extend(reason.filter(|reason| !self.reasons.contains(reason)));
    }

    fn and(&mut self, other: Self) {
        let due = self.due || other.due;
        if let Some(verb) = other.verb {
            self.add(verb, None, None);
        }
        self.due = due;
        for path in &other.files {
            self.files.extend((!self.files.contains(path)).then(|| path.clone()));
        }
        for reason in other.reasons {
            self.reasons.extend((!self.reasons.contains(&reason)).then_some(reason));
        }
    }

    fn why(&self) -> String {
        some_of(&self.reasons.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// By service, then by container; compose's part stands under `None`.
type Drafts = BTreeMap<String, BTreeMap<Option<String>, Draft>>;

/// All that is known while actions are planned.
struct Planning<'p, 'a> {
    inputs: Inputs<'a>,
    containers: &'a [Container],
    compose: &'a ComposeFile,
    drafts: Drafts,
    /// Containers that a changed file reaches but nothing may be done to, and why.
    untouchable: BTreeMap<String, String>,
    plan: &'p mut Plan,
}

/// Fills the plan's actions, and decides which files are written in place.
pub(crate) fn plan<'a>(
    inputs: Inputs<'a>,
    containers: &'a [Container],
    compose: &'a ComposeFile,
    changed: &[Changed<'a>],
    fills: Fills,
    plan: &mut Plan,
) {
    let mut planning =
        Planning { inputs, containers, compose, drafts: Drafts::new(), untouchable: BTreeMap::new(), plan };
    planning.owed();
    for changed in changed {
        planning.file(changed);
    }
    for composed in compose::plan(inputs, containers, compose, changed, planning.plan) {
        planning.composed(&composed);
    }
    planning.removed();
    planning.asked();
    planning.unread(changed);
    planning.fold();
    planning.write_in_place();
    planning.finish(!changed.is_empty(), fills);
}

impl<'a> Planning<'_, 'a> {
    /// What an earlier apply still owes comes first, whether or not anything changed.
    fn owed(&mut self) {
        for owed in self.inputs.applied.into_iter().flat_map(|applied| &applied.owed) {
            let action = &owed.action;
            // What a volume lacks is seen in the volume.
            if action.fill().is_some() {
                continue;
            }
            let stands = self.containers.iter().any(|container| container.service == action.service);
            let defined = self.compose.services.contains_key(&action.service);
            // Compose can act only on what it still knows, the engine only on what is there.
            let possible = match action.verb {
                Verb::Remove => stands && !defined,
                _ if action.verb.is_composed() => defined,
                _ => stands,
            };
            if !possible {
                self.plan.notes.push(format!("{} of {} is no longer owed: it is gone", action.verb, action.service));
                continue;
            }
            let key = match &action.container {
                Some(name) if action.verb.is_composed() || !self.containers.iter().any(|it| it.name == *name) => None,
                other => other.clone(),
            };
            let own = |container: &&Container| match &action.container {
                Some(name) => container.name == *name,
                None => container.service == action.service,
            };
            let lives = |container: &Container| container.state == "running" && container.health != "unhealthy";
            let verb = match &action.verb {
                // It doesn't reach what has died, perhaps of it, nor does it cure what is sick of it.
                Verb::Live(_) if !self.containers.iter().filter(own).all(lives) => Verb::Restart,
                other => other.clone(),
            };
            let draft = || Draft {
                verb: Some(verb.clone()),
                files: action.files.clone(),
                reasons: vec![action.why.clone()],
                due: !owed.deferred,
            };
            if key.is_none() && !action.verb.is_composed() {
                // Its container has another name now.
                for container in self.containers.iter().filter(|container| container.service == action.service) {
                    self.draft(&action.service, Some(&container.name)).and(draft());
                }
            } else {
                self.draft(&action.service, key.as_deref()).and(draft());
            }
        }
    }

    fn draft(&mut self, service: &str, container: Option<&str>) -> &mut Draft {
        self.drafts.entry(service.to_owned()).or_default().entry(container.map(str::to_owned)).or_default()
    }

    fn file(&mut self, changed: &Changed<'a>) {
        let verb = changed.on_change.map_or(Verb::Restart, |verb| OnChange::clone(verb).into());
        let host = self.inputs.data_folder.join(changed.path.as_str());
        let over_folder = changed.change == Change::Added
            && self.plan.steps.write.iter().any(|write| write.path == *changed.path && write.how == How::OverFolder);
        let named = !changed.services.is_empty() || !changed.containers.is_empty();
        for service in changed.services {
            if !self.containers.iter().any(|container| container.service == *service) {
                self.missing(service, changed.path);
            }
        }
        for container in self.containers {
            let seen = changed.seen_by(container, self.inputs.data_folder);
            let concerned = if named {
                changed.services.contains(&container.service) || changed.containers.contains(&container.name)
            } else {
                !seen.is_empty()
            };
            if !concerned {
                continue;
            }
            let mounts_file = changed.volume.is_none() && container.mounts_file(&host);
            if mounts_file && over_folder {
                self.over_folder(changed, container);
                continue;
            }
            if changed.change == Change::Removed && mounts_file {
                let why = format!(
                    "its mounted file {} is gone from the bundle: it goes on with the old content, but can't be started again before its definition is changed",
                    changed.path
                );
                self.untouchable.insert(container.name.clone(), why);
                continue;
            }
            let owed =
                self.drafts.get(&container.service).is_some_and(|own| own.contains_key(&Some(container.name.clone())));
            if let Some(why) = self.out_of_reach(container).filter(|_| !owed) {
                // What reads the file by itself reads it whenever it runs.
                if verb != Verb::None {
                    self.untouchable.insert(container.name.clone(), why);
                }
                continue;
            }
            // A signal doesn't reach a container in a crash loop; a fresh start with the new files may end it.
            let verb = if container.state == "running" { verb.clone() } else { verb.clone().and(Verb::Restart) };
            self.draft(&container.service, Some(&container.name)).add(verb, Some(changed.path), Some(said(changed)));
        }
    }

    /// A container that mounts the folder which the engine made in the file's
    /// place has a folder to mount it on: it can't be started again with a file there.
    fn over_folder(&mut self, changed: &Changed<'a>, container: &Container) {
        let what = format!("{} was missing when {} was made, and Docker made a folder", changed.path, container.name);
        let defined = self.compose.services.contains_key(&container.service);
        if defined && (container.is_live() || container.state == "created") {
            self.draft(&container.service, None).add(Verb::Recreate, Some(changed.path), Some(what));
        } else {
            let why = if defined {
                format!("{what}; it is stopped: scripts/run-pryv {} makes it anew", container.service)
            } else {
                format!(
                    "{what}; the file is there now, but it can see it only when it is made anew: docker rm -f {0}, and the command that made it",
                    container.name
                )
            };
            self.untouchable.insert(container.name.clone(), why);
        }
    }

    /// Why nothing may be done to a container, whatever changed.
    fn out_of_reach(&self, container: &Container) -> Option<String> {
        if self.inputs.bundle.compose.is_some() && !self.compose.services.contains_key(&container.service) {
            return Some("it is not in the compose file".to_owned());
        }
        match container.state.as_str() {
            _ if container.is_live() => None,
            "paused" => Some("paused: reads the new files when it is restarted".to_owned()),
            _ => Some("stopped: reads the new files when it is started".to_owned()),
        }
    }

    fn missing(&mut self, service: &str, path: &SafePath) {
        if self.compose.services.contains_key(service) {
            return; // created, or reported as not created, by what follows
        }
        self.plan.notes.push(format!("{path} concerns the service {service}, which this machine doesn't have"));
    }

    fn composed(&mut self, composed: &Composed<'_>) {
        let own: Vec<_> = self.containers.iter().filter(|container| container.service == composed.service).collect();
        match own.first() {
            Some(first) if !own.iter().any(|container| container.is_live()) => {
                let why = format!("{}: scripts/run-pryv {} gives it its new definition", first.state, composed.service);
                self.untouchable.insert(first.name.clone(), why);
            }
            None if composed.verb != Verb::Create => {}
            _ => {
                let draft = self.draft(composed.service, None);
                draft.add(composed.verb.clone(), None, Some(composed.why.clone()));
                for path in &composed.files {
                    draft.add(composed.verb.clone(), Some(path), None);
                }
            }
        }
    }

    /// Services that left the compose file go, if lockstep created them.
    fn removed(&mut self) {
        let Some(file) = &self.inputs.bundle.compose else { return };
        let known =
            |service: &String| self.inputs.applied.is_some_and(|applied| applied.services.contains_key(service));
        for container in self.containers.iter().filter(|container| container.ours && known(&container.service)) {
            if !self.compose.services.contains_key(&container.service) {
                let reason = format!("it left {file}");
                let own = self.drafts.entry(container.service.clone()).or_default();
                let mut draft = Draft::default();
                draft.add(Verb::Remove, None, Some(reason));
                own.insert(Some(container.name.clone()), draft);
            }
        }
    }

    /// Services that a notification names are acted on in any case.
    fn asked(&mut self) {
        for service in &self.inputs.wanted.asked {
            if self.drafts.contains_key(service) {
                continue;
            }
            let own = self.containers.iter().filter(|container| container.service == *service);
            let mut found = self.compose.services.contains_key(service);
            for container in own {
                found = true;
                if let Some(why) = self.out_of_reach(container) {
                    self.untouchable.entry(container.name.clone()).or_insert(why);
                } else {
                    let reason = Some("asked for by notify".to_owned());
                    self.draft(service, Some(&container.name)).add(Verb::Restart, None, reason);
                }
            }
            if !found {
                self.plan.notes.push(format!("the notification names {service}, which is no service of this machine"));
            }
        }
    }

    /// Says which changed files no container reads: a common slip in a compose file.
    fn unread(&mut self, changed: &[Changed<'a>]) {
        let creates = self.drafts.values().any(|own| own.values().any(|draft| draft.verb == Some(Verb::Create)));
        if creates || self.containers.is_empty() {
            return;
        }
        let read = |changed: &Changed<'_>| {
            let drafted = self.drafts.values().any(|own| own.values().any(|draft| draft.files.contains(changed.path)));
            let seen = |container: &Container| !changed.seen_by(container, self.inputs.data_folder).is_empty();
            drafted || self.containers.iter().any(seen)
        };
        let is_compose = |changed: &Changed<'_>| Some(changed.path) == self.inputs.bundle.compose.as_ref();
        let mut unread: Vec<&str> = Vec::new();
        for changed in changed.iter().filter(|changed| changed.change != Change::Removed && changed.volume.is_none()) {
            if is_compose(changed) || read(changed) {
                continue;
            }
            let host = self.inputs.data_folder.join(changed.path.as_str());
            let hidden = self.containers.iter().find_map(|container| Some((container, container.hidden(&host)?)));
            match hidden {
                None => unread.push(changed.path.as_str()),
                Some((container, mount)) => self.plan.notes.push(format!(
                    "{} is hidden from {} by the {} at {}: nothing is done to it",
                    changed.path,
                    container.name,
                    if mount.kind.is_empty() { "mount" } else { &mount.kind },
                    mount.destination.display()
                )),
            }
        }
        if !unread.is_empty() {
            let services: BTreeSet<&str> = unread.iter().filter_map(|path| path.split('/').next()).collect();
            let own = self.containers.iter().find(|container| services.contains(container.service.as_str()));
            let inside =
                own.map(|own| format!("; {} has only what its image holds there", own.name)).unwrap_or_default();
            self.plan.notes.push(format!("no container mounts {}{inside}", some_of(&unread)));
        }
    }

    /// Where compose acts on a service, that is the one action for all its containers.
    fn fold(&mut self) {
        for own in self.drafts.values_mut() {
            if !own.values().any(|draft| draft.verb.as_ref().is_some_and(Verb::is_composed)) {
                continue;
            }
            let mut whole = Draft::default();
            for (_, draft) in std::mem::take(own) {
                whole.and(draft);
            }
            own.insert(None, whole);
        }
    }

    /// A file that a running container mounts by itself is written in place,
    /// unless that container is started anew.
    fn write_in_place(&mut self) {
        for write in &mut self.plan.steps.write {
            let host = self.inputs.data_folder.join(write.path.as_str());
            let reader = self.containers.iter().find(|container| {
                let own = self.drafts.get(&container.service);
                let draft = own.and_then(|own| own.get(&None).or_else(|| own.get(&Some(container.name.clone()))));
                let verb = draft.and_then(|draft| draft.verb.as_ref());
                let goes_on = matches!(verb, None | Some(Verb::None | Verb::Live(_)));
                container.is_live() && container.mounts_file(&host) && goes_on
            });
            if let Some(reader) = reader.filter(|_| write.change == Change::Changed) {
                write.how = How::InPlace;
                self.plan.notes.push(format!(
                    "{} is written in place, not atomically: {} mounts the file itself and is not started anew; mount its folder instead",
                    write.path, reader.name
                ));
            }
        }
    }

    fn finish(self, changed: bool, fills: Fills) {
        let Self { inputs, containers, compose, drafts, untouchable, plan } = self;
        for (service, own) in drafts {
            let single = containers.iter().filter(|container| container.service == service).collect::<Vec<_>>();
            for (container, draft) in own {
                let why = draft.why();
                let Some(verb) = draft.verb else { continue };
                let container = container.or_else(|| match single.as_slice() {
                    [only] => Some(only.name.clone()),
                    _ => None,
                });
                let waits = !inputs.wanted.release && !draft.due;
                let later = waits || (verb != Verb::None && !inputs.wanted.includes(&service));
                let action = Action {
                    service: service.clone(),
                    container,
                    verb,
                    why,
                    files: draft.files,
                    depends_on: Vec::new(),
                };
                if later { plan.deferred.push(action) } else { plan.actions.push(action) }
            }
        }
        let fills = volumes::plan(fills, containers, compose, plan);
        plan.actions.splice(0..0, fills);
        order::depend(&mut plan.actions, containers, compose);
        let asked = !inputs.wanted.asked.is_empty();
        if changed || asked || !plan.actions.is_empty() {
            plan.left_alone = left_alone(containers, compose, &untouchable, plan);
        }
    }
}

fn left_alone(
    containers: &[Container],
    compose: &ComposeFile,
    untouchable: &BTreeMap<String, String>,
    plan: &Plan,
) -> Vec<LeftAlone> {
    let mut left = BTreeMap::new();
    let deferred = |service: &str| plan.deferred.iter().any(|action| action.service == service);
    let acted =
        |service: &str| plan.actions.iter().any(|action| action.service == service && action.verb != Verb::None);
    for service in compose.services.keys().filter(|service| !acted(service)) {
        let why = if deferred(service) {
            "waits for a notification of its own".to_owned()
        } else {
            format!("not created; scripts/run-pryv {service} creates it when it is wanted")
        };
        left.insert(service.clone(), why);
    }
    for container in containers.iter().filter(|container| !acted(&container.service)) {
        let why = match untouchable.get(&container.name) {
            _ if deferred(&container.service) => "waits for a notification of its own",
            Some(why) => why,
            None if plan.actions.iter().any(|action| action.service == container.service) => {
                "reads its changed files by itself"
            }
            None => "no changed file under its mounts",
        };
        // With several containers, one that could not be touched says more.
        let told = left.entry(container.service.clone()).or_default();
        if !untouchable.values().any(|known| known == told) {
            why.clone_into(told);
        }
    }
    left.into_iter().map(|(service, why)| LeftAlone { service, why }).collect()
}

fn said(changed: &Changed<'_>) -> String {
    let what = match changed.change {
        Change::Added => "is new",
        Change::Changed => "changed",
        Change::Removed => "is gone",
    };
    format!("{} {what}", changed.path)
}

/// The first few of a list, and how many more there are.
pub(crate) fn some_of(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    match names.len() {
        0..=4 => names.join(", "),
        all => format!("{} and {} more", names[..SHOWN].join(", "), all - SHOWN),
    }
}
