//! Everything around a follower.

use super::files::{self, Purpose};
use super::ports::{self, Holder};
use super::{Finding, Level, certificates, clock, disk, engine, fine, found, names, service};
use crate::command::environment;
use lockstep_follower::config::{self, Config};
use lockstep_follower::state::StateFolder;
use lockstep_follower::trust::Trusted;
use std::path::Path;
use std::time::Duration;

/// How long the leader may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks at all of it.
pub(crate) async fn examine(root: &Path) -> Vec<Finding> {
    let config = match config::load(root, environment()) {
        Ok(config) => config,
        Err(error) => {
            let file = root.join(config::FILE);
            return vec![found(
                "configuration",
                Level::Broken,
                error.to_string(),
                "the follower doesn't start with it",
                format!("correct {} (docs/files.md)", file.display()),
            )];
        }
    };
    let mut findings = vec![fine("configuration", format!("{} can be used", config::FILE))];
    let runs = StateFolder::is_taken(&config.state_folder);
    let port = ports::Facts {
        whose: "notifications and monitoring",
        key: "http",
        address: config.listen,
        holder: if config.listen.port() == 0 { Holder::Nobody } else { ports::holder(config.listen) },
        runs,
        for_others: false,
    };
    findings.extend(service::judge(&service::gather("follower", runs, port.pid(), 0)));
    findings.extend(ports::judge(&port));
    let host = reqwest::Url::parse(&config.leader_url).ok().and_then(|url| url.host_str().map(str::to_owned));
    findings.extend(
        host.and_then(|host| names::gather(&host, "leader.url", Level::Broken)).map(|facts| names::judge(&facts)),
    );
    let (reached, ahead) = leader(&config).await;
    findings.push(reached);
    findings.extend(clock::judge(&clock::gather(ahead.map(|ahead| (ahead, "the leader's".to_owned())))));
    if let Some(ends) = certificates::ends(&config.state_folder.join("tls.pem")) {
        let own = certificates::Facts {
            whose: "this follower's own certificate".to_owned(),
            ends,
            renews: true,
            fix: "does the leader answer (above), are both clocks right? lockstep logs follower says why it wasn't renewed",
        };
        findings.push(certificates::judge(&own, lockstep_edge::clock::now()));
    }
    let mut ours = vec![files::gather(&config.state_folder, Purpose::Secret)];
    let conf = files::gather_secrets(&root.join("config-follower/conf")).into_iter().skip(1);
    // Certificates are for everybody to see.
    ours.extend(conf.filter(|file| config.ca.as_ref() != Some(&file.path)));
    ours.push(files::gather(&config.data_folder, Purpose::Written));
    findings.extend(files::judge(&ours, None));
    let folders = [config.state_folder.as_path(), config.data_folder.as_path(), Path::new("/var/lib/docker")];
    let docker = usize::from(config.docker.is_some());
    findings.extend(
        folders[..2 + docker].iter().filter_map(|folder| disk::gather(folder)).flat_map(|facts| disk::judge(&facts)),
    );
    match &config.docker {
        Some(docker) => findings.extend(engine::judge(&engine::gather(docker, root).await)),
        None => findings.push(fine("docker", "this machine has no engine (\"docker\": null): files only")),
    }
    findings
}

/// Asks the leader as the follower does, with its key; by how much this clock is ahead of its.
async fn leader(config: &Config) -> (Finding, Option<i64>) {
    let url = &config.leader_url;
    let broken = |what: String, fix: String| {
        found("leader", Level::Broken, what, "this machine gets no change until the leader answers it", fix)
    };
    let client = match Trusted::look(config) {
        Ok(trusted) => trusted.client,
        Err(error) => {
            return (broken(error.to_string(), "correct leader.url in config-follower.json".to_owned()), None);
        }
    };
    match client.send(http::Method::GET, "/conf", &[], None, PATIENCE).await {
        Ok(answer) => {
            let date = answer.headers.get("date").and_then(|date| date.to_str().ok());
            let ahead = date.and_then(moment).map(|theirs| lockstep_edge::clock::now() - theirs);
            let finding = match answer.problem() {
                None => fine("leader", format!("the leader at {url} answers {} as this machine", config.name)),
                Some(problem) => broken(
                    format!("the leader at {url} answers {}: {}", answer.status, problem.detail),
                    format!("on the leader: lockstep followers show {} says whether and how it follows", config.name),
                ),
            };
            (finding, ahead)
        }
        Err(error) => (
            broken(
                error.to_string(),
                "on the leader: lockstep doctor; between: a firewall, DNS, the address in leader.url; the key: leader.key is what config-leader.json has for this name".to_owned(),
            ),
            None,
        ),
    }
}

/// A date of HTTP (RFC 9110, section 5.6.7), in Unix seconds.
fn moment(date: &str) -> Option<i64> {
    let date = jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(date).ok()?;
    Some(date.as_second())
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates_of_http_are_read() {
        assert_eq!(super::moment("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
    }
}
