//! `lockstep status`: one screen.

use super::show::{self, Paint};
use super::{disk, leader_config, print, print_json};
use crate::exit::{Done, Failed};
use crate::socket::Socket;
use lockstep_leader::certificates::ends::told;
use lockstep_shared::api::Fleet;
use std::path::Path;

pub(super) async fn run(root: &Path, json: bool) -> Result<Done, Failed> {
    let config = leader_config(root)?;
    let socket = Socket::needed(&config)?;
    let fleet: Fleet = socket.get("/admin/fleet").await?;
    if json {
        print_json(&fleet)?;
    } else {
        print(&show::fleet(&fleet, lockstep_edge::clock::now(), Paint::new()))?;
        for ending in &fleet.ending {
            print(&format!("{}\n", told(ending, lockstep_edge::clock::now())))?;
        }
        disk::remind(&config, Some(&socket)).await;
    }
    Ok(Done::Good)
}
