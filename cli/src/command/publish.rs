//! `lockstep publish`: show, ask, publish, notify; and wait, if wished.

use super::ask::ask;
use super::follow::{Following, Published, follow};
use super::show::{Paint, alike, changes, pushes, say_if_unforeseen};
use super::{author, environment, leader_config, plan, print, print_json, say};
use crate::exit::{Done, Failed, failed};
use crate::socket::Socket;
use lockstep_leader::press::{Press, Request};
use lockstep_leader::publication::Publication;
use lockstep_leader::rollout::Launch;
use lockstep_leader::rollout::strategy::Wish;
use std::io::IsTerminal as _;
use std::path::Path;

pub(super) struct Options {
    pub(super) message: String,
    pub(super) yes: bool,
    /// Only this plan.
    pub(super) plan: Option<String>,
    /// How it goes out.
    pub(super) wish: Wish,
    /// How far it is followed.
    pub(super) following: Following,
    pub(super) json: bool,
}

pub(super) async fn run(root: &Path, options: Options) -> Result<Done, Failed> {
    let config = leader_config(root)?;
    let paint = Paint::new();
    let Some(socket) = Socket::find(&config)? else {
        let mut press = Press::open(config, environment())?;
        let plan = if options.yes { options.plan.clone() } else { Some(agreed(press.plan(None)?, &options, paint)?) };
        let launch = Launch { wish: options.wish.clone(), standing: None };
        let request = Request { author: author(), message: options.message.clone(), plan, launch };
        let publish = |press: &mut Press| Ok(press.publish(&request)?.1.told(None));
        let publication = super::recorded(&mut press, "publish", publish, Publication::noted)?;
        report(&publication, &options, paint)?;
        if publication.new {
            say(
                "no leader is running: it serves this revision once it starts, and nobody was notified (lockstep leader)",
            );
        }
        return Ok(Done::Good);
    };
    // What is published is what was shown, or nothing; where nobody is asked, it is shown afterwards.
    let plan = if options.yes {
        options.plan.clone()
    } else {
        Some(agreed(socket.get("/admin/plan").await?, &options, paint)?)
    };
    let request = serde_json::json!({"message": options.message, "plan": plan, "rollout": options.wish});
    let publication: Publication = socket.post("/admin/publish", &request).await?;
    report(&publication, &options, paint)?;
    let published = Published {
        revision: publication.revision,
        new: publication.new,
        waves: publication.waves,
        changes: &publication.changes,
    };
    follow(&socket, &published, &options.following, options.json, paint).await
}

/// Says what else goes out when `what` is published: whatever was edited since the last revision. To be asked
/// before `what` is changed. The error says why nothing can be published at all.
pub(super) async fn tell_what_else(root: &Path, what: &str) -> Result<(), Failed> {
    let config = leader_config(root)?;
    let planned = plan::planned(&config, Socket::find(&config)?.as_ref()).await?;
    if let Some(told) = what_else(&planned, what) {
        say(&told);
    }
    Ok(())
}

fn what_else(planned: &Publication, what: &str) -> Option<String> {
    // Before the first revision everything is new.
    if !planned.new || planned.revision == 0 {
        return None;
    }
    let mut told = format!(
        "{what} is not all that goes out: there are edits since revision {} that are not published, and they go with it (lockstep plan shows them)",
        planned.revision
    );
    for same in alike(&planned.changes) {
        let machines: Vec<&str> = same.iter().map(|change| change.machine.as_str()).collect();
        let files: Vec<&str> = same[0].files.iter().map(|file| file.path.as_str()).collect();
        told += &format!(
            "\n  {}: {}",
            machines.join(", "),
            if files.is_empty() { "no file".to_owned() } else { files.join(", ") }
        );
    }
    Some(told)
}

/// Shows what would change and asks; the plan that was agreed to. The error
/// says why nothing is published.
fn agreed(planned: Publication, options: &Options, paint: Paint) -> Result<String, Failed> {
    if let Some(wanted) = options.plan.as_ref().filter(|wanted| **wanted != planned.plan) {
        return Err(failed(format!(
            "nothing was published: plan {wanted} was made of something else than what is on disk and published now (plan {}): look again with lockstep plan",
            planned.plan
        )));
    }
    if !options.json {
        show(&planned, paint)?;
    }
    if !planned.new {
        return Ok(planned.plan);
    }
    if !std::io::stdin().is_terminal() {
        return Err(failed(format!(
            "publish asks before it publishes, and there is no terminal: lockstep publish --yes, or lockstep publish --plan {} --yes for exactly this",
            planned.plan
        )));
    }
    if ask("publish this")? { Ok(planned.plan) } else { Err(failed("nothing was published")) }
}

fn show(publication: &Publication, paint: Paint) -> Result<(), Failed> {
    print(&changes(&publication.changes, paint))?;
    say_if_unforeseen(&publication.changes);
    plan::warned(&publication.warnings);
    if let Some(before) = &publication.before {
        say(before);
    }
    Ok(())
}

fn report(publication: &Publication, options: &Options, paint: Paint) -> Result<(), Failed> {
    if options.json {
        return print_json(publication);
    }
    if options.yes {
        show(publication, paint)?;
    }
    if publication.new {
        let how = if publication.waves { format!(": {}", publication.strategy) } else { String::new() };
        print(&format!("published revision {}{how}\n{}", publication.revision, pushes(&publication.pushes, paint)))
    } else {
        say(&plan::nothing(publication));
        Ok(())
    }
}
