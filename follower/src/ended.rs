//! How an apply ended, and why it failed.

use crate::check::CheckError;
use crate::compose::ComposeError;
use crate::docker::EngineError;
use crate::plan::PlanError;
use crate::pull::PullError;
use crate::store::{StoreError, WriteError};
use std::collections::BTreeSet;

/// How an apply ended.
#[derive(Debug)]
pub enum Ended {
    /// There was nothing to do.
    Nothing,
    /// It was written, acted on and proven.
    Proven {
        /// The services that were acted on.
        services: BTreeSet<String>,
        /// Its revision.
        revision: u64,
    },
    /// It failed.
    Failed(ApplyError),
}

/// Why an apply failed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// No bundle.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// No plan.
    #[error("nothing was changed: {0}")]
    Plan(#[from] PlanError),
    /// No engine.
    #[error("nothing was changed: {0}")]
    Engine(#[from] EngineError),
    /// A check said no.
    #[error("nothing was changed: {0}")]
    Check(#[from] CheckError),
    /// No compose tool.
    #[error("nothing was changed: {0}")]
    Compose(#[from] ComposeError),
    /// The disk could not be looked at, or the state not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The files could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Some actions failed; the files are new.
    #[error("the files are written, but {}", .0.join("; "))]
    Actions(Vec<String>),
    /// The thread for disk work is gone.
    #[error("the disk work was broken off: {0}")]
    Broken(#[from] tokio::task::JoinError),
}
