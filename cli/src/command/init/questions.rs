//! Asking at the terminal what nobody has said yet. What is asked can always
//! be said by a flag too; what is typed is looked at before the next question.

use super::wishes::{Said, Wishes, address_of, known_role};
use super::{Options, survey};
use crate::exit::{Failed, failed};
use crate::hidden;
use lockstep_leader::founding::{Need, Survey};
use lockstep_leader::platform::Setting;
use lockstep_leader::platform::wording;
use lockstep_leader::source::Source;
use std::io::Write as _;

/// What is asked before the settings: roles, the leader's address, whether this machine follows.
pub(super) fn begin(options: &Options, wishes: &mut Wishes, release: &Survey) -> Result<(), Failed> {
    if wishes.roles.is_empty() && !release.roles().is_empty() {
        say("The roles of this release:\n")?;
        for (name, role) in release.roles() {
            let told = [role.title.trim(), role.description.trim()];
            let told: Vec<&str> = told.into_iter().filter(|part| !part.is_empty()).collect();
            say(&format!("  {:<14} {}\n", name.as_str(), told.join(". ")))?;
        }
        let only = match release.roles().len() {
            1 => release.roles().keys().next().map(ToString::to_string),
            _ => None,
        };
        until(
            "Which will your machines have? Name a role once for each machine that joins now",
            only.as_deref(),
            |typed| {
                let mut wrong = Vec::new();
                wishes.roles =
                    typed.split_whitespace().filter_map(|role| known_role(role, release, &mut wrong)).collect();
                wrong.into_iter().next().map_or(Ok(()), Err)
            },
        )?;
    }
    if options.addresses.is_empty() && !wishes.behind_proxy && options.listen.is_none() {
        let (port, proposed) = (wishes.listen.port(), wishes.addresses.join(" "));
        let proposed = Some(proposed).filter(|proposed| !proposed.is_empty());
        until("How do the other machines reach this one?", proposed.as_deref(), |typed| {
            let addresses: Result<Vec<String>, String> =
                typed.split_whitespace().map(|address| address_of(whole(address)?, port)).collect();
            wishes.addresses = addresses?;
            if wishes.addresses.is_empty() { Err("name at least one address".to_owned()) } else { Ok(()) }
        })?;
    }
    if wishes.here.is_none() && wishes.roles.len() == 1 {
        let role = wishes.roles.first().map(ToString::to_string).unwrap_or_default();
        until(&format!("Is this the machine that has the role {role}? yes or no"), Some("no"), |typed| match typed {
            "no" | "n" => Ok(()),
            "yes" | "y" => {
                wishes.follow_here(&role, options.name.as_deref(), release);
                wishes.roles.clear();
                Ok(())
            }
            _ => Err("type yes or no".to_owned()),
        })?;
    }
    Ok(())
}

/// An address as it is typed, unless it is a mere word: whoever answers with a sentence
/// would have given the names of several machines.
fn whole(typed: &str) -> Result<&str, String> {
    let (_, host) = typed.split_once("://").unwrap_or(("", typed));
    if host.contains(['.', ':']) {
        return Ok(typed);
    }
    Err(format!(
        "{typed} is no address that other machines surely know: type one like 192.0.2.10 or lead.example.com, several with spaces between (--address takes any name)"
    ))
}

/// One setting or secret.
pub(super) fn need(
    need: &Need,
    setting: &Setting,
    proposed: Option<&str>,
    wishes: &mut Wishes,
    templates: &Source,
    release: &Survey,
) -> Result<(), Failed> {
    say(&format!("\n{} ({})\n  {}\n", setting.title, need.name, setting.description.trim()))?;
    if need.secret {
        loop {
            let value = hidden::ask("  not shown: ")?;
            wishes.keep(&need.name, &value, release);
            match wishes.wrong.pop() {
                None => return Ok(()),
                Some(what) => say(&format!("  {what}\n"))?,
            }
        }
    }
    let mut kind = vec![wording::kind(&setting.schema)];
    kind.extend(wording::limits(&setting.schema));
    // A pattern helps nobody to type; what doesn't match it is told.
    let kind: Vec<String> = kind.into_iter().filter(|part| !part.is_empty() && !part.contains('^')).collect();
    until(&format!("  {}", kind.join("; ")), proposed, |typed| {
        let before = wishes.settings.remove(&need.name);
        wishes.say(&need.name, Said::Words(typed.to_owned()), "--set", release);
        let (values, wrong) = wishes.values(release);
        let found = wrong.into_iter().next().or_else(|| {
            let now = survey(templates, release, wishes, &values).ok()?;
            now.faults.iter().find(|fault| fault.setting.as_ref() == Some(&need.name)).map(|fault| fault.what.clone())
        });
        let Some(found) = found else { return Ok(()) };
        match before {
            Some(before) => drop(wishes.settings.insert(need.name.clone(), before)),
            None => drop(wishes.settings.remove(&need.name)),
        }
        Err(found)
    })
}

/// Asks until the answer is taken.
fn until(
    question: &str,
    proposed: Option<&str>,
    mut take: impl FnMut(&str) -> Result<(), String>,
) -> Result<(), Failed> {
    loop {
        let shown = proposed.map(|proposed| format!(" [{proposed}]")).unwrap_or_default();
        say(&format!("{question}{shown}: "))?;
        let mut line = String::new();
        if std::io::stdin().read_line(&mut line)? == 0 {
            return Err(failed("the questions were not answered: nothing was made"));
        }
        let typed = line.trim();
        let typed = if typed.is_empty() { proposed.unwrap_or_default() } else { typed };
        match take(typed) {
            Ok(()) => return Ok(()),
            Err(what) => say(&format!("  {what}\n"))?,
        }
    }
}

fn say(text: &str) -> Result<(), Failed> {
    let mut terminal = std::io::stderr().lock();
    write!(terminal, "{text}")?;
    Ok(terminal.flush()?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_sentence_is_not_several_addresses() {
        for typed in ["192.0.2.10", "lead.example.com:7001", "https://lead.example.com", "[2001:db8::1]", "lead:7000"] {
            assert_eq!(super::whole(typed), Ok(typed));
        }
        for typed in ["not", "a", "domain", "https://lead"] {
            assert!(super::whole(typed).is_err(), "{typed}");
        }
    }
}
