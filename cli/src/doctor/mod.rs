//! What could be wrong around a leader or a follower, on the machine it runs
//! on. Each file is a subject: it gathers facts, and judges them by a pure
//! function; every finding says what is so, why it matters, and what to type.
//!
//! | file | looks at |
//! |---|---|
//! | `files.rs` | owners and modes of what is lockstep's own |
//! | `disk.rs` | room, inodes, file systems that can't be written |
//! | `ports.rs` | who listens where |
//! | `names.rs` | names that have to resolve |
//! | `certificates.rs` | when certificates end |
//! | `clock.rs` | this machine's time |
//! | `service.rs` | whether it runs, now and after a reboot; how many files it may open |
//! | `engine.rs`, `mounts.rs` | Docker, Compose, and mounts that will surprise |
//! | `store.rs` | the store, and backups of it |
//! | `fleet.rs` | what the leader knows of its followers |
//! | `leader.rs`, `follower.rs` | all of it for one side |

mod certificates;
mod clock;
mod disk;
mod engine;
mod files;
mod fleet;
mod follower;
mod leader;
mod mounts;
mod names;
mod ports;
mod service;
mod store;

pub(crate) use follower::examine as follower;
pub(crate) use leader::examine as leader;

use serde::Serialize;

/// How bad a finding is; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Something doesn't work.
    Broken,
    /// It works, and may stop working.
    Warning,
    /// Worth knowing.
    Note,
    /// As it should be.
    Fine,
}

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// The subject: `disk`, `ports`, ...
    pub(crate) check: &'static str,
    /// How bad it is.
    pub(crate) level: Level,
    /// What is so.
    pub(crate) what: String,
    /// Why it matters; empty where all is well.
    pub(crate) why: String,
    /// What to type, or to do; empty where all is well.
    pub(crate) fix: String,
}

/// As it should be.
fn fine(check: &'static str, what: impl Into<String>) -> Finding {
    Finding { check, level: Level::Fine, what: what.into(), why: String::new(), fix: String::new() }
}

/// Not as it should be.
fn found(
    check: &'static str,
    level: Level,
    what: impl Into<String>,
    why: impl Into<String>,
    fix: impl Into<String>,
) -> Finding {
    Finding { check, level, what: what.into(), why: why.into(), fix: fix.into() }
}

/// A program's standard output, where it is installed and ends well.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output =
        std::process::Command::new(program).args(arguments).stdin(std::process::Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
