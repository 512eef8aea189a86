//! `lockstep logs`: what the leader or the follower of this machine says, what
//! a service's containers say, and what the leader knows of another machine.

use super::show::{Paint, details};
use super::{environment, leader_config, print, say, trouble, write_out};
use crate::exit::{Done, Failed, failed};
use crate::moment;
use crate::remote::Remote;
use crate::socket::Socket;
use futures_util::{StreamExt as _, stream};
use lockstep_follower::config as follower;
use lockstep_follower::docker::Engine;
use lockstep_follower::docker::asked::Wanted;
use lockstep_shared::Name;
use lockstep_shared::api::Fleet;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// leader, follower, or a compose service [default: what is set up here]
    #[arg(value_name = "WHAT")]
    what: Option<String>,
    /// Of another machine: what its follower reported to the leader
    #[arg(long, value_name = "MACHINE", conflicts_with_all = ["what", "follow"])]
    machine: Option<Name>,
    /// Go on with what is said later
    #[arg(short, long)]
    follow: bool,
    /// So many lines
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    lines: usize,
    /// Only of this time: 1h, 14:03, "2026-11-21 14:03"
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
}

pub(super) async fn run(root: &Path, options: Options) -> Result<Done, Failed> {
    let since = options.since.as_deref().map(moment::since).transpose()?;
    if let Some(machine) = &options.machine {
        return elsewhere(root, machine).await;
    }
    if Remote::asked()?.is_some() {
        return Err(failed(
            "logs are read on their own machine; of a leader elsewhere say --machine MACHINE, for what it knows",
        ));
    }
    let leads = root.join(lockstep_leader::config::FILE).exists() || root.join("platform.yml").exists();
    let follows = root.join(lockstep_follower::CONFIG_FILE).exists();
    match options.what.as_deref() {
        Some("leader") => side(root, "leader", since, &options),
        Some("follower") => side(root, "follower", since, &options),
        Some(service) => containers(root, service, since, &options).await,
        None if leads => side(root, "leader", since, &options),
        None if follows => side(root, "follower", since, &options),
        None => Err(failed(format!(
            "neither a leader nor a follower is set up in {}: name the right home with --root, or a service",
            root.display()
        ))),
    }
}

/// The log of one side: the file that the scripts write, or the journal.
fn side(root: &Path, side: &str, since: Option<i64>, options: &Options) -> Result<Done, Failed> {
    let file = root.join(format!("config-{side}/log/config-{side}.log"));
    let unit = format!("lockstep-{side}");
    if file.exists() && !is_active(&unit) {
        return written(&file, since, options);
    }
    if !Path::new("/run/systemd/system").is_dir() {
        return Err(failed(format!(
            "there is no {} and no journal here: a {side} that was started by hand says all on its own terminal; one in a container: docker logs config-{side}",
            file.display()
        )));
    }
    let mut journal = Command::new("journalctl");
    journal.args(["--unit", &unit, "--no-pager", "--lines", &options.lines.to_string()]);
    if let Some(since) = since {
        journal.arg(format!("--since=@{since}"));
    }
    if options.follow {
        journal.arg("--follow");
    }
    become_it(journal)
}

fn is_active(unit: &str) -> bool {
    let answer = Command::new("systemctl").args(["is-active", "--quiet", unit]).status();
    answer.is_ok_and(|status| status.success())
}

fn written(file: &Path, since: Option<i64>, options: &Options) -> Result<Done, Failed> {
    let bytes = std::fs::read(file)
        .map_err(|error| failed(format!("{}: {error}: read it as the service's user (sudo)", file.display())))?;
    let text = String::from_utf8_lossy(&bytes);
    print(&last(&text, since, options.lines))?;
    if options.follow {
        let mut tail = Command::new("tail");
        tail.args(["--lines=0", "--follow=name", "--retry"]).arg(file);
        return become_it(tail);
    }
    Ok(Done::Good)
}

/// The last lines of a log, of those that began at or after `since`. A line
/// without a time belongs to the one before it.
fn last(text: &str, since: Option<i64>, lines: usize) -> String {
    let mut inside = since.is_none();
    let chosen: Vec<&str> = text
        .lines()
        .filter(|line| {
            let word = match line.strip_prefix("{\"timestamp\":\"") {
                Some(json) => json.split('"').next(),
                None => line.split_whitespace().next(),
            };
            let time = word.and_then(|word| word.parse::<jiff::Timestamp>().ok());
            if let (Some(time), Some(since)) = (time, since) {
                inside = time.as_second() >= since;
            }
            inside
        })
        .collect();
    let from = chosen.len().saturating_sub(lines);
    chosen[from..].iter().map(|line| format!("{line}\n")).collect()
}

/// Goes on as another program, which has this terminal and its signals.
fn become_it(mut program: Command) -> Result<Done, Failed> {
    let error = program.exec();
    Err(failed(format!("{}: {error}: is it installed?", PathBuf::from(program.get_program()).display())))
}

/// What the containers of a service say.
async fn containers(root: &Path, service: &str, since: Option<i64>, options: &Options) -> Result<Done, Failed> {
    if !root.join(lockstep_follower::CONFIG_FILE).exists() {
        return Err(failed(format!(
            "containers run on followers' machines, and {} is none: there, lockstep logs {service}; here, lockstep logs --machine MACHINE",
            root.display()
        )));
    }
    let config = follower::load(root, environment())?;
    let Some(docker) = &config.docker else {
        return Err(failed(
            "this machine has no engine (\"docker\": null): it has no containers; lockstep logs follower",
        ));
    };
    let engine = Engine::new(&docker.host, &docker.project);
    let all = engine.containers().await?;
    let names: Vec<&str> =
        all.iter().filter(|container| container.service == service).map(|container| container.name.as_str()).collect();
    if names.is_empty() {
        let mut known: Vec<&str> = all.iter().map(|container| container.service.as_str()).collect();
        known.sort_unstable();
        known.dedup();
        return Err(failed(format!(
            "project {} has no container of a service {service}: the services are {}; and there are leader and follower",
            docker.project,
            if known.is_empty() { "none yet".to_owned() } else { known.join(", ") }
        )));
    }
    let wanted = Wanted {
        lines: options.lines,
        since: since.and_then(|since| i32::try_from(since).ok()).unwrap_or(0),
        follow: options.follow,
    };
    let mut logs = Vec::new();
    for name in &names {
        logs.push(engine.log(name, wanted).await?.boxed());
    }
    let mut together = stream::select_all(logs);
    while let Some(part) = together.next().await {
        write_out(&part?)?;
    }
    Ok(Done::Good)
}

/// What the leader knows of a machine.
async fn elsewhere(root: &Path, name: &Name) -> Result<Done, Failed> {
    let fleet: Fleet = Socket::needed(&leader_config(root)?)?.get("/admin/fleet").await?;
    let Some(machine) = fleet.machines.iter().find(|machine| machine.name == *name) else {
        let names: Vec<&str> = fleet.machines.iter().map(|machine| machine.name.as_str()).collect();
        return Err(failed(format!("there is no machine {name}: there are {} (lockstep status)", names.join(", "))));
    };
    let paint = Paint::new();
    let mut out = String::new();
    for trouble in trouble::troubles(machine, &fleet, lockstep_edge::clock::now()) {
        out += &format!("{}\n", trouble.what);
    }
    for line in details(machine).into_iter().chain(super::drift::lines(machine, paint)) {
        out += &format!("{line}\n");
    }
    let apply = machine.status.as_ref().and_then(|status| status.apply.as_ref());
    for (step, took) in apply.iter().flat_map(|apply| &apply.took_ms) {
        out += &format!("last apply: {step}, {took:.0} ms\n");
    }
    print(&out)?;
    say(&format!("this is what {name} reported to the leader; its own log, on {name}: lockstep logs follower"));
    Ok(Done::Good)
}

#[cfg(test)]
mod tests {
    use super::last;

    #[test]
    fn the_end_of_a_log_from_a_time_on() {
        let log = "2026-11-21T10:00:00.5Z  INFO one\n2026-11-21T11:00:00Z  WARN two\n  more of two\n2026-11-21T12:00:00Z  INFO three\n";
        assert_eq!(last(log, None, 2), "  more of two\n2026-11-21T12:00:00Z  INFO three\n");
        let eleven = "2026-11-21T11:00:00Z".parse::<jiff::Timestamp>().unwrap().as_second();
        assert_eq!(last(log, Some(eleven), 100).lines().count(), 3);
        assert_eq!(last(log, Some(eleven + 7200), 100), "");
    }
}
