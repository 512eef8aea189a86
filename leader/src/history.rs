//! Looking back: what was published, what it changed, and what a machine ran.
//! Read beside a running leader as well as without one. No secret's value is in
//! anything that this gives, unless it is asked for by name ([`History::file`]).

use crate::difference::{self, MachineChange};
use crate::leader::LeaderError;
use crate::mask::Mask;
use crate::platform::edited::Edited;
use crate::source::{PLATFORM, Source, SourceFile};
use crate::store::{Head, Holdings, Store, Touched};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lockstep_edge::clock;
use lockstep_shared::api::Change;
use lockstep_shared::{File, Mode, Name, Owner, SafePath, Sha256};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use utoipa::ToSchema;

/// The store, to look back into.
pub struct History {
    pub(crate) store: Store,
    mask: Mask,
}

/// A line of the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Entry {
    /// From 1, without gaps.
    pub number: u64,
    /// When it was published: RFC 3339, UTC.
    pub time: String,
    /// Who published it.
    pub author: String,
    /// Why.
    pub message: String,
    /// The release of the templates.
    pub release: String,
    /// The revision whose content it published again.
    pub rolled_back_to: Option<u64>,
    /// The settings whose values in `platform.yml` differ from the revision before.
    pub edited: Vec<Edited>,
    /// What it changed against the revision before, in short.
    pub touched: Vec<Touched>,
    /// How its rollout ended, where it didn't simply reach every machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
}

/// The history, the latest first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Listing {
    /// The last revision.
    pub last: u64,
    /// As many as were asked for.
    pub revisions: Vec<Entry>,
}

/// One revision.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Shown {
    /// What it is.
    pub revision: Entry,
    /// The SHA-256 of `platform.yml` as it was.
    pub platform: Option<Sha256>,
    /// What every machine has in it.
    pub machines: Vec<ShownMachine>,
}

/// What a machine has in a revision.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ShownMachine {
    /// The machine.
    pub machine: Name,
    /// Its role then.
    pub role: Name,
    /// The bundle's digest.
    pub digest: Sha256,
    /// The revision in which it last changed, up to this one.
    pub since: u64,
}

/// A machine's bundle in a revision.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ShownBundle {
    /// The revision.
    pub revision: Entry,
    /// The machine.
    pub machine: Name,
    /// Its role then.
    pub role: Name,
    /// The bundle's digest.
    pub digest: Sha256,
    /// By path.
    pub files: Vec<ShownFile>,
}

/// A file of a bundle.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ShownFile {
    /// Where the follower writes it.
    pub path: SafePath,
    /// Four octal digits.
    #[schema(value_type = String)]
    pub mode: Mode,
    /// `uid:gid`, where the role sets one.
    #[schema(value_type = Option<String>)]
    pub owner: Option<Owner>,
    /// The SHA-256 of its bytes.
    pub sha256: Sha256,
    /// In bytes.
    pub size: usize,
}

/// A file's content in a revision.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ShownContent {
    /// The revision.
    pub revision: u64,
    /// The file's name: a path of a bundle, `platform.yml` or `templates/...`.
    pub file: String,
    /// The SHA-256 of its bytes as they are.
    pub sha256: Sha256,
    /// Whether secrets' values in it were masked.
    pub masked: bool,
    /// Its text, where it is UTF-8.
    pub content: Option<String>,
    /// Its bytes in base64, where it is not.
    pub content_base64: Option<String>,
}

/// What differs between two revisions.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Compared {
    /// The one.
    pub from: Entry,
    /// The other.
    pub to: Entry,
    /// `platform.yml` and templates.
    pub source: Vec<SourceChange>,
    /// By machine.
    pub machines: Vec<MachineChange>,
}

/// What differs in a file that a revision was rendered from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SourceChange {
    /// `platform.yml` or `templates/...`.
    pub file: String,
    /// What happens to it.
    pub change: Change,
    /// A unified diff, masked; or, for what can't be shown as text, a sentence.
    pub diff: String,
}

/// What a machine ran at a time.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Ran {
    /// The machine.
    pub machine: Name,
    /// The time that was asked for: RFC 3339, UTC.
    pub at: String,
    /// How this is known.
    pub known: Known,
    /// The revision, with what it was.
    pub revision: Option<Entry>,
    /// The bundle's digest.
    pub digest: Option<Sha256>,
    /// Since when: RFC 3339, UTC.
    pub since: String,
    /// The revision that the machine was failing to apply then; its files may have been there already. 0: not known which.
    pub failed: Option<u64>,
}

/// How it is known what a machine ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Known {
    /// Its follower had reported it as proven.
    Proven,
    /// It had not reported anything: what was published for it.
    Published,
}

impl History {
    /// Opens the store of a state folder.
    pub fn open(state: &Path) -> Result<Self, LeaderError> {
        let store = Store::peek(state)?.ok_or_else(|| {
            LeaderError::Unknown("nothing was ever published here: see lockstep publish, or --root".to_owned())
        })?;
        let mask = Mask::new(&store.rendered_secrets()?);
        Ok(Self { store, mask })
    }

    /// Up to `limit` revisions before a number; with a machine, those that changed something for it.
    pub fn list(&self, before: Option<u64>, machine: Option<&str>, limit: usize) -> Result<Listing, LeaderError> {
        if let Some(machine) = machine {
            self.known_machine(machine)?;
        }
        let heads = self.store.heads(before.unwrap_or(u64::MAX), machine, limit)?;
        Ok(Listing {
            last: self.store.last_number()?,
            revisions: heads.into_iter().map(|head| self.entry(head)).collect(),
        })
    }

    /// One revision.
    pub fn show(&self, number: u64) -> Result<Shown, LeaderError> {
        let head = self.head(number)?;
        let mut machines = Vec::new();
        for (machine, held) in self.store.holdings(&head)? {
            let last = self.store.heads(number + 1, Some(machine.as_str()), 1)?;
            let since = last.first().map_or(number, |head| head.number);
            machines.push(ShownMachine { machine, role: held.role, digest: held.digest, since });
        }
        Ok(Shown { platform: head.platform, revision: self.entry(head), machines })
    }

    /// A machine's bundle in a revision.
    pub fn bundle(&self, number: u64, machine: &str) -> Result<ShownBundle, LeaderError> {
        let head = self.head(number)?;
        let bundle = self.whole_bundle(&head, machine)?;
        let file = |file: &File| ShownFile {
            path: file.path.clone(),
            mode: file.mode,
            owner: file.owner,
            sha256: file.sha256,
            size: file.content.len(),
        };
        Ok(ShownBundle {
            revision: self.entry(head),
            role: bundle.role.clone(),
            digest: bundle.digest,
            files: bundle.files.iter().map(file).collect(),
            machine: bundle.machine,
        })
    }

    /// A file as it was: of a machine's bundle, or without a machine of the
    /// source. `reveal`: with the secrets' values in it.
    pub fn file(
        &self,
        number: u64,
        machine: Option<&str>,
        path: &str,
        reveal: bool,
    ) -> Result<ShownContent, LeaderError> {
        let head = self.head(number)?;
        let (bytes, sha256) = if let Some(machine) = machine {
            let bundle = self.whole_bundle(&head, machine)?;
            let file = bundle.file(path).ok_or_else(|| {
                let names: Vec<&str> = bundle.files.iter().map(|file| file.path.as_str()).collect();
                LeaderError::Unknown(format!(
                    "{machine} has no file {path} in revision {number}{}; see lockstep show {number} --machine {machine}",
                    crate::fault::nearest(path, names)
                ))
            })?;
            (file.content.clone(), file.sha256)
        } else {
            let source = self.source(number)?;
            let file = source.files.get(path).ok_or_else(|| {
                let near = crate::fault::nearest(path, source.files.keys().map(String::as_str));
                LeaderError::Unknown(format!(
                    "revision {number} was made from no file {path}{near}: {PLATFORM} or templates/...; a machine's file needs --machine"
                ))
            })?;
            (file.bytes.clone(), file.sha256)
        };
        let plain = std::str::from_utf8(&bytes).ok();
        let content = plain.map(|text| if reveal { text.to_owned() } else { self.mask(text) });
        let masked = content.as_deref() != plain;
        // Bytes that are no text may hold a value as well.
        let content_base64 = match &content {
            Some(_) => None,
            None if !reveal && self.mask.finds(&bytes) => {
                return Err(LeaderError::Conflict(format!("{path} is no text and holds a secret: see --reveal")));
            }
            None => Some(STANDARD.encode(&bytes)),
        };
        Ok(ShownContent { revision: number, file: path.to_owned(), sha256, masked, content, content_base64 })
    }

    /// Everything that a revision was rendered from.
    pub fn source(&self, number: u64) -> Result<Source, LeaderError> {
        Ok(self.store.source(&self.head(number)?)?)
    }

    /// What differs between two revisions, for all machines or one.
    pub fn compare(&self, from: u64, to: u64, machine: Option<&str>) -> Result<Compared, LeaderError> {
        let (old, new) = (self.head(from)?, self.head(to)?);
        let mut sides = (self.store.holdings(&old)?, self.store.holdings(&new)?);
        if let Some(machine) = machine {
            self.known_machine(machine)?;
            let only = |side: &mut Holdings| side.retain(|name, _| name.as_str() == machine);
            only(&mut sides.0);
            only(&mut sides.1);
        }
        let (before, after) = self.store.differing(&sides.0, &sides.1)?;
        let (gone, come) = self.store.differing_source(&old, &new)?;
        Ok(Compared {
            source: source_changes(&gone, &come, &self.mask),
            machines: difference::between(&before, &after, &self.mask),
            from: self.entry(old),
            to: self.entry(new),
        })
    }

    /// What a machine ran at a time, Unix seconds: what its follower had
    /// proven; where it had not reported yet, what was published for it.
    pub fn ran(&self, machine: &str, at: i64) -> Result<Ran, LeaderError> {
        let name = self.known_machine(machine)?;
        let entry = |number| -> Result<Option<Entry>, LeaderError> {
            Ok(self.store.head(number)?.map(|head| self.entry(head)))
        };
        if let Some(proven) = self.store.proven_at(machine, at)? {
            return Ok(Ran {
                machine: name,
                at: clock::rfc3339(at),
                known: Known::Proven,
                revision: proven.revision.map(entry).transpose()?.flatten(),
                digest: proven.digest,
                since: clock::rfc3339(proven.at),
                failed: proven.failed,
            });
        }
        let head = self.published_at(at)?;
        let held = match &head {
            Some(head) => self.store.holdings(head)?.remove(&name),
            None => None,
        };
        let (Some(head), Some(held)) = (head, held) else {
            return Err(LeaderError::Unknown(format!(
                "nothing was published for {machine} at {}: see lockstep history --machine {machine}",
                clock::rfc3339(at)
            )));
        };
        Ok(Ran {
            machine: name,
            at: clock::rfc3339(at),
            known: Known::Published,
            digest: Some(held.digest),
            since: clock::rfc3339(head.created),
            revision: Some(self.entry(head)),
            failed: None,
        })
    }

    /// The revision that was published at a time, Unix seconds.
    pub fn at(&self, at: i64) -> Result<u64, LeaderError> {
        self.published_at(at)?.map(|head| head.number).ok_or_else(|| {
            LeaderError::Unknown(format!("nothing was published yet at {}: see lockstep history", clock::rfc3339(at)))
        })
    }

    /// The last revision of a time: numbers and times grow together.
    fn published_at(&self, at: i64) -> Result<Option<Head>, LeaderError> {
        let (mut low, mut high) = (0, self.store.last_number()?);
        while low < high {
            let middle = high - (high - low) / 2;
            if self.head(middle)?.created <= at {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        Ok(if low == 0 { None } else { self.store.head(low)? })
    }

    fn whole_bundle(&self, head: &Head, machine: &str) -> Result<lockstep_shared::Bundle, LeaderError> {
        let holdings = self.store.holdings(head)?;
        let Some((name, held)) = holdings.iter().find(|(name, _)| name.as_str() == machine) else {
            let names: Vec<&str> = holdings.keys().map(Name::as_str).collect();
            return Err(LeaderError::Unknown(format!(
                "revision {} has no machine {machine}{}; it has: {}",
                head.number,
                crate::fault::nearest(machine, names.iter().copied()),
                names.join(", ")
            )));
        };
        Ok(self.store.bundle(name.clone(), held.clone())?)
    }

    fn known_machine(&self, machine: &str) -> Result<Name, LeaderError> {
        let machines = self.store.machines()?;
        match Name::new(machine) {
            Ok(name) if machines.iter().any(|known| known == machine) => Ok(name),
            _ => Err(LeaderError::Unknown(format!(
                "no revision ever had a machine {machine}{}; there are: {}",
                crate::fault::nearest(machine, machines.iter().map(String::as_str)),
                machines.join(", ")
            ))),
        }
    }

    pub(crate) fn head(&self, number: u64) -> Result<Head, LeaderError> {
        let found = self.store.head(number)?;
        let last = self.store.last_number()?;
        found.ok_or_else(|| unknown_revision(number, last))
    }

    pub(crate) fn entry(&self, head: Head) -> Entry {
        let rollout = self.store.rollout(head.number).unwrap_or_default();
        Entry {
            rollout: rollout.and_then(|rollout| rollout.ending()),
            number: head.number,
            time: clock::rfc3339(head.created),
            author: self.mask(&head.author),
            message: self.mask(&head.message),
            release: head.release,
            rolled_back_to: head.rolled_back_to,
            edited: head.edited,
            touched: head.touched,
        }
    }

    pub(crate) fn mask(&self, text: &str) -> String {
        self.mask.text(text)
    }
}

/// That there is no such revision, and which there are.
pub(crate) fn unknown_revision(number: u64, last: u64) -> LeaderError {
    let known = match last {
        0 => "nothing is published yet (lockstep publish)".to_owned(),
        1 => "there is only revision 1 (lockstep history)".to_owned(),
        _ => format!("there are revisions 1 to {last} (lockstep history)"),
    };
    LeaderError::Unknown(format!("there is no revision {number}: {known}"))
}

/// What differs between two sources; `platform.yml` first.
pub(crate) fn source_changes(old: &Source, new: &Source, mask: &Mask) -> Vec<SourceChange> {
    let names: BTreeSet<&String> = old.files.keys().chain(new.files.keys()).collect();
    let change = |name: &String| {
        let (before, after) = (old.files.get(name), new.files.get(name));
        let change = match (before, after) {
            (Some(before), Some(after)) if before == after => return None,
            (Some(_), Some(_)) => Change::Changed,
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
        };
        let (was, is) = (before.and_then(as_file), after.and_then(as_file));
        let diff = difference::diff(name, was.as_ref(), is.as_ref(), mask);
        Some(SourceChange { file: name.clone(), change, diff })
    };
    names.into_iter().filter_map(change).collect()
}

fn as_file(file: &SourceFile) -> Option<File> {
    let mode = Mode::try_from(if file.executable { "0755" } else { "0644" }.to_owned()).ok()?;
    // The name is told beside it: a template's may be one that no bundle could have.
    Some(File { mode, ..File::plain(SafePath::new("file").ok()?, file.bytes.clone()) })
}

/// The files that differ between a source and the hashes of another.
pub(crate) fn differing_names(source: &Source, hashes: &BTreeMap<String, (Sha256, bool)>) -> Vec<String> {
    let names: BTreeSet<&String> = source.files.keys().chain(hashes.keys()).collect();
    let differs = |name: &&String| {
        source.files.get(*name).map(|file| (file.sha256, file.executable)) != hashes.get(*name).copied()
    };
    names.into_iter().filter(differs).cloned().collect()
}
