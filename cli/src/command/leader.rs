//! `lockstep leader`

use crate::exit::{Done, Failed};
use crate::service;
use std::path::Path;

pub(super) fn run(root: &Path) -> Result<Done, Failed> {
    service::log()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = service::stop_signal()?;
        lockstep_leader::run(root, super::environment(), stop, service::ready).await?;
        Ok(Done::Good)
    })
}
