//! `lockstep settings`: look at settings, and edit them in `platform.yml`.

use super::show::Paint;
use super::{leader_config, print, print_json, say};
use crate::arguments::Root;
use crate::exit::{Done, Failed, failed};
use crate::socket::{Socket, escaped};
use clap::Subcommand;
use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use lockstep_leader::config::Config;
use lockstep_leader::desk::{Desk, Edited, MachineValue, SettingState, ValueSource, Wish};
use lockstep_leader::platform::wording::shown;
use lockstep_leader::uses::{FileSettings, SettingUses};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::io::Read as _;
use std::path::PathBuf;

/// The most characters of a value in a table.
const WIDEST: usize = 60;

#[derive(Debug, Subcommand)]
pub(crate) enum Settings {
    /// List all settings: value, and where it comes from
    List {
        #[command(flatten)]
        root: Root,
        /// As one machine sees them
        #[arg(long)]
        machine: Option<String>,
        /// Only those that no file is made from
        #[arg(long, conflicts_with = "machine")]
        unused: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print one setting's value
    Get {
        /// The setting
        name: String,
        #[command(flatten)]
        root: Root,
        /// As one machine sees it
        #[arg(long)]
        machine: Option<String>,
        /// Every machine's value, and where it comes from
        #[arg(long, conflicts_with = "machine")]
        all_machines: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Set a value in platform.yml; every other byte of the file stays
    Set {
        /// The setting
        name: String,
        /// The value: taken as typed for text, else YAML or JSON; - reads standard input
        #[arg(required_unless_present = "file", allow_negative_numbers = true)]
        value: Option<String>,
        #[command(flatten)]
        root: Root,
        /// For one machine only
        #[arg(long)]
        machine: Option<String>,
        /// Take the value from this file; - is standard input
        #[arg(long, value_name = "FILE", conflicts_with = "value")]
        file: Option<PathBuf>,
        /// Only if this is what is written now
        #[arg(long, value_name = "VALUE")]
        was: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a value out of platform.yml: the default holds again
    Unset {
        /// The setting
        name: String,
        #[command(flatten)]
        root: Root,
        /// For one machine only: the platform's value holds there again
        #[arg(long)]
        machine: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Tell all about one setting
    Describe {
        /// The setting
        name: String,
        #[command(flatten)]
        root: Root,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show where a setting goes: files, roles, machines; or which settings a file comes from
    Uses {
        /// The setting
        #[arg(required_unless_present = "file")]
        name: Option<String>,
        #[command(flatten)]
        root: Root,
        /// A file, as followers write it or as the release names it
        #[arg(long, value_name = "PATH", conflicts_with = "name")]
        file: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of platform.yml, for editors
    Schema {
        #[command(flatten)]
        root: Root,
    },
}

/// The running leader, or without one the files themselves.
struct Place {
    socket: Option<Socket>,
    desk: Desk,
    config: Config,
}

impl Place {
    fn at(root: &Root) -> Result<Self, Failed> {
        let config = leader_config(&root.path())?;
        Ok(Self { socket: Socket::find(&config)?, desk: Desk::new(config.clone()), config })
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        target: &str,
        offline: impl FnOnce(&Desk) -> Result<T, lockstep_leader::desk::DeskError>,
    ) -> Result<T, Failed> {
        match &self.socket {
            Some(socket) => socket.get(target).await,
            None => Ok(offline(&self.desk)?),
        }
    }

    async fn edit(&self, name: &str, machine: Option<&str>, wish: Wish, was: Option<Value>) -> Result<Edited, Failed> {
        // Without a leader through the same doors all the same, so that it stands in the audit.
        let (_turn, offline) = match &self.socket {
            Some(_) => (None, None),
            None => (Some(self.desk.turn()?), Some(Socket::or_files(self.config.clone())?)),
        };
        let Some(socket) = self.socket.as_ref().or(offline.as_ref()) else { return Err(failed("no way to a leader")) };
        let target = for_machine(&format!("/admin/settings/{}", escaped(name)), machine);
        match wish {
            Wish::Words(words) => socket.put(&target, &json!({"words": words, "seen": was})).await,
            Wish::Json(value) => socket.put(&target, &json!({"value": value, "seen": was})).await,
            Wish::Unset => socket.delete(&target).await,
        }
    }
}

fn for_machine(target: &str, machine: Option<&str>) -> String {
    machine.map_or_else(|| target.to_owned(), |machine| format!("{target}?machine={}", escaped(machine)))
}

pub(super) async fn run(command: Settings) -> Result<Done, Failed> {
    match command {
        Settings::List { root, machine, unused, json } => {
            list(&Place::at(&root)?, machine.as_deref(), unused, json).await
        }
        Settings::Get { name, root, all_machines: true, json, .. } => {
            on_machines(&Place::at(&root)?, &name, json).await
        }
        Settings::Get { name, root, machine, json, .. } => {
            get(&Place::at(&root)?, &name, machine.as_deref(), json).await
        }
        Settings::Set { name, value, root, machine, file, was, json } => {
            let words = match (value, file) {
                (Some(value), _) if value != "-" => value,
                (_, Some(file)) if file.as_os_str() != "-" => {
                    let text = std::fs::read_to_string(&file);
                    trimmed(text.map_err(|error| failed(format!("{}: {error}", file.display())))?)
                }
                _ => {
                    let mut text = String::new();
                    std::io::stdin().read_to_string(&mut text)?;
                    trimmed(text)
                }
            };
            let place = Place::at(&root)?;
            let was = match was {
                Some(was) => Some(seen(&place, &name, &was).await?),
                None => None,
            };
            report(&place.edit(&name, machine.as_deref(), Wish::Words(words), was).await?, json)
        }
        Settings::Unset { name, root, machine, json } => {
            report(&Place::at(&root)?.edit(&name, machine.as_deref(), Wish::Unset, None).await?, json)
        }
        Settings::Describe { name, root, json } => describe(&Place::at(&root)?, &name, json).await,
        Settings::Uses { name, root, file, json } => {
            uses(&Place::at(&root)?, name.as_deref(), file.as_deref(), json).await
        }
        Settings::Schema { root } => {
            let place = Place::at(&root)?;
            let schema: Value = place.ask("/admin/settings-schema", Desk::schema).await?;
            print_json(&schema)?;
            Ok(Done::Good)
        }
    }
}

/// A single line that a file ends with a newline is meant without it.
fn trimmed(text: String) -> String {
    match text.strip_suffix('\n') {
        Some(line) if !line.contains('\n') => line.trim_end_matches('\r').to_owned(),
        _ => text,
    }
}

/// What `--was` says, as what would be written for it.
async fn seen(place: &Place, name: &str, words: &str) -> Result<Value, Failed> {
    let state: SettingState =
        place.ask(&format!("/admin/settings/{}", escaped(name)), |desk| desk.get(name, None)).await?;
    let node = lockstep_leader::platform::words::read(words, &state.schema)
        .map_err(|what| failed(format!("--was: {what}")))?;
    Ok(node.to_json())
}

async fn list(place: &Place, machine: Option<&str>, unused: bool, json: bool) -> Result<Done, Failed> {
    let mut settings: Vec<SettingState> =
        place.ask(&for_machine("/admin/settings", machine), |desk| desk.list(machine)).await?;
    if unused {
        let names: Vec<String> = place.ask("/admin/settings-unused", Desk::unused).await?;
        settings.retain(|setting| names.contains(&setting.name));
    }
    if json {
        print_json(&settings)?;
        return Ok(Done::Good);
    }
    if settings.is_empty() {
        say(if unused { "every setting is used" } else { "this release has no settings" });
        return Ok(Done::Good);
    }
    let paint = Paint::new();
    let mut table = table();
    let mut group: Option<&str> = None;
    for setting in &settings {
        if group != Some(&setting.group) {
            if group.is_some() {
                table.add_row([""]);
            }
            table.add_row([paint.wrap("1", &setting.group)]);
            group = Some(&setting.group);
        }
        table.add_row([format!("  {}", setting.name), cell(setting), from(setting)]);
    }
    print(&lines(&table))?;
    Ok(Done::Good)
}

async fn get(place: &Place, name: &str, machine: Option<&str>, json: bool) -> Result<Done, Failed> {
    let target = for_machine(&format!("/admin/settings/{}", escaped(name)), machine);
    let state: SettingState = place.ask(&target, |desk| desk.get(name, machine)).await?;
    if json {
        print_json(&state)?;
        return Ok(Done::Good);
    }
    if let Some(value) = &state.value {
        print(&format!("{}\n", value.as_str().map_or_else(|| value.to_string(), str::to_owned)))?;
    } else if state.secret {
        say(&format!("{name} is a secret, and its value is never shown: see lockstep secrets list"));
    } else if !state.faults.is_empty() {
        let told: Vec<String> = state.faults.iter().map(ToString::to_string).collect();
        return Err(failed(format!("{}\ncorrect it with lockstep settings set {name} VALUE", told.join("\n"))));
    } else {
        say(&format!("{name} is not set; lockstep settings describe {name} says what it may be"));
    }
    Ok(Done::Good)
}

async fn on_machines(place: &Place, name: &str, json: bool) -> Result<Done, Failed> {
    let target = format!("/admin/settings/{}/machines", escaped(name));
    let values: Vec<MachineValue> = place.ask(&target, |desk| desk.on_machines(name)).await?;
    if json {
        print_json(&values)?;
        return Ok(Done::Good);
    }
    if values.is_empty() {
        say("no machine is declared: see lockstep settings get NAME");
    }
    let mut table = table();
    for value in &values {
        let shown = value.value.as_ref().map_or_else(|| absent(value.source).to_owned(), |value| short(&shown(value)));
        let mut source = origin(value.source, value.line);
        if value.source == ValueSource::Machine {
            source.push_str(&format!(" (machines: {})", value.machine));
        }
        table.add_row([value.machine.clone(), shown, source]);
    }
    print(&lines(&table))?;
    Ok(Done::Good)
}

async fn describe(place: &Place, name: &str, json: bool) -> Result<Done, Failed> {
    let target = format!("/admin/settings/{}", escaped(name));
    let state: SettingState = place.ask(&target, |desk| desk.get(name, None)).await?;
    // Broken templates are no reason to say nothing of a setting.
    let uses: Option<SettingUses> = place.ask(&format!("{target}/uses"), |desk| desk.uses(name)).await.ok();
    if json {
        print_json(&json!({"setting": state, "uses": uses}))?;
        return Ok(Done::Good);
    }
    let paint = Paint::new();
    let mut out = format!("{}  {}\n", paint.wrap("1", name), state.title);
    if !state.description.is_empty() {
        out.push_str(&format!("{}\n", state.description.trim_end()));
    }
    out.push('\n');
    let mut line = |label: &str, text: &str| out.push_str(&format!("{label:<12}{text}\n"));
    let limits: String = state.limits.iter().map(|limit| format!("; {limit}")).collect();
    line("group", &state.group);
    line("type", &format!("{}{limits}", state.kind));
    match &state.default {
        Some(default) => line("default", &shown(default)),
        None if state.secret => {}
        None if state.optional => line("default", "none; may be left unset"),
        None => line("default", "none; required"),
    }
    if state.secret {
        line("secret", "never shown and never in platform.yml: lockstep secrets");
    } else {
        line("value", &format!("{}  ({})", cell_full(&state), from(&state)));
    }
    line("machines", if state.overridable { "may differ: --machine NAME" } else { "the same on all" });
    for own in &state.overrides {
        let value = own.value.as_ref().map(shown).unwrap_or_default();
        line("", &format!("{}: {value}  ({})", own.machine, origin(own.source, own.line)));
    }
    if let Some(uses) = uses {
        let count = uses.files.len();
        let more =
            if count > 3 { format!(" and {} more: lockstep settings uses {name}", count - 3) } else { String::new() };
        let first: Vec<String> = uses.files.iter().take(3).map(|file| format!("{}/{}", file.role, file.path)).collect();
        line("used by", &if count == 0 { "no file".to_owned() } else { format!("{}{more}", first.join(", ")) });
        if !uses.settings.is_empty() {
            line("taken in by", &uses.settings.join(", "));
        }
    }
    for fault in &state.faults {
        out.push_str(&format!("\n{fault}\n"));
    }
    print(&out)?;
    Ok(Done::Good)
}

async fn uses(place: &Place, name: Option<&str>, file: Option<&str>, json: bool) -> Result<Done, Failed> {
    let Some(name) = name else {
        let file = file.unwrap_or_default();
        let target = format!("/admin/settings-files?file={}", escaped(file));
        let files: Vec<FileSettings> = place.ask(&target, |desk| desk.files(Some(file))).await?;
        if json {
            print_json(&files)?;
            return Ok(Done::Good);
        }
        for file in &files {
            print(&format!("{}/{}  (from {})\n", file.role, file.path, file.template))?;
            for setting in &file.settings {
                print(&format!("  {setting}\n"))?;
            }
            for setting in &file.through {
                print(&format!("  {setting}  (by reference)\n"))?;
            }
            if file.settings.is_empty() {
                print("  no setting\n")?;
            }
        }
        return Ok(Done::Good);
    };
    let target = format!("/admin/settings/{}/uses", escaped(name));
    let uses: SettingUses = place.ask(&target, |desk| desk.uses(name)).await?;
    if json {
        print_json(&uses)?;
        return Ok(Done::Good);
    }
    if !uses.settings.is_empty() {
        print(&format!("taken in by {}\n", uses.settings.join(", ")))?;
    }
    if uses.files.is_empty() {
        say(&format!("no file is made from {name}"));
        return Ok(Done::Good);
    }
    let mut table = table();
    table.add_row(["role", "file", "machines", "acts on", "how"]);
    for file in &uses.files {
        let machines = if file.machines.is_empty() { "none".to_owned() } else { file.machines.join(", ") };
        let how = file.through.as_ref().map_or_else(|| "named".to_owned(), |through| format!("through {through}"));
        let named = [file.services.clone(), file.containers.clone()].concat().join(", ");
        let acts = if named.is_empty() { "those that mount it".to_owned() } else { named };
        table.add_row([file.role.clone(), file.path.clone(), machines, acts, how]);
    }
    print(&lines(&table))?;
    Ok(Done::Good)
}

fn report(edited: &Edited, json: bool) -> Result<Done, Failed> {
    if json {
        print_json(edited)?;
        return Ok(Done::Good);
    }
    let whom = edited.machine.as_ref().map(|machine| format!(" for {machine}")).unwrap_or_default();
    let told =
        |value: &Option<Value>| value.as_ref().map_or_else(|| "(not set)".to_owned(), |value| short(&shown(value)));
    if !edited.changed {
        say(&format!("{}{whom} is {} already: nothing was written", edited.name, told(&edited.after)));
        return Ok(Done::Good);
    }
    let line = edited.line.map(|line| format!("  (platform.yml:{line})")).unwrap_or_default();
    print(&format!("{}{whom}: {} -> {}{line}\n", edited.name, told(&edited.before), told(&edited.after)))?;
    say("not published yet: lockstep plan shows what it changes, lockstep publish does it");
    Ok(Done::Good)
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

fn lines(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim_end().strip_prefix(' ').unwrap_or(line.trim_end()))).collect()
}

fn short(text: &str) -> String {
    let line = text.replace('\n', "\\n");
    if line.chars().count() <= WIDEST { line } else { format!("{}…", line.chars().take(WIDEST).collect::<String>()) }
}

fn cell(setting: &SettingState) -> String {
    short(&cell_full(setting))
}

fn cell_full(setting: &SettingState) -> String {
    match &setting.value {
        Some(value) => shown(value),
        None if !setting.faults.is_empty() => "(wrong: lockstep validate)".to_owned(),
        None if setting.source == ValueSource::Unset && !setting.optional => "(MISSING)".to_owned(),
        None => absent(setting.source).to_owned(),
    }
}

fn absent(source: ValueSource) -> &'static str {
    if source == ValueSource::Secret { "••••••••" } else { "(not set)" }
}

fn from(setting: &SettingState) -> String {
    let mut text = origin(setting.source, setting.line);
    match setting.overrides.len() {
        0 => {}
        1 => text.push_str(&format!("; differs on {}", setting.overrides[0].machine)),
        n => text.push_str(&format!("; differs on {n} machines")),
    }
    text
}

fn origin(source: ValueSource, line: Option<usize>) -> String {
    let line = line.map(|line| format!(":{line}")).unwrap_or_default();
    match source {
        ValueSource::Default => "default".to_owned(),
        ValueSource::Platform | ValueSource::Machine => format!("platform.yml{line}"),
        ValueSource::Unset => "-".to_owned(),
        ValueSource::Secret => "secret".to_owned(),
    }
}
