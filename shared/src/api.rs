//! Bodies of the protocol beside the bundle (`docs/protocol.md`).

use crate::rollout::Rollout;
use crate::{Name, SafePath, Sha256};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

/// `POST /notify`, leader to follower.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Notify {
    /// The revision that was published.
    pub revision: u64,
    /// Act on these compose services only, whether or not a file of theirs
    /// changed; what others are owed is kept for the next notification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<Vec<String>>,
    /// Where the leader is reached, for a follower that was told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<Vec<String>>,
}

/// The `202` to a [`Notify`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotifyAccepted {
    /// The apply that will see to it; several notifications may share one.
    pub apply: String,
}

/// `POST /status`, follower to leader; also `GET /status` on the follower.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The follower's version.
    pub version: String,
    /// What the follower is doing.
    pub state: State,
    /// The last bundle that was written, acted on and proven.
    pub running: Option<Running>,
    /// The last apply, finished or not.
    pub apply: Option<Apply>,
    /// The last apply that changed something or failed: what was done, while
    /// `apply` may be one that found nothing left to do.
    #[serde(default)]
    pub last_change: Option<Apply>,
    /// The project's containers, as Docker says; empty without an engine.
    pub containers: Vec<Container>,
    /// Whether the machine has an engine at all (`"docker": null`).
    pub engine: bool,
    /// Where files are written, as the engine sees it.
    #[serde(default)]
    pub data_folder: Option<String>,
    /// When the leader last answered, Unix seconds; `None` before the first time.
    pub leader_seen: Option<i64>,
    /// The bundle that failed here last and was taken back, for as long as it
    /// is the one that the leader offers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailedBundle>,
    /// While the leader doesn't answer; only on the machine itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alone: Option<Alone>,
    /// Files that are not as they were written, by path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<Drift>,
    /// What this machine's own clock says as the report leaves, Unix seconds:
    /// also where requests are signed with the leader's time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<i64>,
    /// What it trusts and shows, for TLS; left out by a follower that knows of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<Trust>,
}

/// What a follower trusts, and what it shows itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Trust {
    /// The authorities that it pins: SHA-256 of each one's `SubjectPublicKeyInfo`.
    /// Empty where it pins none: it speaks plain HTTP, or goes by the system's authorities.
    #[serde(default)]
    pub authorities: Vec<Sha256>,
    /// The authority that its own certificate is of, where it shows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Sha256>,
    /// The last second of its own certificate, Unix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_ends: Option<i64>,
    /// The digest ([`addresses_digest`]) of the leader's addresses that it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Sha256>,
}

/// The digest of a leader's addresses: SHA-256 over them, each followed by a newline.
pub fn addresses_digest(addresses: &[String]) -> Sha256 {
    Sha256::of(addresses.iter().map(|address| format!("{address}\n")).collect::<String>().as_bytes())
}

/// The `200` to a [`Status`] whose follower lacks something; otherwise it is a `204`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusAnswer {
    /// What it lacks.
    #[serde(default)]
    pub told: Told,
}

/// What a leader tells a follower that doesn't have it; what is left out stays as it is.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Told {
    /// The key to sign with from now on, 43 characters of base64url: never in
    /// the clear, and only until the follower has signed with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub key: Option<Zeroizing<String>>,
    /// The authorities to pin instead of those it pins, PEM, what issues first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<Vec<String>>,
    /// Where the leader is reached, in the order to try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<String>>,
}

/// Shows that there is a key, not which.
impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key, authorities, addresses } = self;
        let key = key.as_ref().map(|_| "hidden");
        write!(f, "Told {{ key: {key:?}, authorities: {authorities:?}, addresses: {addresses:?} }}")
    }
}

/// `POST /certificate`, follower to leader: its own certificate, or the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateRequest {
    /// PKCS#10 (RFC 2986) as PEM. Only its key counts.
    pub csr: String,
}

/// The answer to a [`CertificateRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IssuedCertificate {
    /// The certificate and its authority, PEM.
    pub certificate: String,
    /// Everything that is to be trusted, PEM, what issues first.
    pub authorities: Vec<String>,
}

/// A follower whose leader doesn't answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Alone {
    /// For how many seconds.
    pub seconds: u64,
    /// The same for people, and what runs meanwhile.
    pub words: String,
}

/// A bundle that was applied, failed, and was answered by an undo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailedBundle {
    /// The revision it came with.
    pub revision: u64,
    /// Its digest: the follower doesn't try it again by itself.
    pub digest: Sha256,
    /// When it failed, Unix seconds.
    pub since: i64,
    /// What failed: each service with its container's exit code and last words.
    pub why: String,
    /// How the undo ended.
    pub undo: Undo,
    /// What a person has to do, where the undo failed too; what it waits for, where it is pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// How an undo ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Undo {
    /// It is under way, or waits for what it needs: the engine, room on the disk.
    Pending,
    /// The last good bundle is back, acted on and proven.
    Done,
    /// It failed too: the machine waits for a person, and nothing is restarted by itself.
    Failed,
    /// There is no last good bundle: this was the machine's first.
    Nothing,
}

/// A file that somebody else changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Drift {
    /// The file.
    pub path: SafePath,
    /// What is different: `changed`, `removed`, `mode`, `owner`, `replaced by a folder`, ...
    pub what: String,
    /// When it was first seen, Unix seconds.
    pub since: i64,
    /// Whether it was, or is about to be, written again; otherwise it is left as it is.
    pub repaired: bool,
    /// What differs, line by line, without any secret; empty where that can't be shown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub diff: String,
    /// What stands in its place; only on the way from the follower to the leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Found>,
}

/// What a follower found in the place of a file. It may hold secrets: the
/// leader, which knows them all, makes the diff of it at once and drops it. No
/// other route, log or file ever has it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Found {
    /// All of its text.
    pub text: String,
    /// The hash of what was written there.
    pub instead_of: Sha256,
}

/// Shows how much it is, not what.
impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Found({} bytes instead of {})", self.text.len(), self.instead_of)
    }
}

/// `POST /lease`, follower to leader, held for up to a minute: may this
/// machine restart containers now? Asked after the checks and before anything
/// is changed, when an apply will restart, recreate or create containers, and
/// the leader's bundles say `"restarts": "leased"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeaseRequest {
    /// The apply that asks; it holds the lease until its end is reported.
    pub apply: String,
    /// The revision it applies.
    pub revision: u64,
    /// Its digest.
    pub digest: Sha256,
    /// The services it will restart.
    pub services: Vec<String>,
}

/// The answer to a [`LeaseRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lease {
    /// Whether it may.
    pub verdict: Verdict,
    /// Why not, for people: `core-2 restarts first`, `stopped: core-1 failed`, ...
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// For how many seconds the lease holds, or after how many to ask again.
    #[serde(default)]
    pub seconds: u64,
}

/// What a [`Lease`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Act now.
    Granted,
    /// Ask again: others come first.
    Wait,
    /// Don't: this bundle's rollout was stopped; drop the apply, nothing is changed.
    Stopped,
}

/// What a follower is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing was applied yet.
    #[default]
    New,
    /// An apply is under way.
    Applying,
    /// The last apply was proven.
    Applied,
    /// The last apply failed; `apply.error` says why.
    Failed,
}

/// A proven bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Running {
    /// The revision it came with.
    pub revision: u64,
    /// Its digest.
    pub digest: Sha256,
    /// When it was proven, Unix seconds.
    pub since: i64,
}

/// One apply, from pull to proof.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Apply {
    /// Its name, as `POST /notify` answered it.
    pub id: String,
    /// The revision it applies; 0 while that isn't known.
    pub revision: u64,
    /// The bundle's digest, once it is known.
    pub digest: Option<Sha256>,
    /// Files written and removed.
    pub files: Vec<FileChange>,
    /// What was done to containers, in order.
    pub actions: Vec<Action>,
    /// Services that were left alone, each with the reason.
    pub left_alone: Vec<LeftAlone>,
    /// What an operator should know, though nothing failed.
    pub notes: Vec<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// Whether the bundle was refused before anything was changed: a check said no, or there is no way to apply it.
    #[serde(default)]
    pub refused: bool,
    /// Milliseconds for each step that was reached, in order.
    pub took_ms: Vec<(String, f64)>,
}

/// A file that an apply changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileChange {
    /// The file.
    pub path: SafePath,
    /// What happened to it.
    pub change: Change,
}

/// What an apply did to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It is new.
    Added,
    /// Its bytes, mode or owner changed.
    Changed,
    /// It is gone.
    Removed,
}

/// What was done to one container or service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Action {
    /// The compose service.
    pub service: String,
    /// The container's name, where there is one already.
    pub container: Option<String>,
    /// `none`, `signal:HUP`, `exec:[..]`, `restart`, `recreate`, `create`, `remove`, or `fill` of a volume.
    pub verb: String,
    /// The files that made it necessary, or another reason.
    pub why: String,
    /// How it ended.
    pub outcome: Outcome,
    /// How the effect was seen, or the error with the container's last words.
    pub detail: String,
    /// Milliseconds from the engine call to the proof.
    pub took_ms: f64,
}

/// How an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Not done yet.
    Pending,
    /// Done, and its effect was seen.
    Proven,
    /// Not done, or its effect was not seen.
    Failed,
}

/// A service that an apply didn't touch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeftAlone {
    /// The compose service.
    pub service: String,
    /// Why: no changed file under its mounts, stopped on purpose, ...
    pub why: String,
}

/// One container of the project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Container {
    /// The compose service.
    pub service: String,
    /// The container's name.
    pub name: String,
    /// Docker's word: `running`, `exited`, `restarting`, ...
    pub state: String,
    /// Docker's word: `none`, `starting`, `healthy`, `unhealthy`.
    pub health: String,
    /// What is mounted into it.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// The services it depends on, as Compose noted them.
    #[serde(default)]
    pub depends_on: Vec<String>,
    /// Whether lockstep created it, and so removes it when its service leaves the compose file.
    #[serde(default)]
    pub ours: bool,
}

/// One mount of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Mount {
    /// Docker's word: `bind`, `volume`, `tmpfs`, ...; empty from a follower of an older version.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// The host path of a bind mount, or of a volume that is bound to a folder
    /// of the host; `None` for other volumes and the like.
    pub source: Option<String>,
    /// A volume's name in Docker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The same without the project's prefix, as the compose file has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// Where it is in the container.
    pub destination: String,
    /// Whether the container may not write there.
    #[serde(default)]
    pub read_only: bool,
}

/// One machine as the leader knows it (`lockstep status --json`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Machine {
    /// Its name.
    pub name: Name,
    /// Its role.
    pub role: Name,
    /// The digest of what it is served.
    pub wanted: Sha256,
    /// The revision that this came with: an earlier one than the published where its turn hasn't come, or after a return.
    #[serde(default)]
    pub offered: u64,
    /// Where the leader pushes to, if anywhere.
    pub url: Option<String>,
    /// When it last reported, Unix seconds.
    pub seen: Option<i64>,
    /// By how many seconds its clock was ahead of the leader's when it last reported; below 0: behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ahead: Option<i64>,
    /// What it last reported.
    pub status: Option<Status>,
}

/// When a certificate ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = CertificateEnding)]
pub struct Ending {
    /// The setting that holds it; of an authority of TLS, its name.
    pub name: String,
    /// Whether it is one of the platform's, for the world; otherwise one between leader and followers.
    pub public: bool,
    /// The machine that has a value of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Its last second, Unix.
    pub ends: i64,
    /// Why those who come would refuse it already, such as a name that it lacks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfit: Vec<String>,
}

/// The fleet as the leader knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Fleet {
    /// The published revision.
    pub revision: u64,
    /// Grows with every report: pass it back to wait for the next.
    pub sequence: u64,
    /// By name.
    pub machines: Vec<Machine>,
    /// How the published revision reaches them.
    #[serde(default)]
    pub rollout: Option<Rollout>,
    /// Certificates that end within 30 days, have ended, or would be refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ending: Vec<Ending>,
    /// Machines that were put out, by name: nothing is rendered for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disabled: Vec<Name>,
}

/// How one push of `POST /notify` went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Push {
    /// The machine.
    pub machine: Name,
    /// The apply it announced; `None` where it was not reached.
    pub apply: Option<String>,
    /// Why it was not reached; it will follow by its long poll.
    pub error: Option<String>,
    /// Milliseconds until its answer.
    pub took_ms: f64,
}
