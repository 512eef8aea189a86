//! `lockstep doctor`: what is wrong around the leader or follower of this
//! machine, and the command that mends it.

use super::show::Paint;
use super::{counted, print, print_json};
use crate::doctor::{self, Finding, Level};
use crate::exit::{Done, Failed, failed};
use crate::printable::printable;
use crate::progress::Progress;
use std::path::Path;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Also what is as it should be
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One side of this machine.
struct Side {
    name: &'static str,
    findings: Vec<Finding>,
}

pub(super) async fn run(root: &Path, options: Options) -> Result<Done, Failed> {
    let leads = root.join(lockstep_leader::config::FILE).exists() || root.join("platform.yml").exists();
    let follows = root.join(lockstep_follower::CONFIG_FILE).exists();
    if !leads && !follows {
        return Err(failed(format!(
            "neither a leader nor a follower is set up in {}: name the right home with --root; lockstep init-platform makes a leader's, lockstep join-platform TOKEN a follower's",
            root.display()
        )));
    }
    let progress = Progress::begin("looking at this machine");
    let mut sides = Vec::new();
    if leads {
        sides.push(Side { name: "leader", findings: doctor::leader(root).await });
    }
    if follows {
        sides.push(Side { name: "follower", findings: doctor::follower(root).await });
    }
    drop(progress);
    for side in &mut sides {
        side.findings.sort_by_key(|finding| finding.level);
    }
    let count = |level| sides.iter().flat_map(|side| &side.findings).filter(|finding| finding.level == level).count();
    let broken = count(Level::Broken);
    if options.json {
        let sides: serde_json::Map<String, serde_json::Value> = sides
            .iter()
            .map(|side| Ok((side.name.to_owned(), serde_json::to_value(&side.findings)?)))
            .collect::<Result<_, Failed>>()?;
        print_json(&serde_json::json!({"root": root, "broken": broken, "sides": sides}))?;
    } else {
        print(&shown(root, &sides, options.all, Paint::new()))?;
        let rest = [(Level::Warning, "warning"), (Level::Note, "note"), (Level::Fine, "check")];
        let rest = rest.map(|(level, word)| counted(count(level), word));
        print(&format!("{broken} broken, {}, {}, {} without a finding\n", rest[0], rest[1], rest[2]))?;
    }
    // Said already: there is no error to print beside it.
    Ok(if broken > 0 { Done::Broken } else { Done::Good })
}

fn shown(root: &Path, sides: &[Side], all: bool, paint: Paint) -> String {
    let mut out = String::new();
    for side in sides {
        out += &format!("{}\n", paint.wrap("1", &format!("{} in {}", side.name, root.display())));
        for Finding { check, level, what, why, fix } in &side.findings {
            let (word, colour) = match level {
                Level::Broken => ("BROKEN ", "31"),
                Level::Warning => ("warning", "33"),
                Level::Note => ("note   ", "36"),
                Level::Fine if !all => continue,
                Level::Fine => ("fine   ", "32"),
            };
            out += &format!("  {} {check}: {}\n", paint.wrap(colour, word), printable(what));
            if !why.is_empty() {
                out += &format!("          {}\n", printable(why));
            }
            if !fix.is_empty() {
                out += &format!("          -> {}\n", printable(fix));
            }
        }
    }
    out
}
