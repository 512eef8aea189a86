//! One file a command; what several print stands in `show`.

mod access;
mod ask;
mod audit;
mod backup;
mod blame;
mod ca;
mod certificates;
mod context;
mod diff;
mod disk;
mod doctor;
mod drift;
mod fleet;
mod follow;
mod follower;
mod followers;
mod going;
mod history;
mod import;
mod init;
mod join;
mod leader;
mod live;
mod logs;
mod lookback;
mod man;
pub(crate) mod migrate;
mod notify;
mod plan;
mod publish;
mod render;
mod revision;
mod rollback;
mod rollout;
mod screen;
mod secrets;
pub(crate) mod settings;
mod show;
mod status;
mod tokens;
mod trouble;
mod upgrade;
mod validate;
mod version;
mod wait;

pub(crate) use access::Access;
pub(crate) use audit::Options as AuditOptions;
pub(crate) use backup::{Options as BackupOptions, RestoreOptions};
pub(crate) use blame::Options as BlameOptions;
pub(crate) use ca::Ca;
pub(crate) use certificates::Certificates;
pub(crate) use context::Leaders;
pub(crate) use diff::Options as DiffOptions;
pub(crate) use doctor::Options as DoctorOptions;
pub(crate) use follow::Following;
pub(crate) use followers::Followers;
pub(crate) use going::Going;
pub(crate) use history::Options as HistoryOptions;
pub(crate) use import::Options as ImportOptions;
pub(crate) use init::Options as InitOptions;
pub(crate) use join::Options as JoinOptions;
pub(crate) use logs::Options as LogsOptions;
pub(crate) use revision::Options as ShowOptions;
pub(crate) use rollback::Options as RollbackOptions;
pub(crate) use rollout::Steer;
pub(crate) use secrets::Secrets;
pub(crate) use status::Options as StatusOptions;
pub(crate) use tokens::Tokens;
#[cfg(test)]
pub(crate) use trouble::tests as trouble_tests;
pub(crate) use trouble::{Grade, troubles};
pub(crate) use wait::Options as WaitOptions;

use crate::arguments::{Arguments, Command};
use crate::exit::{Done, Failed, failed};
use crate::remote;
use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use lockstep_leader::audit::Audit;
use lockstep_leader::config::Config;
use lockstep_leader::leader::LeaderError;
use lockstep_leader::press::Press;
use lockstep_leader::who::{Actor, How};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// How wide a terminal is that doesn't say so, in columns.
const USUAL_WIDTH: u16 = 80;

/// A follower, and no other command.
pub(crate) fn run_follower(root: &Path) -> Result<Done, Failed> {
    lockstep_edge::secrecy::begin();
    follower::run(root)
}

pub(crate) fn run(arguments: Arguments) -> Result<Done, Failed> {
    lockstep_edge::secrecy::begin();
    remote::remember(arguments.url, arguments.token_file, arguments.context);
    match arguments.command {
        Command::Leader { .. }
        | Command::Follower { .. }
        | Command::Validate { .. }
        | Command::Render { .. }
        | Command::Backup { .. }
        | Command::Restore { .. }
        | Command::Secrets { secrets: Secrets::Lock | Secrets::Unlock, .. }
        | Command::Doctor { .. }
        | Command::Man { .. }
        | Command::ImportPryv { .. }
        | Command::JoinPlatform { .. }
        | Command::InitPlatform { .. }
        | Command::Completions { .. } => remote::refuse()?,
        _ => {}
    }
    match arguments.command {
        Command::Leader { root } => leader::run(&root.path()),
        Command::Follower { root } => follower::run(&root.path()),
        Command::Validate { root, json } => validate::run(&root.path(), json),
        Command::Render { role, root, machine, out, format } => {
            render::run(&root.path(), &role, machine.as_deref(), out.as_deref(), format)
        }
        Command::Plan { root, json } => wait_for(plan::run(&root.path(), json)),
        Command::Publish { root, message, yes, plan, going, following, json } => {
            let options = publish::Options { message, yes, plan, wish: going.wish()?, following, json };
            wait_for(publish::run(&root.path(), options))
        }
        Command::Rollout { steer, root, json } => wait_for(rollout::run(&root.path(), steer, json)),
        Command::Notify { root, services, json } => wait_for(notify::run(&root.path(), services, json)),
        Command::Settings { command } => wait_for(settings::run(command)),
        Command::Migrate { root, options } => wait_for(migrate::run(&root.path(), options)),
        Command::Status { root, options } => wait_for(status::run(&root.path(), options)),
        Command::Context { command } => wait_for(context::run(command)),
        Command::Logs { root, options } => wait_for(logs::run(&root.path(), options)),
        Command::Upgrade { root, json } => wait_for(upgrade::run(&root.path(), json)),
        Command::Version { json } => version::run(json),
        Command::Help { words } => {
            print(&crate::help::text(&words).map_err(failed)?)?;
            Ok(Done::Good)
        }
        Command::Reference { settings } => reference(settings.as_deref()),
        Command::Doctor { root, options } => wait_for(doctor::run(&root.path(), options)),
        Command::Wait { root, options } => wait_for(wait::run(&root.path(), options)),
        Command::History { root, options } => wait_for(history::run(&root.path(), options)),
        Command::Show { root, options } => wait_for(revision::run(&root.path(), options)),
        Command::Diff { root, options } => wait_for(diff::run(&root.path(), options)),
        Command::Rollback { root, options } => wait_for(rollback::run(&root.path(), options)),
        Command::Blame { root, options } => wait_for(blame::run(&root.path(), options)),
        Command::Backup { root, options } => backup::save(&root.path(), &options),
        Command::Restore { root, options } => backup::restore(&root.path(), options),
        Command::Secrets { root, secrets } => wait_for(secrets::run(&root.path(), secrets)),
        Command::Certificates { root, certificates } => wait_for(certificates::run(&root.path(), certificates)),
        Command::Access { root, access } => wait_for(access::run(&root.path(), access)),
        Command::Tokens { root, tokens } => wait_for(tokens::run(&root.path(), tokens)),
        Command::Followers { root, followers } => wait_for(followers::run(&root.path(), followers)),
        Command::Ca { root, ca } => wait_for(ca::run(&root.path(), ca)),
        Command::Audit { root, options } => wait_for(audit::run(&root.path(), options)),
        Command::JoinPlatform { root, options } => wait_for(join::run(&root.path(), options)),
        Command::Man { out } => man::run(&out),
        Command::ImportPryv { root, options } => import::run(&root.path(), &options),
        Command::InitPlatform { root, options } => init::run(&root.path(), &options),
        Command::Completions { shell } => {
            let shells = clap_complete::env::Shells::builtins();
            let shell = shells
                .completer(&shell.to_string())
                .ok_or_else(|| failed("there are no completions for this shell"))?;
            let mut script = Vec::new();
            // By its name, not its place: that may be another one after an upgrade.
            shell.write_registration("COMPLETE", "lockstep", "lockstep", "lockstep", &mut script)?;
            write_out(&script)?;
            Ok(Done::Good)
        }
    }
}

/// A reference, for scripts/reference.
fn reference(settings: Option<&Path>) -> Result<Done, Failed> {
    let Some(file) = settings else {
        print(&crate::reference::commands())?;
        return Ok(Done::Good);
    };
    let text = std::fs::read_to_string(file).map_err(|error| failed(format!("{}: {error}", file.display())))?;
    let (settings, faults) = lockstep_leader::platform::schema::read(&text);
    match faults.first() {
        None => print(&crate::reference::settings(&settings))?,
        Some(fault) => return Err(failed(fault)),
    }
    Ok(Done::Good)
}

pub(crate) fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn leader_config(root: &Path) -> Result<Config, Failed> {
    Ok(Config::load(root, environment())?)
}

/// A short command that waits for the leader.
fn wait_for<T>(work: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Does something to a leader's files while it doesn't run, with a record of it
/// in the audit; `noted` says what came of it.
fn recorded<T>(
    press: &mut Press,
    action: &str,
    work: impl FnOnce(&mut Press) -> Result<T, LeaderError>,
    noted: impl FnOnce(&T) -> String,
) -> Result<T, LeaderError> {
    let store = press.store().beside()?;
    Audit::around(store, &offline_actor(), action, || work(press), noted)
}

/// Who types, where no leader runs that could ask.
pub(crate) fn offline_actor() -> Actor {
    Actor::local(&author(), How::Offline { uid: rustix::process::getuid().as_raw() })
}

/// A revision, as it is typed.
fn revision_number(typed: &str) -> Result<u64, String> {
    typed.parse().map_err(|_| "a revision is a number, e.g. 12; lockstep history lists them".to_owned())
}

/// `IP:PORT`, as `--listen` takes it.
fn socket_address(typed: &str) -> Result<SocketAddr, String> {
    typed.parse().map_err(|_| match typed.parse::<IpAddr>() {
        Ok(ip) => format!("a port is missing: with one it is {}, for example", SocketAddr::new(ip, 7000)),
        Err(_) => {
            "write IP:PORT, such as 192.0.2.10:7000 or [2001:db8::1]:7000; 0.0.0.0:7000 is every address".to_owned()
        }
    })
}

/// How many columns the terminal has; `None` where there is none, and lines are as long as they are.
fn columns() -> Option<u16> {
    // 0 is one that doesn't know: a serial line, an editor's shell.
    Table::new().width().map(|width| if width == 0 { USUAL_WIDTH } else { width })
}

/// The columns that a row takes where nothing is broken into lines: of each the widest cell, and a blank on either side.
fn whole_width<const N: usize>(heads: [&str; N], rows: &[[String; N]], shown: &[usize]) -> usize {
    let width = |column: &usize| {
        let cells = rows.iter().map(|row| row[*column].chars().count());
        cells.chain([heads[*column].len()]).max().unwrap_or_default() + 2
    };
    shown.iter().map(width).sum()
}

/// A table with these heads.
fn table<'h>(heads: impl IntoIterator<Item = &'h str>) -> Table {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(heads.into_iter().collect::<Vec<_>>());
    if let Some(width) = columns() {
        table.set_width(width);
    }
    table
}

/// So many of them, as people say it: `1 file`, `2 files`.
pub(crate) fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Prints one JSON document.
fn print_json(value: &impl serde::Serialize) -> Result<(), Failed> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Prints; a reader that went away is no failure.
fn print(text: &str) -> Result<(), Failed> {
    write_out(text.as_bytes())
}

fn write_out(bytes: &[u8]) -> Result<(), Failed> {
    match std::io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// What a person should know beside the result.
#[allow(clippy::print_stderr)]
pub(crate) fn say(text: &str) {
    eprintln!("{}", crate::hints::complete(text));
}

/// Who types: for the history.
pub(crate) fn author() -> String {
    let name = |variable| std::env::var(variable).ok().filter(|name| !name.is_empty());
    let typed = name("SUDO_USER").or_else(|| name("USER")).or_else(|| name("LOGNAME"));
    typed.unwrap_or_else(|| account(rustix::process::getuid().as_raw()))
}

/// The account with this number, where the environment names none: in cron, in a service.
fn account(uid: u32) -> String {
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut fields = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let named = fields.find(|fields| fields.get(2).is_some_and(|number| number.parse() == Ok(uid)));
    named.and_then(|fields| fields.first().map(ToString::to_string)).unwrap_or_else(|| format!("uid {uid}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_account_has_a_name_or_its_number() {
        assert_eq!(super::account(0), "root");
        assert_eq!(super::account(u32::MAX - 7), "uid 4294967288");
    }
}
