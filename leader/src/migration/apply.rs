//! Migrating this platform: what it would come to, and the writing of it.

use super::{Migrated, check, migrate};
use crate::desk::{Desk, DeskError};
use crate::fault::Fault;
use crate::fleet::Heard;
use crate::leader::{Leader, LeaderError};
use crate::platform::{Platform, schema};
use crate::press::Press;
use crate::publication::Publication;
use crate::release;
use crate::snippet;
use crate::source::{PLATFORM, Source, SourceFile};
use lockstep_shared::Name;
use serde::{Deserialize, Serialize};
use std::sync::PoisonError;
use utoipa::ToSchema;

/// What migrating would come to, or did.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = MigrationOutcome)]
pub struct Outcome {
    /// The release of `templates/`.
    pub release: String,
    /// What becomes of the file; `null`: it fits already.
    pub migrated: Option<Migrated>,
    /// What is wrong with the file then. Values that don't fit stop the migration.
    pub faults: Vec<Fault>,
    /// Whether it can't be written for that.
    pub stopped: bool,
    /// What publishing would change then; `null` where it can't be said before that release's templates are in place.
    pub plan: Option<Publication>,
    /// The hash of the file as it was looked at.
    pub platform: String,
}

impl Press {
    /// The release that was published last.
    pub(crate) fn published_release(&self) -> Result<Option<String>, LeaderError> {
        let last = self.store.last_number()?;
        Ok(if last == 0 { None } else { self.store.head(last)?.map(|head| head.release) })
    }

    /// What migrating would come to; with what was `heard` of followers, also what that means for containers. Nothing is written.
    pub fn migration_plan(&mut self, to: Option<&str>, heard: Option<&Heard>) -> Result<Outcome, LeaderError> {
        Ok(self.migration(to, heard)?.1)
    }

    /// Migrates. `seen`: only if the file still has this hash.
    pub fn migrate(
        &mut self,
        to: Option<&str>,
        seen: Option<&str>,
        heard: Option<&Heard>,
    ) -> Result<Outcome, LeaderError> {
        let (old, migration) = self.migration(to, heard)?;
        if seen.is_some_and(|seen| seen != migration.platform) {
            let what = "platform.yml changed since you looked; nothing was written: run lockstep migrate again";
            return Err(LeaderError::Conflict(what.to_owned()));
        }
        if migration.stopped {
            return Err(crate::fault::Faults(migration.faults).into());
        }
        if let Some(migrated) = &migration.migrated {
            Desk::new(self.config.clone()).replace_text(&old, &migrated.text).map_err(told)?;
            tracing::info!(from = migrated.from, to = migrated.to, "{PLATFORM} migrated");
        }
        Ok(migration)
    }

    fn migration(&mut self, to: Option<&str>, heard: Option<&Heard>) -> Result<(String, Outcome), LeaderError> {
        let mut source = Source::read(&self.config.platform, &self.config.templates)?;
        let published = self.published_release()?;
        let machines = release::machines(&self.config);
        let migrated = migrate(&source, published.as_deref(), to, &machines)?;
        let old = source.text(PLATFORM).map_err(crate::fault::Faults::from)?.unwrap_or_default().to_owned();
        let (settings, _) = schema::read(source.text(schema::FILE).ok().flatten().unwrap_or_default());
        let mut migration = Outcome {
            release: settings.release.clone(),
            platform: source.files.get(PLATFORM).map(|file| file.sha256.to_string()).unwrap_or_default(),
            migrated,
            faults: Vec::new(),
            stopped: false,
            plan: None,
        };
        let Some(new) = migration.migrated.as_ref().map(|migrated| migrated.text.clone()) else {
            return Ok((old, migration));
        };
        source.files.insert(PLATFORM.to_owned(), SourceFile::new(new.as_bytes(), false));
        // What an earlier release would say of it, only that release's templates know.
        if check(&source, published.as_deref()).is_err() {
            return Ok((old, migration));
        }
        let disabled = self.config.members.disabled();
        let names = machines.iter().map(|machine| &machine.name).chain(&disabled);
        let names: Vec<&str> = names.map(Name::as_str).collect();
        let (platform, mut faults) = Platform::read(&new, &settings, &names);
        faults.extend(platform.wrong(&settings));
        snippet::show(&mut faults, |_| Some(new.clone()), &settings);
        if !faults.is_empty() {
            (migration.faults, migration.stopped) = (faults, true);
            return Ok((old, migration));
        }
        match self.plan_of(source, heard) {
            Ok(plan) => migration.plan = Some(plan),
            Err(LeaderError::Faults(faults)) => migration.faults = faults.0,
            Err(other) => return Err(other),
        }
        Ok((old, migration))
    }
}

impl Leader {
    /// What migrating would come to. Blocks while it renders.
    pub fn migration_plan(&self, to: Option<&str>) -> Result<Outcome, LeaderError> {
        let mut press = self.press.lock().unwrap_or_else(PoisonError::into_inner);
        press.migration_plan(to, self.heard().as_ref())
    }

    /// Migrates. Blocks while it renders and writes.
    pub fn migrate(&self, to: Option<&str>, seen: Option<&str>) -> Result<Outcome, LeaderError> {
        let mut press = self.press.lock().unwrap_or_else(PoisonError::into_inner);
        press.migrate(to, seen, self.heard().as_ref())
    }
}

fn told(error: DeskError) -> LeaderError {
    match error {
        DeskError::Faults(faults) | DeskError::Rejected(faults) => LeaderError::Faults(faults),
        DeskError::Io { path, source } => LeaderError::Io { path, source },
        other => LeaderError::Conflict(other.to_string()),
    }
}
