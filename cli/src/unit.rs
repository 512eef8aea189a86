//! How a leader or follower of this machine goes on running once its home is
//! made: as a systemd service where systemd runs the machine, and otherwise by
//! words that say how. What is done is decided first, so that it can be shown.

use crate::exit::{Failed, failed};
use lockstep_edge::durable;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The home that the units are written for.
const USUAL_ROOT: &str = "/var/lib/lockstep";
/// The program that the units are written for.
const USUAL_PROGRAM: &str = "/usr/local/bin/lockstep";
/// Where an administrator's units are.
const OWN_UNITS: &str = "/etc/systemd/system";
/// Where else units may be, a package's among them; systemd.unit(5), "Unit File Load Path".
const OTHER_UNITS: [&str; 3] = ["/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
/// What the units' `ProtectHome` hides; systemd.exec(5).
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];
/// What their `PrivateTmp` replaces.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// `lockstep leader`.
    Leader,
    /// `lockstep follower`.
    Follower,
}

impl Side {
    /// Its command: `leader`, `follower`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
        }
    }

    /// Its unit: `lockstep-leader.service`.
    pub(crate) fn unit(self) -> String {
        format!("lockstep-{}.service", self.word())
    }

    fn shipped(self) -> &'static str {
        match self {
            Self::Leader => include_str!("../../deploy/lockstep-leader.service"),
            Self::Follower => include_str!("../../deploy/lockstep-follower.service"),
        }
    }
}

/// How it is going to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Running {
    /// As a service.
    Systemd(Service),
    /// Somebody types a command.
    ByHand {
        /// Why there is no service, as words that go after "because".
        why: String,
        /// The command.
        command: String,
    },
}

/// A service of systemd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    side: Side,
    /// Files that are written first: the unit, where none is installed, and what is special about this home.
    files: Vec<(PathBuf, String)>,
}

/// What this machine is like.
#[derive(Debug)]
struct Machine {
    /// systemd is its first process; `sd_booted(3)`.
    systemd: bool,
    /// This is root.
    root: bool,
    /// The text of the unit that is installed, and where.
    installed: Option<(PathBuf, String)>,
    /// This program.
    program: PathBuf,
}

impl Machine {
    fn look(side: Side) -> Self {
        let folders = [OWN_UNITS].into_iter().chain(OTHER_UNITS);
        let installed = folders.map(|folder| Path::new(folder).join(side.unit())).find_map(|path| {
            let text = fs::read_to_string(&path).ok()?;
            Some((path, text))
        });
        let program = std::env::current_exe().and_then(|program| program.canonicalize());
        Self {
            systemd: Path::new("/run/systemd/system").is_dir(),
            root: rustix::process::geteuid().is_root(),
            installed,
            program: program.unwrap_or_else(|_| USUAL_PROGRAM.into()),
        }
    }
}

impl Running {
    /// How a leader or follower with this home is going to run. `wanted` is false with `--no-service`.
    pub(crate) fn of(side: Side, root: &Path, wanted: bool) -> Self {
        Self::decide(side, root, wanted, &Machine::look(side))
    }

    fn decide(side: Side, root: &Path, wanted: bool, machine: &Machine) -> Self {
        let shown = root.display().to_string();
        let by_hand = |why: &str| Self::ByHand {
            why: why.to_owned(),
            command: format!("lockstep {} --root {}", side.word(), quoted(&shown)),
        };
        if !wanted {
            return by_hand("--no-service was said");
        }
        if !machine.systemd {
            return by_hand("systemd doesn't run this machine");
        }
        if !machine.root {
            return by_hand("only root can install a service");
        }
        if root.to_str().is_none_or(|root| root.chars().any(char::is_control)) {
            return by_hand("systemd takes no such path");
        }
        let mut files = Vec::new();
        let program = machine.program.display().to_string();
        let (unit, runs) = match &machine.installed {
            Some((_, text)) => (None, program_of(text).unwrap_or(USUAL_PROGRAM).to_owned()),
            None => (Some(own_unit(side, &program)), program),
        };
        if let Some(unit) = unit {
            files.push((Path::new(OWN_UNITS).join(side.unit()), unit));
        }
        if shown != USUAL_ROOT {
            let place = Path::new(OWN_UNITS).join(format!("{}.d", side.unit())).join("root.conf");
            files.push((place, for_root(side, &shown, &runs)));
        }
        Self::Systemd(Service { side, files })
    }

    /// What is going to be done, a line each.
    pub(crate) fn plan(&self) -> Vec<String> {
        match self {
            Self::ByHand { why, command } => vec![format!("no service, because {why}; afterwards type: {command}")],
            Self::Systemd(Service { side, files }) => {
                let mut lines: Vec<String> =
                    files.iter().map(|(path, _)| format!("write {} (root, 0644)", path.display())).collect();
                lines.push(format!("start {} now, and whenever the machine starts", side.unit()));
                lines
            }
        }
    }

    /// Refuses where the service runs for another home already. Before anything is made.
    pub(crate) fn refuse_other(&self, root: &Path) -> Result<(), Failed> {
        let Self::Systemd(Service { side, .. }) = self else { return Ok(()) };
        let show = ["show", "--property=ActiveState,ExecStart", &side.unit()].map(ToOwned::to_owned);
        let shown = systemctl(&show).unwrap_or_default();
        let runs = shown.lines().any(|line| line == "ActiveState=active");
        let ours = shown.contains(&format!("--root {} ", root.display()));
        if runs && !ours {
            return Err(failed(format!(
                "{0} runs already, for another home: see systemctl status {0}. Stop that one, or say --no-service",
                side.unit()
            )));
        }
        Ok(())
    }

    /// Installs and starts it; what came of it, in words.
    pub(crate) fn start(&self) -> Result<String, Failed> {
        let Service { side, files } = match self {
            Self::Systemd(service) => service,
            Self::ByHand { why, command } => {
                return Ok(format!("The {} isn't started, because {why}. Type: {command}", self.word()));
            }
        };
        for (path, text) in files {
            let wrong = |error: std::io::Error| failed(format!("{}: {error}", path.display()));
            fs::create_dir_all(path.parent().unwrap_or(path)).map_err(wrong)?;
            durable::replace(path, text.as_bytes(), 0o644).map_err(wrong)?;
        }
        let unit = side.unit();
        systemctl(&["daemon-reload".to_owned()])?;
        systemctl(&["enable".to_owned(), unit.clone()])?;
        systemctl(&["restart".to_owned(), unit.clone()]).map_err(|Failed(why)| {
            failed(format!("{why}\nsee why: journalctl -u {unit} -n 20; then: systemctl restart {unit}"))
        })?;
        Ok(format!("{unit} runs, and starts with the machine. Its log: journalctl -u {unit}"))
    }

    fn word(&self) -> &str {
        match self {
            Self::Systemd(service) => service.side.word(),
            Self::ByHand { command, .. } => command.split(' ').nth(1).unwrap_or_default(),
        }
    }
}

fn systemctl(words: &[String]) -> Result<String, Failed> {
    let shown = || format!("systemctl {}", words.join(" "));
    let output = Command::new("systemctl")
        .args(words)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(format!("{}: {error}", shown())))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(format!("{}: {}", shown(), String::from_utf8_lossy(&output.stderr).trim())))
}

/// The shipped unit, for this program, without what it says about installing it by hand.
fn own_unit(side: Side, program: &str) -> String {
    let begin = side.shipped().find("[Unit]").unwrap_or_default();
    let text = side.shipped()[begin..].replace(USUAL_PROGRAM, &word(program));
    format!("# Written by lockstep: changes go into a file beside it (systemctl edit {}).\n{text}", side.unit())
}

/// What differs for another home: systemd.unit(5), "drop-in".
fn for_root(side: Side, root: &str, program: &str) -> String {
    let home = word(root);
    let mut text = format!("# Written by lockstep: the home is {}.\n[Service]\n", root.replace('\n', " "));
    if side == Side::Follower {
        text += &format!("Environment={}\n", word(&format!("PRYV_CONF_ROOT={root}")));
    }
    text += &format!("ExecStart=\nExecStart={} {} --root {home}\n", word(program), side.word());
    text += &format!("ReadWritePaths={home}\n");
    // What a unit hides or replaces is given back, but only this one folder and program.
    let lies_in = |path: &str, folders: &[&str]| folders.iter().any(|folder| Path::new(path).starts_with(folder));
    if side == Side::Leader && [root, program].into_iter().any(|path| lies_in(path, &HOMES)) {
        text += "ProtectHome=tmpfs\n";
    }
    for (path, key) in [(root, "BindPaths"), (program, "BindReadOnlyPaths")] {
        if lies_in(path, &HOMES) || lies_in(path, &TEMPORARY) {
            text += &format!("{key}={}\n", word(path).replace(':', "\\:"));
        }
    }
    text
}

/// The program of a unit's last `ExecStart=`.
fn program_of(unit: &str) -> Option<&str> {
    let line = unit.lines().rfind(|line| line.starts_with("ExecStart=/"))?;
    line.strip_prefix("ExecStart=")?.split_whitespace().next()
}

/// One word as systemd reads it: quoted where it has to be, nothing in it a specifier or a variable.
fn word(text: &str) -> String {
    let plain = text.chars().all(|c| c.is_alphanumeric() || "/._-+:=@,".contains(c));
    if plain {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$"))
}

/// One word as a shell reads it.
pub(crate) fn quoted(text: &str) -> String {
    let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+:=@,".contains(c));
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what a test lays out need not be durable")]
mod tests {
    use super::*;

    fn machine(installed: Option<&str>) -> Machine {
        let installed = installed.map(|text| ("/lib/systemd/system/x".into(), text.to_owned()));
        Machine { systemd: true, root: true, installed, program: "/opt/lockstep".into() }
    }

    fn files(side: Side, root: &str, machine: &Machine) -> Vec<(PathBuf, String)> {
        match Running::decide(side, Path::new(root), true, machine) {
            Running::Systemd(service) => service.files,
            Running::ByHand { why, .. } => panic!("{why}"),
        }
    }

    #[test]
    fn a_package_s_unit_is_used_as_it_is() {
        let package = Side::Leader.shipped().replace(USUAL_PROGRAM, "/usr/bin/lockstep");
        assert_eq!(files(Side::Leader, USUAL_ROOT, &machine(Some(&package))), []);
        let other = files(Side::Leader, "/srv/lockstep", &machine(Some(&package)));
        let [(path, text)] = &other[..] else { panic!("{other:?}") };
        assert_eq!(path, Path::new("/etc/systemd/system/lockstep-leader.service.d/root.conf"));
        assert!(text.contains("ExecStart=\nExecStart=/usr/bin/lockstep leader --root /srv/lockstep\n"), "{text}");
    }

    #[test]
    fn without_systemd_or_root_a_person_is_told_what_to_type() {
        for (machine, wanted) in [
            (Machine { systemd: false, ..machine(None) }, true),
            (Machine { root: false, ..machine(None) }, true),
            (machine(None), false),
        ] {
            let by_hand = Running::decide(Side::Follower, Path::new("/srv/it's here"), wanted, &machine);
            let said = by_hand.start().unwrap();
            assert!(said.starts_with("The follower isn't started, because "), "{said}");
            assert!(said.ends_with(r"Type: lockstep follower --root '/srv/it'\''s here'"), "{said}");
        }
    }

    /// systemd's own reader finds nothing wrong, also in homes with strange names.
    #[test]
    fn systemd_takes_what_is_written() {
        for root in [USUAL_ROOT, "/home/ann/lock step", "/srv/100%$HOME\"'\\"] {
            for side in [Side::Leader, Side::Follower] {
                let folder = tempfile::tempdir().unwrap();
                // A program that is there, or that alone would be what is wrong.
                let there = Machine { program: "/bin/true".into(), ..machine(None) };
                for (path, text) in files(side, root, &there) {
                    let path = folder.path().join(path.strip_prefix(OWN_UNITS).unwrap());
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, text).unwrap();
                }
                let output = Command::new("systemd-analyze")
                    .args(["verify", "--man=no", "--recursive-errors=no"])
                    .arg(folder.path().join(side.unit()))
                    .output()
                    .expect("systemd-analyze, of Debian's package systemd");
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                let ours = said.lines().filter(|line| line.contains("lockstep-")).collect::<Vec<_>>();
                assert!(ours.is_empty() && output.status.success(), "{root}: {said}");
            }
        }
    }
}
