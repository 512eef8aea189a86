//! `lockstep validate`: everything that could be wrong with the files, offline.

use super::{counted, leader_config, plan, print, print_json, say};
use crate::exit::{Done, Failed, failed};
use lockstep_leader::fault::Faults;
use lockstep_leader::leader::{self, LeaderError};
use lockstep_leader::memo::Memo;
use lockstep_leader::migration;
use lockstep_leader::release::{self, Release};
use lockstep_leader::secrets::{Drafts, Secrets};
use lockstep_leader::source::Source;
use lockstep_leader::store::Store;
use std::path::Path;

pub(super) fn run(root: &Path, json: bool) -> Result<Done, Failed> {
    let config = leader_config(root)?;
    leader::check(&config)?;
    let check = || -> Result<(usize, Vec<String>), LeaderError> {
        let source = Source::read(&config.platform, &config.templates)?;
        let store = Store::peek(&config.state)?;
        match &store {
            Some(store) => leader::check_members(&config, store)?,
            None => config.check_rollout()?,
        }
        let machines = release::machines(&config);
        let last = store.as_ref().map(|store| store.head(store.last_number()?)).transpose()?.flatten();
        migration::check(&source, last.as_ref().map(|last| last.release.as_str()))?;
        let mut secrets = Secrets::new(super::environment(), store.as_ref(), Drafts::Read);
        let mut memo = Memo::default();
        let release = Release::compile_naming(&source, &machines, &config.members.disabled(), &mut memo);
        let bundles = release.render(&machines, &machines, &mut secrets, 1, &mut memo)?;
        Ok((bundles.values().map(|bundle| bundle.files.len()).sum(), memo.remarks()))
    };
    let checked = check();
    let machines = release::machines(&config);
    match checked {
        Ok((files, warnings)) => {
            if json {
                print_json(
                    &serde_json::json!({"valid": true, "machines": machines.len(), "files": files, "errors": [], "warnings": warnings}),
                )?;
            } else {
                print(&format!("valid: {} for {}\n", counted(files, "file"), counted(machines.len(), "machine")))?;
                plan::warned(&warnings);
            }
            Ok(Done::Good)
        }
        Err(LeaderError::Faults(faults)) => {
            if json {
                print_json(&serde_json::json!({"valid": false, "errors": faults}))?;
            } else {
                say(&faults.to_string());
            }
            Err(failed(mistakes(&faults)))
        }
        Err(other) => Err(other.into()),
    }
}

fn mistakes(faults: &Faults) -> String {
    match faults.0.len() {
        1 => "1 mistake; correct it and run lockstep validate again".to_owned(),
        n => format!("{n} mistakes; correct them and run lockstep validate again"),
    }
}
