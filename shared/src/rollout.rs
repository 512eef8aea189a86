//! A rollout as people see it: how far a revision has come, machine by machine.

use crate::Name;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a published revision reaches its machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rollout {
    /// The revision.
    pub revision: u64,
    /// Where it stands.
    pub phase: Phase,
    /// Why it stands there, for people; empty while it goes on.
    #[serde(default)]
    pub why: String,
    /// The machine that stopped it.
    #[serde(default)]
    pub stopped_at: Option<Name>,
    /// The revision that the machines that had it are served again; where these differ, the latest of them.
    #[serde(default)]
    pub returned_to: Option<u64>,
    /// How it goes, in words.
    pub strategy: String,
    /// When it began, Unix seconds.
    pub started: i64,
    /// When it ended or stopped, Unix seconds.
    #[serde(default)]
    pub ended: Option<i64>,
    /// Until when it pauses before the next wave, Unix seconds.
    #[serde(default)]
    pub pauses_until: Option<i64>,
    /// The wave whose turn it is, from 1.
    pub wave: usize,
    /// How many waves there are.
    pub waves: usize,
    /// Grows with every change, also over restarts of the leader.
    pub sequence: u64,
    /// The machines that it changes something for, by wave and name.
    pub machines: Vec<Member>,
}

/// Where a rollout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Machines are being offered it.
    Running,
    /// A wave is through; the next one begins after the pause.
    Pausing,
    /// Every machine that was there has it.
    Done,
    /// No further machine gets it; those that have it keep it.
    Stopped,
    /// No machine gets it; those that had it are offered the last good revision again.
    Returned,
    /// A later revision took its place.
    Replaced,
}

impl Phase {
    /// Whether nothing happens any more without a person or a new publication.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Running | Self::Pausing)
    }
}

/// A machine in a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// Its name.
    pub name: Name,
    /// Its role.
    pub role: Name,
    /// Its wave, from 1.
    pub wave: usize,
    /// How far it is.
    pub state: MemberState,
    /// The revision that it is served; 0: none yet.
    pub offered: u64,
    /// Since when it is in this state, Unix seconds.
    pub since: i64,
    /// What there is to say: why it failed, what it waits for.
    #[serde(default)]
    pub why: String,
}

/// How far a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// Its wave hasn't come.
    Waiting,
    /// It may take the revision.
    Offered,
    /// It may, and hasn't been heard from lately.
    Absent,
    /// It is at it.
    Applying,
    /// It waits until it may restart containers.
    Queued,
    /// It restarts containers.
    Restarting,
    /// It runs the revision, proven.
    Done,
    /// It failed.
    Failed,
    /// The rollout stopped before it took the revision.
    Held,
    /// It is offered the last good revision again.
    Returning,
    /// It runs the last good revision again, proven.
    Returned,
}
