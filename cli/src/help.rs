//! What `--help` shows beside what clap makes of the arguments: commands in
//! groups, in the order in which a newcomer needs them, examples for each, and
//! topics that belong to no command.

use crate::arguments::Arguments;
use clap::{Command, CommandFactory as _};

/// The commands under headings. One that this version doesn't have is passed over.
const GROUPS: [(&str, &[&str]); 8] = [
    ("Set up", &["init-platform", "join-platform", "tokens", "doctor", "import-pryv"]),
    ("Every day", &["status", "plan", "publish", "rollout", "wait", "notify", "logs"]),
    ("Settings and secrets", &["settings", "secrets", "certificates", "validate", "render"]),
    ("Look back, go back", &["history", "show", "diff", "blame", "rollback"]),
    ("Machines and people", &["followers", "ca", "access", "audit", "context"]),
    ("Keep and upgrade", &["backup", "restore", "migrate", "upgrade"]),
    ("Run", &["leader", "follower"]),
    ("This program", &["help", "version", "completions", "man"]),
];

/// Texts of `lockstep help TOPIC`.
pub(crate) const TOPICS: [(&str, &str, &str); 3] = [
    ("exit-codes", "What the exit codes mean", EXIT_CODES),
    ("environment", "Which environment variables are heeded", ENVIRONMENT),
    ("contexts", "How a leader elsewhere is steered", CONTEXTS),
];

const EXIT_CODES: &str = "\
Exit codes

  0  good; also where there was nothing to do
  1  an error: nothing was done, or it says what was. doctor: something is broken
  2  plan, diff, migrate --dry-run, import-pryv --verify: there are differences.
     Any command: it was typed wrong, and did nothing
  3  the fleet didn't follow: publish, rollback, rollout watch, wait, notify,
     secrets rotate --wait. A machine failed, wasn't reached, or the time was over

An error is on standard error, in the last line beginning with \"lockstep: \". With
--json, standard output holds one JSON document, or nothing where there was an error.
";

const ENVIRONMENT: &str = "\
Environment

  LOCKSTEP_ROOT, PRYV_CONF_ROOT   the home, where --root isn't said
  LOCKSTEP_URL                    a leader elsewhere, as --url
  LOCKSTEP_CONTEXT                a leader elsewhere, as --context
  LOCKSTEP_TOKEN                  the API token for LOCKSTEP_URL and --url
  LOCKSTEP_TOKEN_FILE             the same in a file, as --token-file
  LOCKSTEP_CA                     the authority of that leader, PEM; without, the system's
  LOCKSTEP_SECRET_NAME            the value of the secret NAME (leader, validate, render)
  LOCKSTEP_STORE_PASSPHRASE       of a store's key that is under one
  LOCKSTEP_LOG                    what is logged: info, debug, info,lockstep_leader=debug
  LOCKSTEP_HTTP__PORT, ...        any key of the configuration file, levels apart by __
  NO_COLOR                        no colours, whatever it is set to
  XDG_CONFIG_HOME                 where contexts are kept
";

const CONTEXTS: &str = "\
Contexts

One laptop can steer several platforms. On each leader's machine:

  lockstep access create zoe --right read --right publish

config-leader.json there needs an admin listener that others reach, with TLS (docs/api.md).
On the laptop:

  lockstep context add prod https://leader.example.com:7001
  lockstep --context prod status
  lockstep context use prod

A leader with an authority of its own shows its fingerprint once; compare it with what
lockstep ca show prints on the leader. From then on that authority is believed, and no other.

Which leader a command is for, the first of these that is said:

  1. --url              2. --context            3. --root (this machine)
  4. LOCKSTEP_URL       5. LOCKSTEP_CONTEXT     6. LOCKSTEP_ROOT (this machine)
  7. the context in use (lockstep context use), else this machine

These work on this machine's files and have no context: leader, follower, validate, render,
backup, restore, doctor, logs of this machine, secrets lock and unlock, import-pryv,
init-platform, join-platform, man, completions.
";

/// Of each command, what people type.
const EXAMPLES: &[(&str, &str)] = &[
    ("leader", "lockstep leader\nlockstep leader --root /srv/lockstep"),
    ("follower", "lockstep follower"),
    ("validate", "lockstep validate\nlockstep validate --json"),
    ("render", "lockstep render core\nlockstep render core --machine core-1 --out /tmp/core-1"),
    ("plan", "lockstep plan\nlockstep plan --json"),
    (
        "publish",
        "lockstep publish -m \"a new mail server\"\nlockstep publish --yes --wait --timeout 600\nlockstep publish --canary --pause 5m --on-failure return",
    ),
    ("rollout", "lockstep rollout\nlockstep rollout watch\nlockstep rollout stop"),
    ("notify", "lockstep notify\nlockstep notify --service nginx"),
    (
        "settings",
        "lockstep settings list\nlockstep settings describe DOMAIN\nlockstep settings set DOMAIN example.com\nlockstep settings set PORT 8080 --machine core-1",
    ),
    ("migrate", "lockstep migrate --dry-run\nlockstep migrate"),
    ("status", "lockstep status\nlockstep status --watch\nlockstep status --bad\nlockstep status --role core --json"),
    (
        "wait",
        "lockstep wait --applied latest\nlockstep wait --applied 42 --machine core-1 --timeout 60\nlockstep wait --ready",
    ),
    ("history", "lockstep history\nlockstep history --machine core-1 --limit 5"),
    (
        "show",
        "lockstep show 42\nlockstep show --machine core-1 --at 14:03\nlockstep show 42 --machine core-1 --file nginx/conf/nginx.conf",
    ),
    ("diff", "lockstep diff 41 42\nlockstep diff 41 42 --machine core-1"),
    ("rollback", "lockstep rollback 41 -m \"42 broke mail\"\nlockstep rollback 41 --yes --wait"),
    ("blame", "lockstep blame DOMAIN\nlockstep blame DOMAIN --machine core-1"),
    ("backup", "lockstep backup /srv/backups/leader.backup"),
    ("restore", "lockstep restore /srv/backups/leader.backup --root /var/lib/lockstep"),
    (
        "secrets",
        "lockstep secrets list\nlockstep secrets set TLS_KEY --file key.pem\nlockstep secrets rotate DB_PASSWORD --wait",
    ),
    (
        "access",
        "lockstep access create zoe --right read --right publish --expires 90d\nlockstep access list\nlockstep access revoke zoe",
    ),
    ("audit", "lockstep audit --since 7d\nlockstep audit --verify"),
    ("man", "lockstep man --out /usr/local/share/man/man1"),
    ("import-pryv", "lockstep import-pryv /var/pryv --out /var/lib/lockstep"),
    ("completions", "lockstep completions bash\nlockstep completions zsh"),
    ("doctor", "lockstep doctor\nlockstep doctor --all\nlockstep doctor --json"),
    (
        "logs",
        "lockstep logs\nlockstep logs follower -f\nlockstep logs nginx -n 200 --since 1h\nlockstep logs --machine core-1",
    ),
    (
        "context",
        "lockstep context add prod https://leader.example.com:7001\nlockstep context use prod\nlockstep --context prod status",
    ),
    ("version", "lockstep version\nlockstep version --json"),
    ("upgrade", "lockstep upgrade\nlockstep upgrade --json"),
    ("help", "lockstep help publish\nlockstep help exit-codes"),
    ("tokens", "lockstep tokens create --role core\nlockstep tokens list"),
    ("followers", "lockstep followers list\nlockstep followers show core-1\nlockstep followers rotate-key core-1"),
    ("ca", "lockstep ca show"),
    ("certificates", "lockstep certificates show\nlockstep certificates expiring"),
    ("init-platform", "lockstep init-platform --role singlenode --listen 192.0.2.10:7000"),
    ("join-platform", "lockstep join-platform TOKEN --role core --name core-1"),
];

/// The command line as clap knows it, completed.
pub(crate) fn command() -> Command {
    let mut command = Arguments::command();
    for (name, examples) in EXAMPLES {
        if command.find_subcommand(name).is_some() {
            command = command.mut_subcommand(name, |sub| {
                let lines: String = examples.lines().map(|line| format!("\n  {line}")).collect();
                sub.after_long_help(format!("Examples:{lines}"))
            });
        }
    }
    let template = format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{}Options:\n{{options}}\n\nlockstep help COMMAND says more of a command; of other things: {}.",
        groups(&command),
        TOPICS.map(|(name, _, _)| format!("lockstep help {name}")).join(", "),
    );
    command.help_template(template)
}

fn groups(command: &Command) -> String {
    let mut out = String::new();
    let listed = |names: &[&str]| -> String {
        let known = names.iter().filter_map(|name| command.find_subcommand(name));
        known.filter(|sub| !sub.is_hide_set()).map(line).collect()
    };
    for (title, names) in GROUPS {
        let lines = listed(names);
        if !lines.is_empty() {
            out += &format!("{title}:\n{lines}\n");
        }
    }
    // A command that nobody sorted in is better shown than lost.
    let lost: Vec<&str> = ungrouped(command);
    if !lost.is_empty() {
        out += &format!("More:\n{}\n", listed(&lost));
    }
    out
}

fn ungrouped(command: &Command) -> Vec<&str> {
    let grouped = |name: &str| GROUPS.iter().any(|(_, names)| names.contains(&name));
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    shown.map(Command::get_name).filter(|name| !grouped(name)).collect()
}

fn line(sub: &Command) -> String {
    let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
    // What comes after is in its own help.
    let about = about.split(';').next().unwrap_or_default();
    format!("  {:<14} {about}\n", sub.get_name())
}

/// The help of a command, of one below it, or of a topic; the error is what to type instead.
pub(crate) fn text(words: &[String]) -> Result<String, String> {
    let mut command = command();
    command.build();
    if let [topic] = words
        && let Some((_, _, text)) = TOPICS.iter().find(|(name, _, _)| name == topic)
    {
        return Ok((*text).to_owned());
    }
    let mut here = &mut command;
    for word in words {
        let known: Vec<String> = here.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        if !known.contains(word) {
            let topics = TOPICS.iter().map(|(name, _, _)| *name).filter(|_| words.len() == 1);
            let near = lockstep_leader::fault::nearest(word, known.iter().map(String::as_str).chain(topics));
            return Err(format!("there is no help on {word:?}{near} (lockstep help lists all commands)"));
        }
        here = here.find_subcommand_mut(word).ok_or_else(|| word.clone())?;
    }
    Ok(here.render_long_help().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words as a shell makes them of a line without anything but double quotes.
    fn words(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quoted = false;
        for letter in line.chars() {
            match letter {
                '"' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                letter => words.last_mut().unwrap().push(letter),
            }
        }
        words
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn every_command_is_sorted_in_and_has_examples_that_can_be_typed() {
        let command = command();
        assert_eq!(ungrouped(&command), Vec::<&str>::new(), "cli/src/help.rs: GROUPS");
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let examples = EXAMPLES.iter().find(|(name, _)| *name == sub.get_name());
            let (_, examples) =
                examples.unwrap_or_else(|| panic!("cli/src/help.rs: EXAMPLES lacks {}", sub.get_name()));
            for line in examples.lines() {
                let typed = super::command().try_get_matches_from(words(line));
                assert!(typed.is_ok(), "{line}: {}", typed.unwrap_err());
            }
        }
    }

    #[test]
    fn help_knows_commands_and_topics() {
        let help = |words: &[&str]| text(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert!(help(&["exit-codes"]).unwrap().contains("the fleet didn't follow"));
        assert!(help(&["publish"]).unwrap().contains("lockstep publish -m"));
        assert!(help(&["settings", "set"]).unwrap().contains("settings set"));
        assert!(help(&[]).unwrap().contains("Every day:"));
        assert!(help(&["pubish"]).unwrap_err().contains("did you mean publish?"));
        assert!(help(&["exit-code"]).unwrap_err().contains("did you mean exit-codes?"));
    }
}
