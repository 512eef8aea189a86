//! This machine follows as well: it joins like any other, over the network.
//! Where no leader runs yet, one does for that moment.

use super::super::{environment, leader_config};
use crate::exit::{Failed, failed};
use crate::joining::{Follower, Listen, Wish, plan};
use crate::socket::Socket;
use lockstep_leader::config::Config;
use lockstep_leader::founding::{Here, Site};
use lockstep_leader::http::MadeToken;
use lockstep_shared::Name;
use lockstep_shared::join::JoinToken;
use serde_json::json;
use std::path::Path;
use tokio::sync::{oneshot, watch};

/// Where the token is kept until it was used: who is killed goes on with the same.
const TOKEN: &str = "here.token";

/// Joins, unless it has. Refuses what another platform's machine has left.
pub(super) fn join(root: &Path, site: &Site, here: &Here) -> Result<Follower, Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let config = leader_config(root)?;
        if Socket::find(&config)?.is_some() {
            return with_leader(root, config, site, here).await;
        }
        let (stop, stopped) = watch::channel(false);
        let (told, ready) = oneshot::channel();
        let leader = lockstep_leader::run(root, environment(), stopped, move |_, _| {
            let _ = told.send(());
        });
        tokio::pin!(leader);
        let joined = tokio::select! {
            ended = &mut leader => {
                ended?;
                return Err(failed("the leader ended before this machine could join: run the same command again"));
            }
            joined = async {
                let _ = ready.await;
                with_leader(root, config, site, here).await
            } => joined,
        };
        let _ = stop.send(true);
        leader.await?;
        joined
    })
}

/// The same, while the leader runs.
async fn with_leader(root: &Path, config: Config, site: &Site, here: &Here) -> Result<Follower, Failed> {
    let name = |text: &str| Name::new(text.to_owned()).map_err(|bad| failed(bad.to_string()));
    let token = if let Some(token) = site.kept(TOKEN)? {
        token
    } else {
        let wanted = json!({"role": here.role, "name": here.name});
        let made: MadeToken = Socket::quietly(config)?.post("/admin/tokens", &wanted).await?;
        site.keep(TOKEN, &made.token)?;
        made.token
    };
    let wish = Wish {
        token: JoinToken::parse(&token).map_err(failed)?,
        role: name(&here.role)?,
        name: Some(name(&here.name)?),
        listen: Listen::Usual,
        addresses: Vec::new(),
        data_folder: None,
        docker: here.docker,
    };
    match plan(root, wish)? {
        Ok(plan) => plan.join().await,
        Err(there) => Ok(there),
    }
}
