//! `lockstep backup` and `lockstep restore`: a leader in one file, and back.

use super::{environment, leader_config, offline_actor, print, say};
use crate::exit::{Done, Failed};
use crate::moment;
use crate::progress::Progress;
use lockstep_leader::audit::{Audit, BACKUP, Event};
use lockstep_leader::backup::{self, Saved, Wanted};
use lockstep_leader::config::Config;
use lockstep_leader::store::{Store, StoreError};
use std::path::{Path, PathBuf};

/// What can be typed.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The new file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Leave out store.key and config-leader.json: the file then opens nothing by itself
    #[arg(long)]
    without_keys: bool,
}

/// What can be typed to restore.
#[derive(Debug, clap::Args)]
pub(crate) struct RestoreOptions {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Move aside what is there
    #[arg(long)]
    replace: bool,
    /// The store's key, for a backup without keys
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

pub(super) fn save(root: &Path, options: &Options) -> Result<Done, Failed> {
    let config = leader_config(root)?;
    let progress = Progress::begin("writing the backup, and reading it back");
    let saved = backup::save(&config, &options.file, !options.without_keys)?;
    drop(progress);
    note(&config, options, &saved);
    let kilobytes = saved.size.div_ceil(1000);
    let holds = if options.without_keys {
        "it holds no keys: keep store.key and config-leader.json elsewhere, without them it can't be used"
    } else {
        "it holds every key and secret of this platform: keep it like a key"
    };
    print(&format!(
        "{}: up to revision {}, {} files, {kilobytes} KB, read back and whole; {holds}\n",
        options.file.display(),
        saved.revision,
        saved.files
    ))?;
    Ok(Done::Good)
}

/// Who holds it holds the platform: that it was made is written down, also
/// beside a running leader. A disk that is too full for that has a backup all the same.
fn note(config: &Config, options: &Options, saved: &Saved) {
    let keys = if options.without_keys { "without keys" } else { "with all keys" };
    let noted = format!("up to revision {}, {keys}, to {}", saved.revision, options.file.display());
    let append = || -> Result<(), StoreError> {
        if let Some(store) = Store::peek(&config.state)? {
            Audit::new(store).append(&Event::done(&offline_actor(), BACKUP, &noted))?;
        }
        Ok(())
    };
    if let Err(error) = append() {
        say(&format!("the backup is whole, but the audit could not note it: {error}"));
    }
}

pub(super) fn restore(root: &Path, options: RestoreOptions) -> Result<Done, Failed> {
    let wanted = Wanted { replace: options.replace, key: options.key };
    let done = backup::restore(&options.file, root, environment(), &wanted)?;
    let mut out = format!(
        "restored {} up to revision {}, as it was on {}\n",
        root.display(),
        done.revision,
        moment::local(&done.created)
    );
    if let Some(aside) = done.aside {
        out += &format!("what was there is in {}\n", aside.display());
    }
    if !done.configured {
        out += "config-leader.json was not in the backup: write it before the leader starts, or no follower is known\n";
    }
    out += "start it: scripts/run-config-leader, or lockstep leader. Never run it beside the one that it replaces\n";
    print(&out)?;
    record(root, done.revision)
}

/// In the audit that was restored, since it is a change like any other.
fn record(root: &Path, revision: u64) -> Result<Done, Failed> {
    let store = Store::open(&leader_config(root)?.state)?;
    let noted = format!("up to revision {revision}");
    Audit::new(store).append(&Event::done(&offline_actor(), "restore", &noted))?;
    Ok(Done::Good)
}
