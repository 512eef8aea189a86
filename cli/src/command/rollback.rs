//! `lockstep rollback`: publish an old revision's content again.

use super::ask::ask;
use super::follow::{Published, follow};
use super::lookback::{line, look, target};
use super::show::{Paint, changes, pushes, say_if_unforeseen};
use super::{author, counted, diff, environment, leader_config, print, print_json, say};
use crate::exit::{Done, Failed, failed};
use crate::socket::Socket;
use lockstep_leader::history::Shown;
use lockstep_leader::press::Press;
use lockstep_leader::rollback::{Request, Rollback};
use lockstep_leader::rollout::Launch;
use lockstep_leader::source::PLATFORM;
use std::io::IsTerminal as _;
use std::path::Path;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The revision whose content is wanted
    #[arg(value_name = "REV", value_parser = super::revision_number)]
    to: u64,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    message: String,
    /// Put that revision's platform.yml back on disk too; what is there is kept beside it
    #[arg(long)]
    with_platform: bool,
    #[command(flatten)]
    going: super::Going,
    #[command(flatten)]
    following: super::Following,
    /// Don't ask
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(root: &Path, options: Options) -> Result<Done, Failed> {
    let config = leader_config(root)?;
    let to = options.to;
    let socket = Socket::find(&config)?;
    let mut press = match &socket {
        Some(_) => None,
        None => Some(Press::open(config, environment())?),
    };
    let planned: Rollback = match (&socket, &press) {
        (Some(socket), _) => socket.get(&target("/admin/rollback", &[("to", Some(to.to_string()))])?).await?,
        (None, Some(press)) => press.rollback_plan(to, None)?,
        (None, None) => return Err(failed("neither a leader nor its store is there")),
    };
    if !options.json {
        preview(root, &planned).await?;
    }
    let on_disk = options.with_platform && planned.disk.iter().any(|name| name == PLATFORM);
    if (planned.new || on_disk) && !options.yes && !agreed(&planned, on_disk)? {
        return Err(failed("nothing was published"));
    }
    let request = Request {
        to,
        from: Some(planned.revision),
        author: author(),
        message: options.message,
        with_platform: options.with_platform,
        launch: Launch { wish: options.going.wish()?, standing: None },
    };
    let done: Rollback = match (&socket, &mut press) {
        (Some(socket), _) => {
            let body = serde_json::json!({
                "to": to, "from": request.from, "message": request.message, "with_platform": request.with_platform,
                "rollout": request.launch.wish,
            });
            socket.post("/admin/rollback", &body).await?
        }
        (None, Some(press)) => {
            let rollback = |press: &mut Press| Ok(press.rollback(&request, None)?.1);
            super::recorded(press, "rollback", rollback, Rollback::noted)?
        }
        (None, None) => return Err(failed("neither a leader nor its store is there")),
    };
    if options.json {
        print_json(&done)?;
    } else {
        report(&done)?;
    }
    if socket.is_none() && done.new {
        say("no leader is running: it serves this revision once it starts, and nobody was notified (lockstep leader)");
    }
    let followed = match &socket {
        Some(socket) => {
            let published =
                Published { revision: done.revision, new: done.new, waves: done.waves, changes: &done.changes };
            follow(socket, &published, &options.following, options.json, Paint::new()).await?
        }
        None => Done::Good,
    };
    match done.platform_error {
        Some(error) => Err(failed(format!(
            "{error}; revision {} is published all the same: lockstep show {to} --file {PLATFORM} prints the file",
            done.revision
        ))),
        None => Ok(followed),
    }
}

async fn preview(root: &Path, planned: &Rollback) -> Result<(), Failed> {
    if !planned.new {
        return Ok(());
    }
    let to = planned.to;
    let shown: Shown = look(root, &format!("/admin/revisions/{to}"), &[], |history| history.show(to)).await?;
    let paint = Paint::new();
    let mut out = format!("from revision {} back to the content of {}\n", planned.revision, line(&shown.revision));
    let platform: Vec<_> = planned.source.iter().filter(|change| change.file == PLATFORM).cloned().collect();
    out += &diff::sources(&platform, paint);
    let templates = planned.source.len() - platform.len();
    if templates > 0 {
        out += &format!("  {templates} files of the release differ (lockstep diff {} {to})\n", planned.revision);
    }
    out += &changes(&planned.changes, paint);
    for other in &planned.otherwise {
        out += &format!("{} {}\n", other.machine, other.why);
    }
    print(&out)?;
    say_if_unforeseen(&planned.changes);
    Ok(())
}

/// Asks. Going back is never what a script does by the way.
fn agreed(planned: &Rollback, on_disk: bool) -> Result<bool, Failed> {
    if !std::io::stdin().is_terminal() {
        return Err(failed(format!(
            "rollback asks before it publishes, and there is no terminal: lockstep rollback {} --yes",
            planned.to
        )));
    }
    let what = match (planned.new, on_disk) {
        (true, true) => "publish this, and replace platform.yml on disk",
        (true, false) => "publish this",
        _ => "replace platform.yml on disk",
    };
    ask(what)
}

fn report(done: &Rollback) -> Result<(), Failed> {
    if done.new {
        let paint = Paint::new();
        print(&format!(
            "published revision {} with the content of revision {}\n{}",
            done.revision,
            done.to,
            pushes(&done.pushes, paint)
        ))?;
    } else {
        say(&format!("nothing to publish: revision {} has the content of revision {}", done.revision, done.to));
    }
    if let Some(kept) = &done.kept {
        say(&format!("platform.yml on disk is that of revision {} again; what was there is kept as {kept}", done.to));
    }
    if let Some(hint) = edits(done.to, &done.disk) {
        say(&hint);
    }
    Ok(())
}

/// That an edit still lies on disk, and what can be done about it.
pub(super) fn edits(to: u64, files: &[String]) -> Option<String> {
    let platform = files.iter().any(|name| name == PLATFORM);
    let templates = files.len() - usize::from(platform);
    let count = counted(templates, "file");
    let what = match (platform, templates) {
        (false, 0) => return None,
        (true, 0) => "platform.yml".to_owned(),
        (false, _) => format!("templates/ ({count})"),
        (true, _) => format!("platform.yml and templates/ ({count})"),
    };
    let differ = if platform && templates > 0 { "differ" } else { "differs" };
    let mut text = format!(
        "on disk, {what} still {differ} from revision {to}: the next lockstep publish brings that back (lockstep plan shows it)"
    );
    if platform {
        text += &format!("; lockstep rollback {to} --with-platform puts platform.yml back too");
    }
    if templates > 0 {
        text += &format!("; lockstep show {to} --source DIR writes the templates as they were");
    }
    Some(text)
}
