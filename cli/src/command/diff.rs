//! `lockstep diff`: what differs between two revisions.

use super::lookback::{line, look};
use super::show::{Paint, alike, title};
use super::{print, print_json, say};
use crate::exit::{Done, Failed};
use lockstep_leader::difference::MachineChange;
use lockstep_leader::history::{Compared, SourceChange};
use std::path::Path;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// A revision
    #[arg(value_name = "A", value_parser = super::revision_number)]
    from: u64,
    /// Another
    #[arg(value_name = "B", value_parser = super::revision_number)]
    to: u64,
    /// This machine only
    #[arg(long)]
    machine: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(root: &Path, options: Options) -> Result<Done, Failed> {
    let Options { from, to, machine, json } = options;
    let query = [("from", Some(from.to_string())), ("to", Some(to.to_string())), ("machine", machine.clone())];
    let compared: Compared =
        look(root, "/admin/diff", &query, |history| history.compare(from, to, machine.as_deref())).await?;
    let same = compared.source.is_empty() && compared.machines.is_empty();
    if json {
        print_json(&compared)?;
    } else if same {
        say(&format!("revisions {from} and {to} have the same content"));
    } else {
        let paint = Paint::new();
        let mut out = format!("from {}\nto   {}\n", line(&compared.from), line(&compared.to));
        out += &sources(&compared.source, paint);
        out += &machines(&compared.machines, paint);
        print(&out)?;
    }
    Ok(if same { Done::Good } else { Done::Different })
}

/// The changes of `platform.yml` and templates.
pub(super) fn sources(changes: &[SourceChange], paint: Paint) -> String {
    changes.iter().map(|change| block(&change.file, &format!("{:?}", change.change), &change.diff, paint)).collect()
}

/// Every changed file with its diff, machines with the very same change together.
pub(super) fn machines(changes: &[MachineChange], paint: Paint) -> String {
    let mut out = String::new();
    for same in alike(changes) {
        out += &title(&same, paint);
        for file in &same[0].files {
            out += &block(file.path.as_str(), &format!("{:?}", file.change), &file.diff, paint);
        }
    }
    out
}

fn block(file: &str, change: &str, diff: &str, paint: Paint) -> String {
    let mut out = format!("  {} {file}\n", change.to_lowercase());
    for line in diff.lines().filter(|line| !line.starts_with("---") && !line.starts_with("+++")) {
        out += &format!("    {}\n", paint.diff_line(line));
    }
    out
}
