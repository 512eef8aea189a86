//! How an apply ended, and why it failed.

use crate::check::CheckError;
use crate::compose::ComposeError;
use crate::docker::EngineError;
use crate::lease::LeaseError;
use crate::plan::PlanError;
use crate::pull::PullError;
use crate::store::{StoreError, WriteError};
use lockstep_shared::api::FailedBundle;
use std::collections::BTreeSet;

/// How an apply ended.
#[derive(Debug)]
pub enum Ended {
    /// There was nothing to do.
    Nothing,
    /// The leader stopped it before anything was changed; only another bundle is news.
    Dropped,
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
    /// Containers may not be restarted for it.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The files could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Some actions failed; the files are new, and it is tried again.
    #[error("the files are written, but {}", .0.join("; "))]
    Actions(Vec<String>),
    /// It failed after it was committed, and what ran before runs again.
    #[error("FAILED({failed}), RUNNING({running}): {why}. Revision {running} was put back and is proven")]
    Undone {
        /// The revision that failed.
        failed: u64,
        /// The revision that runs.
        running: u64,
        /// What failed.
        why: String,
    },
    /// It failed, and so far what ran before can't be put back.
    #[error("FAILED({failed}): {why}. {advice}")]
    UndoWaits {
        /// The revision that failed.
        failed: u64,
        /// What failed.
        why: String,
        /// What the undo waits for.
        advice: String,
    },
    /// It failed, and so did what ran before. Nothing more is tried.
    #[error("FAILED({failed}), and going back failed too: {why}. {advice}")]
    UndoFailed {
        /// The revision that failed.
        failed: u64,
        /// What failed.
        why: String,
        /// What a person has to do.
        advice: String,
    },
    /// It failed, and there is nothing to go back to. Nothing more is tried.
    #[error("FAILED({failed}): {why}. {advice}")]
    NothingToUndo {
        /// The revision that failed.
        failed: u64,
        /// What failed.
        why: String,
        /// What a person has to do.
        advice: String,
    },
    /// The leader still offers what failed here before.
    #[error(
        "FAILED({}){}: {}. It is not tried again by itself: publish a correction; lockstep rollout resume tries it once more, or, where its rollout went on, lockstep notify",
        .failed.revision, runs(*.running), .failed.why
    )]
    GivenUp {
        /// What failed.
        failed: FailedBundle,
        /// The revision that runs instead.
        running: Option<u64>,
    },
}

fn runs(revision: Option<u64>) -> String {
    revision.map(|revision| format!(", RUNNING({revision})")).unwrap_or_default()
}

impl ApplyError {
    /// Whether the bundle itself is refused, before anything was changed: another attempt would end the same.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Check(CheckError::Refused { .. } | CheckError::Unseen { .. }) | Self::Plan(_))
    }

    /// Whether what follows from it is written down already; otherwise what was
    /// asked for has to be asked for again.
    pub fn is_settled(&self) -> bool {
        matches!(
            self,
            Self::Actions(_)
                | Self::Undone { .. }
                | Self::UndoWaits { .. }
                | Self::UndoFailed { .. }
                | Self::NothingToUndo { .. }
                | Self::GivenUp { .. }
                | Self::Lease(LeaseError::Stopped(_))
        )
    }
}
