//! `lockstep notify`: tell the followers again.

use super::show::{Paint, pushes};
use super::{leader_config, print, print_json};
use crate::exit::{Done, Failed};
use crate::socket::Socket;
use lockstep_shared::api::Push;
use std::path::Path;

pub(super) async fn run(root: &Path, services: Vec<String>, json: bool) -> Result<Done, Failed> {
    let config = leader_config(root)?;
    let socket = Socket::needed(&config)?;
    let services = (!services.is_empty()).then_some(services);
    let told: Vec<Push> = socket.post("/admin/notify", &serde_json::json!({"services": services})).await?;
    if json {
        print_json(&told)?;
    } else if told.is_empty() {
        print("no follower has a url in config-leader.json: they follow by their long polls\n")?;
    } else {
        print(&pushes(&told, Paint::new()))?;
    }
    let all = told.iter().all(|push| push.error.is_none());
    Ok(if all { Done::Good } else { Done::NotFollowed })
}
