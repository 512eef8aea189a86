//! The steps of an apply by their names: in logs, in `docs/faults.md`, and as
//! the places where tests strike. A release has no trace of the latter.

/// A step of an apply, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Asking the leader. Nothing is changed up to the commit.
    Fetch,
    /// Looking at disk and containers, and deciding.
    Plan,
    /// The role's checks, on a copy.
    Check,
    /// The leader's permission to restart.
    Lease,
    /// Putting a new file beside its place: once for each.
    Stage,
    /// Writing the journal: its bytes are with the kernel, and not yet on the disk.
    Commit,
    /// Renaming a new file, or removing one: once for each.
    Swap,
    /// Doing something to a container: once for each.
    Act,
    /// Looking at it again: once for each.
    Prove,
    /// Telling how it ended.
    Report,
    /// Later: files durable in their own places, the good bundle kept, the journal blanked.
    Checkpoint,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Fetch,
        Self::Plan,
        Self::Check,
        Self::Lease,
        Self::Stage,
        Self::Commit,
        Self::Swap,
        Self::Act,
        Self::Prove,
        Self::Report,
        Self::Checkpoint,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Plan => "plan",
            Self::Check => "check",
            Self::Lease => "lease",
            Self::Stage => "stage",
            Self::Commit => "commit",
            Self::Swap => "swap",
            Self::Act => "act",
            Self::Prove => "prove",
            Self::Report => "report",
            Self::Checkpoint => "checkpoint",
        }
    }

    /// The step begins.
    #[cfg(not(feature = "failpoints"))]
    #[inline(always)]
    #[allow(clippy::inline_always, clippy::unused_self, reason = "nothing of it may be left")]
    pub(crate) fn begins(self) {}

    /// The step begins, and the environment may say what strikes now:
    /// `FAILPOINTS="swap=2*off->return(kill)"` kills at the third file.
    /// `return(hold /run/here)` makes that file and goes on once it is gone, for
    /// whoever prepares another fault at that very moment.
    #[cfg(feature = "failpoints")]
    pub(crate) fn begins(self) {
        fail::fail_point!(self.name(), |what| strike(self, what.as_deref().unwrap_or_default()));
    }
}

#[cfg(feature = "failpoints")]
fn strike(step: Step, what: &str) {
    use rustix::process::{Signal, getpid, kill_process};
    tracing::warn!("struck at {}: {what}", step.name());
    match (what, what.strip_prefix("hold ")) {
        ("kill", _) => {
            let _ = kill_process(getpid(), Signal::KILL);
        }
        (_, Some(path)) => {
            let _ = std::fs::File::create(path);
            while std::fs::exists(path).is_ok_and(|stands| stands) {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
        _ => tracing::error!("FAILPOINTS: {what:?} is neither kill nor hold FILE"),
    }
}

/// What `FAILPOINTS` says strikes for as long as this is kept. In a release it
/// is nothing.
pub(crate) struct Armed {
    #[cfg(feature = "failpoints")]
    _scenario: fail::FailScenario<'static>,
}

impl Armed {
    /// Reads the environment.
    pub(crate) fn from_environment() -> Self {
        Self {
            #[cfg(feature = "failpoints")]
            _scenario: fail::FailScenario::setup(),
        }
    }
}
