//! What a new bundle would mean for a machine's containers: the follower's own
//! plan, made beforehand from what it last reported. On the machine itself the
//! same function decides, from the disk and the engine as they are then.

use lockstep_plan::action::{Action, Verb};
use lockstep_plan::applied::Applied;
use lockstep_plan::compose_file;
use lockstep_plan::container::Container;
use lockstep_plan::snapshot::{Entry, Snapshot};
use lockstep_plan::{Inputs, Wanted, plan, waves};
use lockstep_shared::Bundle;
use lockstep_shared::api::{LeftAlone, Status};
use serde::{Deserialize, Serialize};
use std::path::Path;
use utoipa::ToSchema;

/// What would happen to the containers of one machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Foreseen {
    /// Why it can't be told; then the rest is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// What would be done, in this order.
    pub actions: Vec<ForeseenAction>,
    /// Services that would be left alone, each with the reason.
    pub left_alone: Vec<LeftAlone>,
    /// What an operator should know.
    pub notes: Vec<String>,
}

/// What would be done to one container or service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ForeseenAction {
    /// From 1; actions of one number are done at the same time.
    pub order: usize,
    /// The compose service.
    pub service: String,
    /// The container, where it is one.
    pub container: Option<String>,
    /// `none`, `signal:HUP`, `exec:[..]`, `restart`, `recreate` or `create`.
    pub verb: String,
    /// What makes it necessary.
    pub why: String,
    /// What users of the service would notice, in words.
    pub means: String,
    /// Whether the service would be away for a moment.
    pub downtime: bool,
}

/// What a follower that runs `before` would do with `next`, going by its last report.
pub fn foresee(before: Option<&Bundle>, next: Option<&Bundle>, status: Option<&Status>) -> Foreseen {
    let unknown = |why: &str| Foreseen { unknown: Some(why.to_owned()), ..Foreseen::default() };
    let Some(next) = next else {
        return unknown(
            "it is no longer declared: its follower gets nothing more, and its containers go on as they are",
        );
    };
    let Some(status) = status else {
        return unknown(
            "its follower has not reported since the leader started: is it running, and does it reach the leader?",
        );
    };
    let containers: Vec<Container> = status.containers.iter().map(Container::from).collect();
    let data_folder = match (&status.data_folder, status.engine) {
        (Some(folder), _) => folder.as_str(),
        (None, false) => "/",
        (None, true) => return unknown("its follower is of an older version, which doesn't report mounts"),
    };
    let applied = before.map(written);
    let disk = before.map(stands).unwrap_or_default();
    let inputs = Inputs {
        bundle: next,
        revision: 0,
        applied: applied.as_ref(),
        disk: &disk,
        data_folder: Path::new(data_folder),
        containers: status.engine.then_some(containers.as_slice()),
        wanted: &Wanted::all(),
    };
    let plan = match plan(inputs) {
        Ok(plan) => plan,
        Err(error) => return unknown(&format!("it would refuse this: {error}")),
    };
    let mut notes = plan.notes;
    if let (Some(before), running) = (before, &status.running)
        && running.as_ref().is_none_or(|running| running.digest != before.digest)
    {
        let runs =
            running.as_ref().map_or("nothing yet".to_owned(), |running| format!("revision {}", running.revision));
        notes.push(format!("it runs {runs}, not what is published: it may have more to do than is shown"));
    }
    let ordered = waves(&plan.actions).into_iter().enumerate();
    let actions = ordered.flat_map(|(wave, indices)| {
        let foreseen = |index: usize| foreseen(wave + 1, &plan.actions[index]);
        indices.into_iter().map(foreseen).collect::<Vec<_>>()
    });
    Foreseen { unknown: None, actions: actions.collect(), left_alone: plan.left_alone, notes }
}

fn foreseen(order: usize, action: &Action) -> ForeseenAction {
    let (downtime, means) = match action.verb {
        Verb::None => (false, "nothing is done: it reads the file by itself"),
        Verb::Live(_) => (false, "no downtime: it goes on running"),
        Verb::Restart => (true, "short downtime: it is stopped and started"),
        Verb::Converge => (true, "short downtime if Compose finds its definition changed: it is replaced"),
        Verb::Recreate => (true, "short downtime: its container is replaced by a new one"),
        Verb::Create => (false, "it is new: it is created and started"),
        Verb::Remove => (true, "it is stopped and removed for good; its volumes stay"),
        Verb::Fill(_) => (false, "its files are replaced, one after the other"),
    };
    ForeseenAction {
        order,
        service: action.service.clone(),
        container: action.container.clone(),
        verb: action.verb.to_string(),
        why: action.why.clone(),
        means: means.to_owned(),
        downtime,
    }
}

/// What a follower remembers of a bundle that it applied.
fn written(bundle: &Bundle) -> Applied {
    let compose = bundle.compose_file().and_then(|file| compose_file::read(&file.content).ok()).unwrap_or_default();
    let services = compose.services.iter().map(|(name, service)| (name.clone(), service.definition)).collect();
    Applied::written("", bundle, 0, services, None, 0)
}

/// The disk as a bundle leaves it.
fn stands(bundle: &Bundle) -> Snapshot {
    let mut disk = Snapshot::default();
    for file in &bundle.files {
        let owner = file.owner.map_or((0, 0), |owner| (owner.uid, owner.gid));
        let entry = Entry::File { sha256: file.sha256, mode: file.mode.bits(), uid: owner.0, gid: owner.1 };
        if let Some(place) = &file.volume {
            disk.set_in_volume(place.clone(), entry);
            continue;
        }
        if file.path.is_protected() {
            if let Some(folder) = file.path.parent().filter(|_| file.path.is_folder_marker()) {
                disk.set(folder, Entry::Folder);
            }
            continue;
        }
        disk.set(file.path.as_str(), entry);
    }
    disk
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_shared::api::{self, Mount, Running};
    use lockstep_shared::{File, Name, OnChange, SafePath};

    const COMPOSE: &str =
        "services:\n  nginx: {image: n, depends_on: [redis]}\n  redis: {image: r}\n  other: {image: o}\n";

    fn bundle(nginx: &str, redis: &str) -> Bundle {
        let name = |text: &str| Name::new(text).unwrap();
        let file = |path: &str, text: &str| File::plain(SafePath::new(path).unwrap(), text.as_bytes());
        let mut conf = file("nginx/conf/n.conf", nginx);
        conf.on_change = Some(OnChange::Signal("HUP".into()));
        let files =
            vec![file("pryv.yml", COMPOSE), conf, file("redis/conf/r.conf", redis), file("nginx/log/.gitkeep", "")];
        Bundle::new(name("web"), name("web-1"), None, files).unwrap()
    }

    fn status(running: &Bundle) -> Status {
        let container = |service: &str| api::Container {
            service: service.to_owned(),
            name: format!("p_{service}_1"),
            state: "running".to_owned(),
            health: "none".to_owned(),
            mounts: vec![Mount {
                source: Some(format!("/d/{service}/conf")),
                destination: "/conf".to_owned(),
                ..Mount::default()
            }],
            depends_on: Vec::new(),
            ours: false,
        };
        Status {
            engine: true,
            data_folder: Some("/d".to_owned()),
            containers: ["nginx", "redis", "other"].map(container).into(),
            running: Some(Running { revision: 1, digest: running.digest, since: 0 }),
            ..Status::default()
        }
    }

    #[test]
    fn tells_verbs_order_and_downtime_from_the_reported_mounts() {
        let before = bundle("a", "a");
        let foreseen = foresee(Some(&before), Some(&bundle("b", "b")), Some(&status(&before)));
        let told: Vec<_> = foreseen
            .actions
            .iter()
            .map(|action| (action.order, action.service.as_str(), action.verb.as_str(), action.downtime))
            .collect();
        assert_eq!(told, [(1, "redis", "restart", true), (2, "nginx", "signal:HUP", false)]);
        assert_eq!(foreseen.left_alone[0].service, "other");
        assert_eq!(foreseen.notes, [""; 0]);
        assert_eq!(foreseen.unknown, None);
    }

    #[test]
    fn says_what_it_does_not_know() {
        let before = bundle("a", "a");
        let next = bundle("b", "a");
        let silent = foresee(Some(&before), Some(&next), None);
        assert!(silent.unknown.unwrap().contains("has not reported"));
        let behind = foresee(Some(&before), Some(&next), Some(&status(&next)));
        assert!(behind.notes[0].contains("it runs revision 1, not what is published"), "{behind:?}");
        let old = Status { data_folder: None, ..status(&before) };
        assert!(foresee(Some(&before), Some(&next), Some(&old)).unknown.unwrap().contains("older version"));
        assert!(foresee(Some(&before), None, None).unknown.unwrap().contains("no longer declared"));
    }
}
