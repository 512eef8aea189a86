//! `lockstep migrate`: show what becomes of `platform.yml`, ask, write.

use super::ask::ask;
use super::show::{Paint, changes, say_if_unforeseen};
use super::{leader_config, print, print_json, say};
use crate::exit::{Done, Failed, failed};
use crate::socket::{Socket, escaped};
use lockstep_leader::migration::Outcome;
use serde_json::json;
use std::io::IsTerminal as _;
use std::path::Path;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Another release than that of templates/: an earlier one goes back
    #[arg(long, value_name = "RELEASE")]
    to: Option<String>,
    /// Only show what it would do; exit 0 nothing, 2 something
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Don't ask
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(root: &Path, options: Options) -> Result<Done, Failed> {
    let config = leader_config(root)?;
    let socket = Socket::or_files(config)?;
    let to = options.to.as_deref();
    let query = to.map(|to| format!("?to={}", escaped(to))).unwrap_or_default();
    let planned: Outcome = socket.get(&format!("/admin/migration{query}")).await?;
    let Some(migrated) = &planned.migrated else {
        if options.json {
            print_json(&planned)?;
        } else {
            say(&format!("nothing to migrate: platform.yml fits release {}", to.unwrap_or(&planned.release)));
        }
        return Ok(Done::Good);
    };
    let paint = Paint::new();
    if !options.json {
        print(&format!("platform.yml: release {} -> {}\n", migrated.from, migrated.to))?;
        for line in &migrated.done {
            print(&format!("  {line}\n"))?;
        }
        let diff = migrated.diff.lines().filter(|line| !line.starts_with("---") && !line.starts_with("+++"));
        print(&diff.map(|line| format!("{}\n", paint.diff_line(line))).collect::<String>())?;
        for fault in &planned.faults {
            say(&fault.to_string());
        }
        match &planned.plan {
            Some(plan) if plan.changes.is_empty() => print("then publishing changes no machine's files\n")?,
            Some(plan) => {
                print(&format!("then publishing changes:\n{}", changes(&plan.changes, paint)))?;
                say_if_unforeseen(&plan.changes);
            }
            None if !planned.faults.is_empty() => {}
            None => say(&format!("what publishing changes then, the templates of {} will say", migrated.to)),
        }
    }
    if planned.stopped {
        if options.json {
            print_json(&planned)?;
        }
        return Err(failed(
            "nothing was written: these values don't fit the release; correct them in platform.yml, then lockstep migrate again",
        ));
    }
    if options.dry_run {
        if options.json {
            print_json(&planned)?;
        }
        return Ok(Done::Different);
    }
    if !options.yes && !agreed(to)? {
        return Err(failed("nothing was written"));
    }
    let seen = Some(planned.platform.as_str());
    let done: Outcome = socket.post("/admin/migration", &json!({"to": to, "seen": seen})).await?;
    if options.json {
        print_json(&done)?;
        return Ok(Done::Good);
    }
    print("platform.yml is migrated\n")?;
    say(if done.plan.is_some() {
        "not published yet: lockstep publish"
    } else if done.faults.is_empty() {
        "now put the templates of that release in place, then lockstep plan"
    } else {
        "publishing needs what is said above first: then lockstep plan"
    });
    Ok(Done::Good)
}

fn agreed(to: Option<&str>) -> Result<bool, Failed> {
    if !std::io::stdin().is_terminal() {
        let to = to.map(|to| format!(" --to {to}")).unwrap_or_default();
        return Err(failed(format!(
            "there is no terminal to ask on, and nothing was written: lockstep migrate{to} --yes"
        )));
    }
    ask("write this to platform.yml")
}
