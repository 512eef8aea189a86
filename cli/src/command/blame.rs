//! `lockstep blame`: who gave a setting its value.

use super::lookback::{look, plain};
use super::{print, print_json};
use crate::exit::{Done, Failed};
use crate::moment;
use lockstep_leader::blame::{Blame, Blamed};
use std::path::Path;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The setting
    #[arg(value_name = "SETTING")]
    setting: String,
    /// For this machine: its own value, where it has one
    #[arg(long)]
    machine: Option<String>,
    /// So many changes at most
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(root: &Path, options: Options) -> Result<Done, Failed> {
    let Options { setting, machine, limit, json } = options;
    let query = [("setting", Some(setting.clone())), ("machine", machine.clone()), ("limit", Some(limit.to_string()))];
    let offline = |history: &lockstep_leader::history::History| history.blame(&setting, machine.as_deref(), limit);
    let blame: Blame = look(root, "/admin/blame", &query, offline).await?;
    if json {
        print_json(&blame)?;
    } else {
        print(&text(&blame))?;
    }
    Ok(Done::Good)
}

fn text(blame: &Blame) -> String {
    if blame.changes.is_empty() {
        return format!(
            "{} never stood in platform.yml: its default from the release holds (lockstep settings describe {})\n",
            blame.setting, blame.setting
        );
    }
    let mut out: String = blame.changes.iter().map(|change| entry(blame, change)).collect();
    if blame.more {
        out += "earlier changes: --limit N\n";
    }
    out
}

fn entry(blame: &Blame, change: &Blamed) -> String {
    let revision = &change.revision;
    let value = match &change.value {
        Some(value) if change.own => {
            format!("{} = {value} for {}", blame.setting, blame.machine.as_deref().unwrap_or_default())
        }
        Some(value) => format!("{} = {value}", blame.setting),
        None => format!("{} left platform.yml: the default of the release", blame.setting),
    };
    let mut out = format!(
        "{value}\n  revision {}, {}, by {}",
        revision.number,
        moment::local(&revision.time),
        plain(&revision.author)
    );
    if !revision.message.is_empty() {
        out += &format!(": {}", plain(&revision.message));
    }
    out.push('\n');
    if let (Some(line), Some(text)) = (change.line, &change.text) {
        out += &format!("  platform.yml:{line}: {}\n", text.trim());
    }
    out
}
