//! References in Markdown, made from what the program itself knows: its
//! commands (`docs/commands.md`), and a release's settings (`docs/settings.md`).

use crate::help;
use clap::{Arg, Command};
use lockstep_leader::platform::schema::{Encoding, Scope, Setting, Settings};
use lockstep_leader::platform::wording;
use std::fmt::Write as _;

/// All commands.
pub(crate) fn commands() -> String {
    let mut command = help::command();
    command.build();
    let mut out = "# Commands\n\nMade by `scripts/reference` from the program itself; `lockstep help COMMAND` says the same. `--url`, `--token-file`, `--context`, `--root` and `--help` go with every command that heeds them.\n".to_owned();
    for (_, title, text) in help::TOPICS {
        let body: String = text.lines().skip(2).map(|line| format!("{line}\n")).collect();
        let _ = write!(out, "\n## {title}\n\n```text\n{}```\n", body.trim_start_matches('\n'));
    }
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        described(sub, "lockstep", 2, &mut out);
    }
    out
}

fn described(command: &Command, before: &str, level: usize, out: &mut String) {
    let path = format!("{before} {}", command.get_name());
    let _ = write!(out, "\n{} {path}\n\n", "#".repeat(level));
    if let Some(about) = command.get_about() {
        let _ = writeln!(out, "{about}.");
    }
    let arguments: Vec<&Arg> =
        command.get_arguments().filter(|argument| !argument.is_hide_set() && !is_everywhere(argument)).collect();
    if !arguments.is_empty() {
        let _ = write!(out, "\n| | |\n|---|---|\n");
    }
    for argument in arguments {
        let _ = writeln!(out, "| `{}` | {} |", spelt(argument), told(argument));
    }
    if let Some(examples) = command.get_after_long_help() {
        let text = examples.to_string();
        let lines: String = text.lines().skip(1).map(|line| format!("{}\n", line.trim_start())).collect();
        let _ = write!(out, "\n```sh\n{lines}```\n");
    }
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        described(sub, &path, level + 1, out);
    }
}

fn is_everywhere(argument: &Arg) -> bool {
    matches!(argument.get_id().as_str(), "url" | "token_file" | "context" | "dir" | "help" | "version")
}

fn spelt(argument: &Arg) -> String {
    let value = if argument.get_action().takes_values() {
        argument.get_value_names().map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    } else {
        None
    };
    let mut text = match (argument.get_short(), argument.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long}"),
        (None, Some(long)) => format!("--{long}"),
        (Some(short), None) => format!("-{short}"),
        (None, None) => return value.unwrap_or_else(|| argument.get_id().to_string().to_uppercase()),
    };
    if let Some(value) = value {
        let _ = write!(text, " {value}");
    }
    text
}

fn told(argument: &Arg) -> String {
    let mut text = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let defaults: Vec<String> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    let shown = argument.get_action().takes_values() && !argument.is_hide_default_value_set() && !defaults.is_empty();
    if shown && !text.contains("[default") {
        let _ = write!(text, " (default: `{}`)", defaults.join(" "));
    }
    let words: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|_| argument.get_action().takes_values())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if !words.is_empty() {
        let _ = write!(text, ": {}", words.join(", "));
    }
    text.replace('|', "\\|")
}

/// All settings of a release.
pub(crate) fn settings(settings: &Settings) -> String {
    let mut out = format!(
        "# Settings\n\nThose of release {}, made by `scripts/reference` from `templates/settings.yml`; `lockstep settings describe NAME` says the same, and which files use one.\n",
        settings.release
    );
    let mut group = "";
    for (name, setting) in &settings.by_name {
        if setting.group != group {
            let title = if setting.group.is_empty() { "Others" } else { &setting.group };
            let _ = write!(out, "\n## {title}\n");
            group = &setting.group;
        }
        let _ = write!(out, "\n**`{name}`** {}", title(setting));
        for line in facts(setting) {
            let _ = write!(out, "\n- {line}");
        }
        out.push('\n');
    }
    out
}

fn title(setting: &Setting) -> String {
    let description = setting.description.trim();
    match (setting.title.trim(), description) {
        ("", description) => format!("{description}\n"),
        (title, "") => format!("{title}\n"),
        (title, description) => format!("{title}. {description}\n"),
    }
}

fn facts(setting: &Setting) -> Vec<String> {
    let mut facts = Vec::new();
    match &setting.secret {
        Some(secret) => facts.push(match secret.generate {
            Some(generate) => format!(
                "a secret, made once: {} random bytes as {}, {}",
                generate.bytes,
                match generate.encoding {
                    Encoding::Base64Url => "base64url",
                    Encoding::Base64 => "base64",
                    Encoding::Hex => "hex",
                },
                match secret.scope {
                    Scope::Platform => "one for the platform",
                    Scope::Role => "one for each role",
                    Scope::Machine => "one for each machine",
                }
            ),
            None => "a secret that you give (`lockstep secrets set`)".to_owned(),
        }),
        None => facts.push(wording::kind(&setting.schema)),
    }
    facts.extend(wording::limits(&setting.schema));
    match &setting.default {
        Some(default) => facts.push(format!("default: `{}`", wording::shown(&default.to_json()))),
        None if setting.secret.is_some() => {}
        None if setting.optional => facts.push("may be left out".to_owned()),
        None => facts.push("**required**".to_owned()),
    }
    if setting.overridable {
        facts.push("may differ from machine to machine".to_owned());
    }
    facts
}
