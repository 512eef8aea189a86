//! Docker and Compose: there, allowed, new enough; the project's containers.

use super::{Finding, Level, fine, found, mounts};
use lockstep_follower::compose::Compose;
use lockstep_follower::config::Docker;
use lockstep_follower::docker::Engine;
use lockstep_shared::api::Container;
use std::path::Path;
use std::time::Duration;

/// The first version of the engine's API that has all that the follower calls (Docker 20.10).
const OLDEST_API: (u32, u32) = (1, 41);

/// An engine that takes longer than this to answer is told.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the engine says.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) host: String,
    pub(super) project: String,
    /// Its version and its API's, or why there is none.
    pub(super) version: Result<(String, String), String>,
    pub(super) containers: Vec<Container>,
    /// Whether a compose tool answers, or why not.
    pub(super) compose: Result<(), String>,
}

pub(super) async fn gather(docker: &Docker, root: &Path) -> Facts {
    let engine = Engine::new(&docker.host, &docker.project);
    let version = match tokio::time::timeout(PATIENCE, engine.version()).await {
        Ok(version) => version.map_err(|error| error.to_string()),
        Err(_) => Err(format!("it did not answer within {} s", PATIENCE.as_secs())),
    };
    let containers = match &version {
        Ok(_) => engine.containers().await.unwrap_or_default().iter().map(Container::from).collect(),
        Err(_) => Vec::new(),
    };
    let compose = Compose::new(docker.compose.clone(), &docker.host, &docker.project, root);
    let compose = compose.tool().await.map(drop).map_err(|error| error.to_string());
    Facts { host: docker.host.clone(), project: docker.project.clone(), version, containers, compose }
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &facts.version {
        Err(why) => findings.push(found(
            "docker",
            Level::Broken,
            format!("Docker doesn't answer at {}: {why}", facts.host),
            "no container can be looked at, created or restarted",
            unreached(&facts.host),
        )),
        Ok((version, api)) if !is_new_enough(api) => findings.push(found(
            "docker",
            Level::Broken,
            format!("Docker {version} speaks API {api}"),
            format!("the follower needs API {}.{}", OLDEST_API.0, OLDEST_API.1),
            "install Docker 20.10 or later",
        )),
        Ok((version, api)) => findings.push(fine("docker", format!("Docker {version} answers (API {api})"))),
    }
    match &facts.compose {
        Ok(()) => findings.push(fine("docker", "a compose tool is installed")),
        Err(why) => findings.push(found(
            "docker",
            Level::Broken,
            why.clone(),
            "containers can't be created or recreated without it",
            "apt-get install docker-compose (or docker-compose-plugin); or name it in config-follower.json: docker.compose",
        )),
    }
    if facts.version.is_ok() {
        findings.extend(containers(&facts.project, &facts.containers));
    }
    findings.extend(mounts::judge(&mounts::gather(&facts.containers)));
    findings
}

fn unreached(host: &str) -> String {
    match host.strip_prefix("unix://") {
        Some(socket) => {
            format!("ls -l {socket}; systemctl start docker; or say where it is in config-follower.json: docker.host")
        }
        None => "see docker.host in config-follower.json; is it listening there, and is a firewall between?".to_owned(),
    }
}

fn is_new_enough(api: &str) -> bool {
    let number = |part: Option<&str>| part.and_then(|part| part.parse().ok()).unwrap_or(0);
    let mut parts = api.split('.');
    (number(parts.next()), number(parts.next())) >= OLDEST_API
}

fn containers(project: &str, containers: &[Container]) -> Vec<Finding> {
    let bad = containers.iter().filter(|container| {
        matches!(container.state.as_str(), "restarting" | "dead") || container.health == "unhealthy"
    });
    let mut findings: Vec<Finding> = bad
        .map(|container| {
            let word = if container.health == "unhealthy" { &container.health } else { &container.state };
            found(
                "docker",
                Level::Broken,
                format!("container {} is {word}", container.name),
                "its service doesn't serve",
                format!("lockstep logs {}", container.service),
            )
        })
        .collect();
    if findings.is_empty() {
        let running = containers.iter().filter(|container| container.state == "running").count();
        findings.push(fine("docker", format!("project {project}: {running} of {} containers run", containers.len())));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(version: Result<(&str, &str), &str>, compose: Result<(), &str>) -> Facts {
        let container: Container =
            serde_json::from_str(r#"{"service":"app","name":"app-1","state":"restarting","health":"none"}"#).unwrap();
        Facts {
            host: "unix:///var/run/docker.sock".into(),
            project: "pryv".into(),
            version: version.map(|(one, two)| (one.into(), two.into())).map_err(Into::into),
            containers: vec![container],
            compose: compose.map_err(Into::into),
        }
    }

    #[test]
    fn an_engine_is_there_and_new_enough() {
        let levels = |facts: &Facts| judge(facts).iter().map(|finding| finding.level).collect::<Vec<_>>();
        let well = facts(Ok(("27.0", "1.46")), Ok(()));
        assert_eq!(levels(&well), [Level::Fine, Level::Fine, Level::Broken], "a container restarts over and over");
        assert_eq!(levels(&facts(Ok(("19.03", "1.40")), Ok(())))[0], Level::Broken);
        let none = judge(&facts(Err("no such file"), Err("no compose tool is installed")));
        assert!(none[0].fix.contains("systemctl start docker") && none[1].fix.contains("apt-get"), "{none:?}");
        assert!(is_new_enough("1.100") && !is_new_enough(""));
    }
}
