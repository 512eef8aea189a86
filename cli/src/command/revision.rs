//! `lockstep show`: a revision, a machine's part of it, a file of it; and what
//! a machine ran at a time.

use super::lookback::{changed, line, look, plain};
use super::{leader_config, print, print_json, say, write_out};
use crate::exit::{Done, Failed, failed};
use crate::moment;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};
use lockstep_edge::clock;
use lockstep_leader::history::{History, Known, Listing, Ran, Shown, ShownBundle, ShownContent};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// What can be typed.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The revision; left out: the last
    #[arg(value_name = "REV", value_parser = super::revision_number)]
    revision: Option<u64>,
    /// What was published, or with --machine what it ran, at this time: 14:03, '2026-11-21 14:03', or RFC 3339
    #[arg(long, value_name = "TIME", conflicts_with = "revision")]
    at: Option<String>,
    /// The files of this machine
    #[arg(long)]
    machine: Option<String>,
    /// A file's content: one of the machine's, or platform.yml, or templates/...
    #[arg(long, value_name = "PATH")]
    file: Option<String>,
    /// Don't mask secrets in the file
    #[arg(long, requires = "file")]
    reveal: bool,
    /// Write platform.yml and templates/ as they were into this new folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["machine", "file"])]
    source: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(root: &Path, options: Options) -> Result<Done, Failed> {
    let time = options.at.as_deref().map(moment::parse).transpose()?;
    let number = match (options.revision, time, &options.machine) {
        (Some(number), ..) => number,
        (None, Some(time), Some(machine)) => {
            let ran = ran(root, machine, time).await?;
            let Some(file) = &options.file else { return report(&ran, options.json) };
            let revision = ran.revision.as_ref().map(|revision| revision.number);
            let revision =
                revision.ok_or_else(|| failed(format!("{machine} had proven nothing then, so it has no {file}")))?;
            say(&told(&ran));
            revision
        }
        (None, time, _) => published(root, time).await?,
    };
    if let Some(folder) = &options.source {
        return source(root, number, folder);
    }
    if let Some(file) = &options.file {
        return content(root, number, file, &options).await;
    }
    if let Some(machine) = &options.machine {
        return bundle(root, number, machine, options.json).await;
    }
    let shown: Shown = look(root, &format!("/admin/revisions/{number}"), &[], |history| history.show(number)).await?;
    if options.json {
        print_json(&shown)?;
    } else {
        print(&whole(&shown))?;
    }
    Ok(Done::Good)
}

/// The last revision that was published up to a time.
async fn published(root: &Path, time: Option<i64>) -> Result<u64, Failed> {
    let query = [("limit", Some("1".to_owned())), ("at", time.map(clock::rfc3339))];
    let offline = |history: &History| {
        let before = time.map(|time| history.at(time)).transpose()?.map(|number| number + 1);
        history.list(before, None, 1)
    };
    let listing: Listing = look(root, "/admin/revisions", &query, offline).await?;
    listing
        .revisions
        .first()
        .map(|entry| entry.number)
        .ok_or_else(|| failed("nothing is published yet: lockstep publish"))
}

async fn ran(root: &Path, machine: &str, time: i64) -> Result<Ran, Failed> {
    let query = [("machine", Some(machine.to_owned())), ("at", Some(clock::rfc3339(time)))];
    look(root, "/admin/ran", &query, |history| history.ran(machine, time)).await
}

fn report(ran: &Ran, json: bool) -> Result<Done, Failed> {
    if json {
        print_json(ran)?;
        return Ok(Done::Good);
    }
    let mut out = format!("{}\n", told(ran));
    if let Some(revision) = &ran.revision {
        out += &format!("  {}\n", line(revision));
        out += &format!("its files: lockstep show {} --machine {}\n", revision.number, ran.machine);
    }
    print(&out)?;
    Ok(Done::Good)
}

/// What a machine ran, in a sentence.
fn told(ran: &Ran) -> String {
    let (machine, at, since) = (&ran.machine, moment::local(&ran.at), moment::local(&ran.since));
    let revision = ran.revision.as_ref().map(|revision| revision.number);
    let mut text = match (ran.known, revision) {
        (Known::Proven, Some(number)) if ran.failed.is_none() => {
            format!("{machine} ran revision {number} at {at}: proven since {since}")
        }
        (Known::Proven, Some(number)) => format!("{machine} had last proven revision {number} at {at}"),
        (Known::Proven, None) => format!("{machine} had proven nothing yet at {at}"),
        (Known::Published, number) => format!(
            "{machine} had not reported anything by {at}: revision {} was published for it, since {since}",
            number.unwrap_or_default()
        ),
    };
    match ran.failed {
        None => {}
        Some(0) => text += &format!("; since {since} it was failing to apply something newer"),
        Some(failed) => {
            text +=
                &format!("; since {since} it was failing to apply revision {failed} (its files may be there already)");
        }
    }
    text
}

fn whole(shown: &Shown) -> String {
    let revision = &shown.revision;
    let mut out = format!("{}\nrelease: {}\n", line(revision), plain(&revision.release));
    if let Some(to) = revision.rolled_back_to {
        out += &format!("the content of revision {to}, published again\n");
    }
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(["machine", "role", "digest", "as since"]);
    for machine in &shown.machines {
        let since =
            if machine.since == revision.number { "changed here".to_owned() } else { machine.since.to_string() };
        let digest: String = machine.digest.to_string().chars().take(12).collect();
        table.add_row([machine.machine.to_string(), machine.role.to_string(), digest, since]);
    }
    out += &format!("{table}\nchanged: {}\n", changed(revision).replace('\n', "\n         "));
    if revision.number > 1 {
        out += &format!("every line: lockstep diff {} {}\n", revision.number - 1, revision.number);
    }
    out
}

async fn bundle(root: &Path, number: u64, machine: &str, json: bool) -> Result<Done, Failed> {
    let path = format!("/admin/revisions/{number}/bundle");
    let query = [("machine", Some(machine.to_owned()))];
    let shown: ShownBundle = look(root, &path, &query, |history| history.bundle(number, machine)).await?;
    if json {
        print_json(&shown)?;
        return Ok(Done::Good);
    }
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(["file", "mode", "owner", "bytes", "sha256"]);
    for file in &shown.files {
        let owner = file.owner.map_or("-".to_owned(), |owner| owner.to_string());
        let sha256: String = file.sha256.to_string().chars().take(12).collect();
        table.add_row([file.path.to_string(), file.mode.to_string(), owner, file.size.to_string(), sha256]);
    }
    let digest: String = shown.digest.to_string().chars().take(12).collect();
    print(&format!(
        "{}\n{} ({}), bundle {digest}\n{table}\na file: lockstep show {number} --machine {machine} --file PATH\n",
        line(&shown.revision),
        shown.machine,
        shown.role
    ))?;
    Ok(Done::Good)
}

async fn content(root: &Path, number: u64, file: &str, options: &Options) -> Result<Done, Failed> {
    let path = format!("/admin/revisions/{number}/file");
    let (machine, reveal) = (options.machine.as_deref(), options.reveal);
    let query = [
        ("path", Some(file.to_owned())),
        ("machine", machine.map(str::to_owned)),
        ("reveal", Some(reveal.to_string())),
    ];
    let shown: ShownContent = look(root, &path, &query, |history| history.file(number, machine, file, reveal)).await?;
    if options.json {
        print_json(&shown)?;
        return Ok(Done::Good);
    }
    match (shown.content, shown.content_base64) {
        (Some(text), _) => write_out(text.as_bytes())?,
        (None, base64) => write_out(&STANDARD.decode(base64.unwrap_or_default())?)?,
    }
    if shown.masked {
        say("secrets are masked: these are not the very bytes; --reveal shows them");
    }
    Ok(Done::Good)
}

/// Writes what a revision was made from: it is on this machine, leader or not.
fn source(root: &Path, number: u64, folder: &Path) -> Result<Done, Failed> {
    let source = History::open(&leader_config(root)?.state)?.source(number)?;
    let at = |path: &Path| {
        let path = path.display().to_string();
        move |error: std::io::Error| failed(format!("{path}: {error}"))
    };
    if folder.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(failed(format!("{} is not empty: name a new folder", folder.display())));
    }
    let mut folders = std::fs::DirBuilder::new();
    folders.recursive(true).mode(0o755);
    for (name, file) in &source.files {
        // Names were found by walking a folder, so that none leads out of one; a store from elsewhere might have others.
        if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(failed(format!("revision {number} has a file {name:?}, which is not written anywhere")));
        }
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        folders.create(parent).map_err(at(parent))?;
        let mode = if file.executable { 0o755 } else { 0o644 };
        let mut out =
            std::fs::File::options().write(true).create_new(true).mode(mode).open(&path).map_err(at(&path))?;
        std::io::Write::write_all(&mut out, &file.bytes).map_err(at(&path))?;
    }
    print(&format!("{} files of revision {number} are in {}\n", source.files.len(), folder.display()))?;
    Ok(Done::Good)
}
