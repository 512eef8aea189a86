//! The first text of `platform.yml`: what this platform says, each setting
//! with its description over it, and what it might say, commented out.

use crate::fault::Faults;
use crate::platform::edit::Draft;
use crate::platform::{Setting, Settings};
use crate::source::PLATFORM;
use crate::yaml::Node;

/// Where a comment's lines end, in columns.
const WIDTH: usize = 100;

/// The text, with these values. `offered` are settings without a value that
/// may get one later. `release` is left out where it is empty.
pub fn platform_yml(
    settings: &Settings,
    values: &[(String, Node)],
    offered: &[&str],
    release: &str,
) -> Result<String, Faults> {
    let mut text = "# What this platform says: the one file to edit. `lockstep plan` shows what an edit changes, and\n\
                    # `lockstep publish` brings it to the machines. Every setting there is: `lockstep settings list`.\n"
        .to_owned();
    if !release.is_empty() {
        text += &format!("release: {release}\n");
    }
    text += "\nsettings:\n";
    for (name, _) in values {
        // Each has its place under its comment first, and its value, spelt as YAML wants it, after that.
        text += &comment(settings.by_name.get(name), "  ");
        text += &format!("  {name}: ~\n\n");
    }
    let mut draft = Draft::new(PLATFORM, text.trim_end_matches('\n'))?;
    for (name, value) in values {
        draft.set(&["settings", name], value)?;
    }
    let mut text = draft.text().trim_end_matches('\n').to_owned() + "\n";
    if values.is_empty() {
        text = text.replace("\nsettings:\n", "\nsettings: {}\n");
    }
    if !offered.is_empty() {
        text += "\n  # Not set. To set one, take the # away and give it a value, or type: lockstep settings set NAME VALUE\n";
    }
    for name in offered {
        text += &format!("\n{}  # {name}:\n", comment(settings.by_name.get(*name), "  "));
    }
    Ok(text)
}

fn comment(setting: Option<&Setting>, indent: &str) -> String {
    let Some(setting) = setting else { return String::new() };
    let said = [&setting.title, &setting.description];
    let said: Vec<&str> = said.into_iter().map(|part| part.trim()).filter(|part| !part.is_empty()).collect();
    let mut out = String::new();
    let mut line = String::new();
    for word in said.join(": ").split_whitespace() {
        if !line.is_empty() && indent.len() + 2 + line.chars().count() + 1 + word.chars().count() > WIDTH {
            out += &format!("{indent}# {line}\n");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    if line.is_empty() { out } else { out + &format!("{indent}# {line}\n") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::schema;
    use crate::platform::words;

    const SETTINGS: &str = "groups:
  G:
    settings:
      DOMAIN: {title: Domain, description: \"Domain of the platform. # no comment: a sentence\", schema: {type: string}}
      HOSTS: {title: Hosts, schema: {type: array, items: {type: string}}}
      NOTE: {title: A note, description: word word word word word word word word word word word word word word word word word word word word word, optional: true}
";

    #[test]
    fn every_value_stands_under_its_description() {
        let (settings, faults) = schema::read(SETTINGS);
        assert!(faults.is_empty());
        let value =
            |name: &str, typed: &str| (name.to_owned(), words::read(typed, &settings.by_name[name].schema).unwrap());
        let values = [value("DOMAIN", "yes: \"#\""), value("HOSTS", "[a, 1.10]")];
        insta::assert_snapshot!(platform_yml(&settings, &values, &["NOTE"], "1.2.0").unwrap());
        let none = platform_yml(&settings, &[], &["NOTE"], "").unwrap();
        assert!(crate::yaml::parse("x", &none).is_ok_and(|node| node.get("release").is_none()), "{none}");
    }
}
