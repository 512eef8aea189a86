//! `lockstep plan`: what publishing would change.

use super::show::{Paint, changes, say_if_unforeseen};
use super::{disk, environment, leader_config, print, print_json, say};
use crate::exit::{Done, Failed};
use crate::socket::Socket;
use lockstep_leader::config::Config;
use lockstep_leader::press::Press;
use lockstep_leader::publication::Publication;
use std::path::Path;

/// What publishing would change now.
pub(super) async fn planned(config: &Config, socket: Option<&Socket>) -> Result<Publication, Failed> {
    match socket {
        Some(socket) => socket.get("/admin/plan").await,
        None => Ok(Press::open(config.clone(), environment())?.plan(None)?),
    }
}

pub(super) async fn run(root: &Path, json: bool) -> Result<Done, Failed> {
    let config = leader_config(root)?;
    let socket = Socket::find(&config)?;
    let publication = planned(&config, socket.as_ref()).await?;
    if !json {
        disk::remind(&config, socket.as_ref()).await;
    }
    if json {
        print_json(&publication)?;
    } else if publication.changes.is_empty() {
        say(&nothing(&publication));
    } else {
        print(&changes(&publication.changes, Paint::new()))?;
        say_if_unforeseen(&publication.changes);
        print(&format!("plan {}: lockstep publish --plan {0} publishes exactly this\n", publication.plan))?;
    }
    if !json {
        warned(&publication.warnings);
    }
    Ok(if publication.changes.is_empty() && !publication.new { Done::Good } else { Done::Different })
}

/// What is not wrong and should be known.
pub(super) fn warned(warnings: &[String]) {
    for warning in warnings {
        say(&format!("note: {warning}"));
    }
}

pub(super) fn nothing(publication: &Publication) -> String {
    if publication.new {
        format!("no machine's files change, but what they are made from differs from revision {}", publication.revision)
    } else {
        format!("nothing changes: revision {} is what is on disk", publication.revision)
    }
}
