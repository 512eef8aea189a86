//! In which order containers are acted on: what others depend on comes first.

use crate::action::{Action, Verb};
use crate::compose_file::ComposeFile;
use crate::container::Container;
use std::collections::{BTreeMap, BTreeSet};

/// Fills each action's `depends_on`: the services among `actions` that it
/// needs, directly or through others.
pub(crate) fn depend(actions: &mut [Action], containers: &[Container], compose: &ComposeFile) {
    let mut needs: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for container in containers {
        needs.entry(&container.service).or_default().extend(container.depends_on.iter().map(String::as_str));
    }
    for (name, service) in &compose.services {
        needs.entry(name).or_default().extend(service.depends_on.iter().map(String::as_str));
    }
    let fills: Vec<(String, &str)> =
        actions.iter().filter_map(|action| Some((action.service.clone(), action.fill()?.volume.as_str()))).collect();
    for (name, volume) in &fills {
        for container in containers.iter().filter(|container| container.mounts_volume(volume)) {
            needs.entry(&container.service).or_default().insert(name);
        }
        for (service, _) in compose.services.iter().filter(|(_, service)| service.volumes.contains(*volume)) {
            needs.entry(service).or_default().insert(name);
        }
    }
    let removed: Vec<String> =
        actions.iter().filter(|action| action.verb == Verb::Remove).map(|action| action.service.clone()).collect();
    let acted: BTreeSet<String> = actions.iter().map(|action| action.service.clone()).collect();
    let mut depend = Vec::with_capacity(actions.len());
    for action in &*actions {
        let mut reached = BTreeSet::new();
        let mut open = vec![action.service.as_str()];
        while let Some(service) = open.pop() {
            for need in needs.get(service).into_iter().flatten() {
                if reached.insert(*need) {
                    open.push(need);
                }
            }
        }
        let needed = reached.into_iter().filter(|need| *need != action.service && acted.contains(*need));
        let mut needed: Vec<String> = needed.map(str::to_owned).collect();
        if action.verb == Verb::Remove {
            // First of all: what takes its place may need its name or its ports.
            needed.clear();
        } else if action.verb.is_composed() {
            needed.extend(removed.iter().cloned());
        }
        depend.push(needed);
    }
    for (action, needed) in actions.iter_mut().zip(depend) {
        action.depends_on = needed;
    }
}

/// The actions in waves, as indices: those of one wave are independent of each
/// other, and need only earlier waves. All that compose does is in one wave,
/// for it keeps its own order within one call.
pub fn waves(actions: &[Action]) -> Vec<Vec<usize>> {
    let node = |index: usize| if actions[index].verb.is_composed() { None } else { Some(index) };
    let mut nodes: BTreeMap<Option<usize>, BTreeSet<Option<usize>>> = BTreeMap::new();
    for (index, action) in actions.iter().enumerate() {
        let needs = nodes.entry(node(index)).or_default();
        let needed = (0..actions.len()).filter(|other| action.depends_on.contains(&actions[*other].service));
        needs.extend(needed.map(node).filter(|needed| *needed != node(index)));
    }
    let mut waves = Vec::new();
    while !nodes.is_empty() {
        let mut free: Vec<_> = nodes.iter().filter(|(_, needs)| needs.is_empty()).map(|(node, _)| *node).collect();
        if free.is_empty() {
            // A cycle, which compose would have refused; or one that arises only
            // because compose's actions are one: then those go first.
            free.extend(nodes.keys().next().copied());
        }
        for node in &free {
            nodes.remove(node);
        }
        for needs in nodes.values_mut() {
            needs.retain(|need| !free.contains(need));
        }
        let wave = (0..actions.len()).filter(|index| free.contains(&node(*index)));
        waves.push(wave.collect());
    }
    waves
}
