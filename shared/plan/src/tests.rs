mod files;
mod services;
mod volumes;

use super::*;
use crate::action::Verb;
use crate::applied::Owed;
use crate::container::Mount;
use crate::snapshot::{Entry, Obstacle};
use crate::steps::How;
use lockstep_shared::{File, Mode, OnChange, Owner};

/// Two services, one that waits for the other.
const COMPOSE: &str = "services:\n  web: {image: w, env_file: [web.env], depends_on: [db]}\n  db: {image: d}\n";

/// A machine: what was applied, what is on its disk, what runs on it.
#[derive(Default)]
struct Machine {
    applied: Option<Applied>,
    disk: Snapshot,
    containers: Vec<Container>,
}

fn file(path: &str, text: &str) -> File {
    File::plain(SafePath::new(path).unwrap(), text.as_bytes())
}

fn on(file: File, verb: &str) -> File {
    File { on_change: Some(OnChange::try_from(verb.to_owned()).unwrap()), ..file }
}

fn bundle(files: Vec<File>) -> Bundle {
    let name = |text: &str| Name::new(text).unwrap();
    Bundle::new(name("core"), name("core-1"), None, files).unwrap()
}

fn entry(text: &str) -> Entry {
    Entry::File { sha256: Sha256::of(text.as_bytes()), mode: 0o644, uid: 0, gid: 0 }
}

/// A running container with mounts `host:container`, relative to the data folder.
fn container(service: &str, mounts: &[&str]) -> Container {
    let mount = |text: &&str| {
        let (source, destination) = text.split_once(':').unwrap();
        Mount { source: Some(Path::new("/d").join(source)), destination: destination.into(), ..Mount::default() }
    };
    Container {
        id: format!("id-{service}"),
        name: format!("pryv_{service}_1"),
        service: service.to_owned(),
        number: "1".to_owned(),
        state: "running".to_owned(),
        health: "none".to_owned(),
        mounts: mounts.iter().map(mount).collect(),
        depends_on: Vec::new(),
        ours: false,
    }
}

fn stopped(container: Container) -> Container {
    Container { state: "exited".to_owned(), ..container }
}

impl Machine {
    /// A machine that has applied these files.
    fn with(files: &[File], containers: Vec<Container>) -> Self {
        let mut machine = Self { containers, ..Self::default() };
        let bundle = bundle(files.to_vec());
        for file in files {
            let text = String::from_utf8_lossy(&file.content).into_owned();
            machine.disk.set(file.path.as_str(), entry(&text));
        }
        let compose = bundle.compose_file().map(|file| compose_file::read(&file.content).unwrap()).unwrap_or_default();
        let services = compose.services.iter().map(|(name, service)| (name.clone(), service.definition)).collect();
        machine.applied = Some(Applied::written("before", &bundle, 1, services, None, 0));
        machine
    }

    fn plan_for(&self, files: &[File], wanted: &Wanted) -> Plan {
        self.try_plan(files, wanted).unwrap()
    }

    fn plan(&self, files: &[File]) -> Plan {
        self.plan_for(files, &Wanted::all())
    }

    fn try_plan(&self, files: &[File], wanted: &Wanted) -> Result<Plan, PlanError> {
        plan(Inputs {
            bundle: &bundle(files.to_vec()),
            revision: 2,
            applied: self.applied.as_ref(),
            disk: &self.disk,
            data_folder: Path::new("/d"),
            containers: Some(&self.containers),
            wanted,
        })
    }

    fn owing(mut self, service: &str, verb: Verb, deferred: bool) -> Self {
        let action = Action {
            service: service.to_owned(),
            container: Some(format!("pryv_{service}_1")),
            verb,
            why: "of before".to_owned(),
            files: Vec::new(),
            depends_on: Vec::new(),
        };
        self.applied.as_mut().unwrap().owed.push(Owed { action, deferred });
        self
    }
}

/// `verb service` of every action, by wave.
fn acts(plan: &Plan) -> String {
    let waves = waves(&plan.actions);
    let wave = |wave: &Vec<usize>| {
        let acts = wave.iter().map(|index| &plan.actions[*index]);
        acts.map(|action| format!("{} {}", action.verb, action.service)).collect::<Vec<_>>().join(" + ")
    };
    waves.iter().map(wave).collect::<Vec<_>>().join(" > ")
}

fn left(plan: &Plan, service: &str) -> String {
    plan.left_alone.iter().find(|left| left.service == service).map(|left| left.why.clone()).unwrap_or_default()
}
