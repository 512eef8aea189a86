//! The real Docker engine, through its command line, as an operator would.

use super::text;
use std::process::Command;

/// The engine.
pub(crate) struct Engine;

impl Engine {
    /// Runs `docker ...`; what it prints.
    pub(crate) fn docker(arguments: &[&str]) -> String {
        let output = Command::new("docker").args(arguments).output();
        let output = output.expect("there is no docker here: apt-get install docker.io, or run scripts/test");
        assert!(
            output.status.success(),
            "docker {arguments:?}: {}(no engine? scripts/test starts one)",
            text(&output.stderr)
        );
        text(&output.stdout).trim().to_owned()
    }

    /// What tells one start of a container from the next.
    pub(crate) fn started(container: &str) -> String {
        Self::docker(&["inspect", "-f", "{{.Id}} {{.State.StartedAt}} {{.RestartCount}}", container])
    }

    pub(crate) fn exec(container: &str, command: &[&str]) -> String {
        Self::docker(&[&["exec", container], command].concat())
    }
}

/// A compose project of one test: its containers, networks and volumes are removed when it is dropped.
pub(crate) struct Project {
    pub(crate) name: String,
}

impl Project {
    pub(crate) fn new(theme: &str) -> Self {
        let unique = u32::from_le_bytes(lockstep_edge::random::bytes());
        Self { name: format!("lstest-{theme}-{unique:08x}") }
    }

    /// A container of the project, made with the labels that compose gives.
    pub(crate) fn run(&self, service: &str, options: &[&str], image: &str, command: &[&str]) -> String {
        let name = self.container(service);
        let labels = [
            format!("--label=com.docker.compose.project={}", self.name),
            format!("--label=com.docker.compose.service={service}"),
            "--label=com.docker.compose.oneoff=False".to_owned(),
            "--label=com.docker.compose.container-number=1".to_owned(),
        ];
        let mut arguments = vec!["run", "-d", "--stop-timeout=1", "--name", &name];
        arguments.extend(labels.iter().map(String::as_str));
        arguments.extend(options);
        arguments.push(image);
        arguments.extend(command);
        Engine::docker(&arguments);
        name
    }

    /// The name of a service's container.
    pub(crate) fn container(&self, service: &str) -> String {
        format!("{}_{service}_1", self.name)
    }

    pub(crate) fn containers(&self) -> Vec<String> {
        let filter = format!("label=com.docker.compose.project={}", self.name);
        let mut names: Vec<String> = Engine::docker(&["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"])
            .lines()
            .map(str::to_owned)
            .collect();
        names.sort();
        names
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let filter = format!("label=com.docker.compose.project={}", self.name);
        // What a follower that the test killed had no time to remove.
        let throwaway = format!("label=io.lockstep.throwaway={}", self.name);
        for (list, remove, filter) in [
            (&["ps", "-aq"][..], &["rm", "-fv"][..], &filter),
            (&["ps", "-aq"], &["rm", "-fv"], &throwaway),
            (&["network", "ls", "-q"], &["network", "rm"], &filter),
            (&["volume", "ls", "-q"], &["volume", "rm", "-f"], &filter),
        ] {
            let found = Command::new("docker").args(list).args(["--filter", filter]).output();
            let ids = found.map(|output| text(&output.stdout)).unwrap_or_default();
            let ids: Vec<&str> = ids.split_whitespace().collect();
            if !ids.is_empty() {
                let _ = Command::new("docker").args(remove).args(ids).output();
            }
        }
    }
}
