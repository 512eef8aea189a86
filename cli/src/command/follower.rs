//! `lockstep follower`

use crate::exit::{Done, Failed};
use crate::service;
use std::path::Path;

pub(super) fn run(root: &Path) -> Result<Done, Failed> {
    service::log()?;
    // One thread, and two more for the disk and name look-ups: a follower is idle most of its life and should be small.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?;
    runtime.block_on(async {
        let mut stop = service::stop_signal()?;
        let shutdown = async move { lockstep_edge::server::stopped(&mut stop).await };
        lockstep_follower::run(root.to_owned(), service::ready, shutdown).await?;
        Ok(Done::Good)
    })
}
