//! Going back: the content of an old revision, published again as a new one.
//! Never rendered anew: byte for byte what it was, so that neither a newer
//! template nor a rotated secret slips in.

use crate::config::Config;
use crate::desk::file;
use crate::difference::{self, MachineChange};
use crate::fleet::Heard;
use crate::history::{SourceChange, differing_names, source_changes, unknown_revision};
use crate::leader::{Leader, LeaderError};
use crate::mask::Mask;
use crate::memo::Memo;
use crate::press::Press;
use crate::published::Published;
use crate::release::{self, Release};
use crate::render::Machine;
use crate::rollout::{Fresh, Launch};
use crate::secrets::{Drafts, Secrets, Used};
use crate::source::{PLATFORM, Source};
use crate::store::{Revision, Store};
use lockstep_edge::{clock, durable};
use lockstep_shared::Name;
use lockstep_shared::api::Push;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use utoipa::ToSchema;

/// How often a file that somebody else writes is looked at again.
const TRIES: u32 = 5;

/// What going back needs to know.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The revision whose content is wanted.
    pub to: u64,
    /// Only if this is what is published: what the author was shown.
    pub from: Option<u64>,
    /// Who.
    pub author: String,
    /// Why, in addition to what it goes back to.
    pub message: String,
    /// Put that revision's `platform.yml` on disk too.
    pub with_platform: bool,
    /// How it goes out.
    pub launch: Launch,
}

/// What going back would change, or did.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Rollback {
    /// The revision whose content it is.
    pub to: u64,
    /// The revision that is published now.
    pub revision: u64,
    /// Whether it is new: where nothing differs, nothing is published.
    pub new: bool,
    /// What changes, machine by machine.
    pub changes: Vec<MachineChange>,
    /// What changes in what it is made from.
    pub source: Vec<SourceChange>,
    /// Machines that are not served what they had then, each with the reason.
    pub otherwise: Vec<Otherwise>,
    /// Files on disk that are not those of the revision: the next `publish` would bring them back.
    pub disk: Vec<String>,
    /// Where the `platform.yml` that was replaced on disk is kept.
    pub kept: Option<String>,
    /// Why `platform.yml` was not put back on disk, though it was asked for.
    pub platform_error: Option<String>,
    /// How followers took the news.
    pub pushes: Vec<Push>,
    /// How it goes out, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub strategy: String,
    /// Whether machines get it in waves, not all at once.
    #[serde(default)]
    pub waves: bool,
}

impl Rollback {
    /// What came of it, for the audit.
    pub fn noted(&self) -> String {
        let Self { to, revision, .. } = self;
        match (self.new, &self.kept) {
            (true, None) => format!("revision {revision}, the content of {to}"),
            (true, Some(_)) => format!("revision {revision}, the content of {to}; platform.yml replaced"),
            (false, Some(_)) => format!("nothing to publish; platform.yml of {to} put back"),
            (false, None) => "nothing to publish".to_owned(),
        }
    }
}

/// A machine that is not served what it had then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Otherwise {
    /// The machine.
    pub machine: Name,
    /// Why, and what it gets.
    pub why: String,
}

/// What lies on disk beside what is published.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Disk {
    /// The published revision.
    pub revision: u64,
    /// The revision whose content it published again.
    pub rolled_back_to: Option<u64>,
    /// Files that differ from it.
    pub files: Vec<String>,
    /// Why the files can't be read.
    pub error: Option<String>,
}

struct Back {
    last: Revision,
    old: Source,
    next: Revision,
    secrets: Used,
    otherwise: Vec<Otherwise>,
}

impl Press {
    /// What going back to a revision would change; with what was `heard` of followers, also what that means for containers.
    pub fn rollback_plan(&self, to: u64, heard: Option<&Heard>) -> Result<Rollback, LeaderError> {
        let back = self.back(&Request { to, ..Request::default() })?;
        self.told(&back, heard)
    }

    /// Publishes the content of an old revision as a new one.
    pub fn rollback(
        &mut self,
        request: &Request,
        heard: Option<&Heard>,
    ) -> Result<(Option<Fresh>, Rollback), LeaderError> {
        let strategy = self.strategy(&request.launch)?;
        let back = self.back(request)?;
        if request.from.is_some_and(|from| from != back.last.number) {
            return Err(LeaderError::Conflict(format!(
                "revision {} was published meanwhile by {}: look again (lockstep rollback {})",
                back.last.number, back.last.author, request.to
            )));
        }
        let mut told = self.told(&back, heard)?;
        let fresh = if told.new {
            told.strategy = strategy.to_string();
            told.waves = strategy.has_waves();
            let rollout = self.insert(&back.next, &back.secrets, strategy, &request.launch)?;
            told.revision = back.next.number;
            tracing::info!(revision = told.revision, author = request.author, to = request.to, "rolled back");
            Some(Fresh { published: Published::new(back.next), rollout })
        } else {
            None
        };
        if request.with_platform {
            let wanted = back.old.files.get(PLATFORM).map(|file| file.bytes.clone()).unwrap_or_default();
            // The revision is published whatever becomes of this: it has to be served and told.
            match put_platform(&self.config, &wanted, told.revision) {
                Ok(kept) => {
                    told.kept = kept;
                    told.disk.retain(|name| name != PLATFORM);
                }
                Err(error) => {
                    let what = format!("{} could not be put back: {error}", self.config.platform.display());
                    tracing::error!("{what}");
                    told.platform_error = Some(what);
                }
            }
        }
        Ok((fresh, told))
    }

    fn back(&self, request: &Request) -> Result<Back, LeaderError> {
        let last = self.store.latest()?.ok_or_else(|| unknown_revision(request.to, 0))?;
        let old = self.store.revision(request.to)?.ok_or_else(|| unknown_revision(request.to, last.number))?;
        let declared = release::machines(&self.config);
        let mut bundles = BTreeMap::new();
        let mut otherwise = Vec::new();
        let mut secrets = Used::default();
        for machine in &declared {
            let had = old.bundles.get(&machine.name).filter(|bundle| bundle.role == machine.role);
            if let Some(bundle) = had {
                bundles.insert(machine.name.clone(), bundle.clone());
                continue;
            }
            // Declared since, or with another role: from what that revision was made from.
            let why = if old.bundles.contains_key(&machine.name) { "had another role" } else { "was not declared" };
            let (bundle, what) = match self.rendered(&old, machine, &declared) {
                Ok((bundle, used)) => {
                    secrets.join(used);
                    (Some(bundle), "rendered from that revision's files".to_owned())
                }
                Err(LeaderError::Faults(faults)) => {
                    let stays = last.bundles.get(&machine.name).filter(|bundle| bundle.role == machine.role);
                    if stays.is_none() {
                        return Err(LeaderError::Conflict(format!(
                            "revision {} has nothing for {}, and it can't be rendered from that revision's files:\n{faults}\n\
                             remove {} from config-leader.json, or correct the files and lockstep publish",
                            request.to, machine.name, machine.name
                        )));
                    }
                    (
                        stays.cloned(),
                        format!("it keeps what it has, since that revision's files can't be rendered for it: {faults}"),
                    )
                }
                Err(other) => return Err(other),
            };
            if let Some(bundle) = bundle {
                bundles.insert(machine.name.clone(), bundle);
            }
            otherwise.push(Otherwise { machine: machine.name.clone(), why: format!("{why} then: {what}") });
        }
        for name in old.bundles.keys().filter(|name| declared.iter().all(|machine| machine.name != **name)) {
            let why = "is no longer declared in config-leader.json: nothing is published for it".to_owned();
            otherwise.push(Otherwise { machine: name.clone(), why });
        }
        let mut message = format!("rollback to revision {}", request.to);
        if !request.message.is_empty() {
            message = format!("{message}: {}", request.message);
        }
        let next = Revision {
            number: last.number + 1,
            created: clock::now(),
            author: request.author.clone(),
            message,
            release: old.release,
            rolled_back_to: Some(request.to),
            source: old.source.clone(),
            bundles,
        };
        Ok(Back { last, old: old.source, next, secrets, otherwise })
    }

    /// One machine from an old revision's files, which may name machines that are gone.
    fn rendered(
        &self,
        old: &Revision,
        machine: &Machine,
        declared: &[Machine],
    ) -> Result<(Arc<lockstep_shared::Bundle>, Used), LeaderError> {
        let mut known = declared.to_vec();
        // Only those whose role that release has: the others are not asked for here.
        known.retain(|other| other.name == machine.name || old.bundles.contains_key(&other.name));
        for (name, bundle) in old.bundles.iter().filter(|(name, _)| declared.iter().all(|known| known.name != **name)) {
            known.push(Machine { name: name.clone(), role: bundle.role.clone(), addresses: Vec::new(), url: None });
        }
        let mut memo = Memo::default();
        let release = Release::compile(&old.source, &known, &mut memo).as_published();
        let mut secrets = Secrets::new(self.env.iter().cloned(), Some(&self.store), Drafts::Ignored);
        let number = self.store.last_number()? + 1;
        let bundles = release.render(std::slice::from_ref(machine), declared, &mut secrets, number, &mut memo)?;
        let bundle = bundles.into_values().next().ok_or_else(|| {
            LeaderError::Conflict(format!("{} has a role that revision {} doesn't know", machine.name, old.number))
        })?;
        Ok((bundle, secrets.used()))
    }

    fn told(&self, back: &Back, heard: Option<&Heard>) -> Result<Rollback, LeaderError> {
        let mask = Mask::new(self.store.rendered_secrets()?.union(&back.secrets.values));
        let hashes = back.old.files.iter().map(|(name, file)| (name.clone(), (file.sha256, file.executable))).collect();
        // What can't be read differs, too: it is told by the next plan.
        let disk = Source::read(&self.config.platform, &self.config.templates)
            .map_or_else(|_| vec![PLATFORM.to_owned()], |source| differing_names(&source, &hashes));
        Ok(Rollback {
            to: back.next.rolled_back_to.unwrap_or_default(),
            revision: back.last.number,
            new: back.next.source != back.last.source || back.next.bundles != back.last.bundles,
            changes: difference::planned(&back.last.bundles, &back.next.bundles, &mask, heard),
            source: source_changes(&back.last.source, &back.next.source, &mask),
            otherwise: back.otherwise.clone(),
            disk,
            kept: None,
            platform_error: None,
            pushes: Vec::new(),
            strategy: String::new(),
            waves: false,
        })
    }
}

impl Leader {
    /// Goes back, and serves it. Blocks while it reads and writes.
    pub fn rollback(&self, request: &Request) -> Result<Rollback, LeaderError> {
        let mut request = request.clone();
        request.launch.standing = self.standing();
        let mut press = self.press.lock().unwrap_or_else(PoisonError::into_inner);
        let (fresh, rollback) = press.rollback(&request, self.heard().as_ref())?;
        if let Some(fresh) = fresh {
            self.serve(fresh);
        }
        Ok(rollback)
    }

    /// What going back would change.
    pub fn rollback_plan(&self, to: u64) -> Result<Rollback, LeaderError> {
        let press = self.press.lock().unwrap_or_else(PoisonError::into_inner);
        press.rollback_plan(to, self.heard().as_ref())
    }
}

/// What lies on disk beside what is published; read beside a publication under way.
pub fn disk(config: &Config) -> Result<Disk, LeaderError> {
    let store = Store::peek(&config.state)?.ok_or_else(|| unknown_revision(1, 0))?;
    let number = store.last_number()?;
    let head = store.head(number)?.ok_or_else(|| unknown_revision(1, 0))?;
    let hashes = store.source_hashes(&head)?;
    let (files, error) = match Source::read(&config.platform, &config.templates) {
        Ok(source) => (differing_names(&source, &hashes), None),
        Err(faults) => (Vec::new(), Some(faults.to_string())),
    };
    Ok(Disk { revision: number, rolled_back_to: head.rolled_back_to, files, error })
}

/// Replaces `platform.yml` on disk, under the lock that all its writers take;
/// what was there is kept beside it, whether or not it was ever published. Its
/// name, if something else was there.
fn put_platform(config: &Config, wanted: &[u8], revision: u64) -> io::Result<Option<String>> {
    let _lock = file::lock(config).map_err(|error| io::Error::other(error.to_string()))?;
    for _ in 0..TRIES {
        // A link stays one: what it leads to is replaced.
        let path = match config.platform.canonicalize() {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                durable::replace(&config.platform, wanted, 0o644)?;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let (before, like) = (fs::read(&path)?, fs::metadata(&path)?);
        if before == wanted {
            return Ok(None);
        }
        let beside = free(&config.platform, revision);
        durable::replace(&beside, &before, like.permissions().mode() & 0o777)?;
        // An editor takes no lock: what it saved in between is kept as well.
        if durable::replace_if(&path, wanted, &like, || Ok(fs::read(&path)? == before))? {
            return Ok(Some(beside.display().to_string()));
        }
        fs::remove_file(&beside)?;
    }
    Err(io::Error::other("it changed each time it was about to be replaced: which program writes it all the time?"))
}

/// A name beside the platform file that nothing has.
fn free(platform: &Path, revision: u64) -> PathBuf {
    let name = |again: u32| match again {
        1 => platform.with_extension(format!("before-{revision}.yml")),
        _ => platform.with_extension(format!("before-{revision}-{again}.yml")),
    };
    (1..u32::MAX).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(u32::MAX))
}
