//! `lockstep history`: what was published.

use super::lookback::{changed, look, plain};
use super::{print, print_json, say};
use crate::exit::{Done, Failed};
use crate::moment;
use crate::printable::headline;
use comfy_table::{ContentArrangement, Table, presets::UTF8_HORIZONTAL_ONLY};
use lockstep_leader::history::Listing;
use std::path::Path;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// So many revisions at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Only those before this one
    #[arg(long, value_name = "REV", value_parser = super::revision_number)]
    before: Option<u64>,
    /// Only those that changed something for this machine
    #[arg(long)]
    machine: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(root: &Path, options: Options) -> Result<Done, Failed> {
    let Options { limit, before, machine, json } = options;
    let query = [
        ("limit", Some(limit.to_string())),
        ("before", before.map(|before| before.to_string())),
        ("machine", machine.clone()),
    ];
    let offline = |history: &lockstep_leader::history::History| history.list(before, machine.as_deref(), limit);
    let listing: Listing = look(root, "/admin/revisions", &query, offline).await?;
    if json {
        print_json(&listing)?;
    } else if listing.revisions.is_empty() {
        let narrowed = before.is_some() || machine.is_some() || limit == 0;
        say(if narrowed {
            "no such revision: lockstep history shows all"
        } else {
            "nothing is published yet: lockstep publish"
        });
    } else {
        print(&table(&listing))?;
    }
    Ok(Done::Good)
}

fn table(listing: &Listing) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["revision", "when", "who", "message", "release", "changed"]);
    for entry in &listing.revisions {
        table.add_row([
            entry.number.to_string(),
            moment::local(&entry.time),
            plain(&entry.author),
            plain(&entry.message),
            plain(&entry.release),
            match &entry.rollout {
                Some(rollout) => format!("{}\nrollout {}", changed(entry), headline(rollout)),
                None => changed(entry),
            },
        ]);
    }
    let mut out = format!("{table}\n");
    if let Some(oldest) = listing.revisions.last().filter(|oldest| oldest.number > 1) {
        out += &format!("older ones: lockstep history --before {}\n", oldest.number);
    }
    out
}
