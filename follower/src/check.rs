//! A role's checks: commands that must succeed on the staged files before
//! anything is replaced. They see the whole tree as it would be: in a folder of
//! its own on the machine, or where a service mounts it, in that service's image.

mod inside;

pub(crate) use inside::Site;

use crate::docker::{EngineError, set_off};
use crate::steps::Check;
use lockstep_shared::{Bundle, SafePath};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// How long one check may take where the role doesn't say.
const LIMIT: Duration = Duration::from_secs(30);
/// How many of its last lines are shown.
const LAST_LINES: usize = 10;

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The files could not be staged.
    #[error("the files could not be staged for their checks in {path}: {source}")]
    Stage {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The program is not there.
    #[error(
        "the check of {path} could not run {program}: {source}; install it on this machine, or correct check: in role.yml"
    )]
    Start {
        /// The checked file.
        path: SafePath,
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It is to run where the file isn't.
    #[error(
        "the check of {path} runs in {service}, but that service doesn't mount the file, and {{file}} means nothing there; correct check: in role.yml"
    )]
    Unseen {
        /// The checked file.
        path: SafePath,
        /// The service.
        service: String,
    },
    /// The engine didn't take part.
    #[error("a check could not be run: {0}")]
    Engine(#[from] EngineError),
    /// The check says no.
    #[error("the check of {path} ({command}) {how}{output}")]
    Refused {
        /// The checked file.
        path: SafePath,
        /// What was run.
        command: String,
        /// Its exit code, or that it took too long.
        how: String,
        /// The end of what it printed.
        output: String,
    },
}

/// Runs all checks on the tree of `bundle`; those on the machine see it staged
/// in `folder`, which is gone afterwards. The first one that fails ends it.
/// Returns what was left out, and why.
pub(crate) async fn run(
    checks: &[Check],
    bundle: &Bundle,
    folder: &Path,
    site: Option<Site<'_>>,
) -> Result<Vec<String>, CheckError> {
    let (inside, here): (Vec<&Check>, Vec<&Check>) = checks.iter().partition(|check| check.service.is_some());
    if !here.is_empty() {
        let outcome = match stage(bundle, folder) {
            Ok(()) => all(&here, folder).await,
            Err(error) => Err(error),
        };
        let _ = std::fs::remove_dir_all(folder);
        outcome?;
    }
    let mut skipped = Vec::new();
    let mut done: Vec<(&str, Vec<String>, Option<&SafePath>)> = Vec::new();
    for check in inside {
        let service = check.service.as_deref().unwrap_or_default();
        // Without a file in it, one command is one check, whatever number of files it is for.
        let about = check.command.iter().any(|word| word.contains("{file}")).then_some(&check.path);
        let this = (service, check.command.clone(), about);
        if done.contains(&this) {
            continue;
        }
        done.push(this);
        match site {
            Some(site) => skipped.extend(site.run(check, service, bundle).await?),
            None => skipped
                .push(format!("the check of {} in {service} was skipped: this machine has no engine", check.path)),
        }
    }
    Ok(skipped)
}

/// How long a check may take.
fn limit(check: &Check) -> Duration {
    check.seconds.map_or(LIMIT, |seconds| Duration::from_secs(seconds.into()))
}

/// The last of what a check said, for the end of an error.
fn last_lines(said: &str) -> String {
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
    if last.is_empty() { String::new() } else { format!(": {}", set_off(last)) }
}

fn stage(bundle: &Bundle, folder: &Path) -> Result<(), CheckError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| CheckError::Stage { path, source }
    };
    let make = |path: &Path| std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path));
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(folder)(error)),
        _ => make(folder)?,
    }
    for file in bundle.files.iter().filter(|file| file.volume.is_none()) {
        let path = folder.join(file.path.as_str());
        make(path.parent().unwrap_or(folder))?;
        let mut options = std::fs::OpenOptions::new();
        let mut staged = options.write(true).create_new(true).mode(file.mode.bits()).open(&path).map_err(at(&path))?;
        staged.write_all(&file.content).map_err(at(&path))?;
    }
    Ok(())
}

async fn all(checks: &[&Check], folder: &Path) -> Result<(), CheckError> {
    let mut done: Vec<Vec<String>> = Vec::new();
    for check in checks {
        let command = resolved(check, folder);
        if !done.contains(&command) {
            one(check, &command, folder).await?;
            done.push(command);
        }
    }
    Ok(())
}

/// The command with its places filled in.
fn resolved(check: &Check, folder: &Path) -> Vec<String> {
    let (tree, file) = (folder.display().to_string(), folder.join(check.path.as_str()).display().to_string());
    let named = check.command.iter().any(|word| word.contains("{file}") || word.contains("{tree}"));
    let fill = |word: &String| word.replace("{file}", &file).replace("{tree}", &tree);
    let mut command: Vec<String> = check.command.iter().map(fill).collect();
    if !named {
        command.push(file);
    }
    command
}

async fn one(check: &Check, command: &[String], folder: &Path) -> Result<(), CheckError> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let mut process = Command::new(program);
    process.args(arguments).current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    let refused = |how: String, output: &[u8]| {
        let text = String::from_utf8_lossy(output).replace(&format!("{}/", folder.display()), "");
        let output = last_lines(&text);
        Err(CheckError::Refused { path: check.path.clone(), command: check.command.join(" "), how, output })
    };
    match tokio::time::timeout(limit(check), process.output()).await {
        Err(_) => refused(format!("did not end within {} s", limit(check).as_secs()), &[]),
        Ok(Err(source)) => Err(CheckError::Start { path: check.path.clone(), program: program.clone(), source }),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => {
            let how = output
                .status
                .code()
                .map_or("was ended by a signal".to_owned(), |code| format!("failed with exit code {code}"));
            refused(how, &[output.stdout, output.stderr].concat())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_shared::{File, Name};

    fn check(command: &[&str]) -> Check {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        Check { path: SafePath::new("a/x.conf").unwrap(), command, service: None, seconds: Some(20) }
    }

    async fn outcome(command: &[&str]) -> Result<(), String> {
        let home = tempfile::tempdir().unwrap();
        let file = |path: &str, text: &str| File::plain(SafePath::new(path).unwrap(), text.as_bytes());
        let name = |text: &str| Name::new(text).unwrap();
        let files = vec![file("a/x.conf", "good\n"), file("b/y.conf", "other\n")];
        let bundle = Bundle::new(name("r"), name("m"), None, files).unwrap();
        let folder = home.path().join("staging");
        let outcome = run(&[check(command)], &bundle, &folder, None).await;
        assert!(!folder.exists());
        outcome.map(|_| ()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn sees_the_file_and_the_tree() {
        assert_eq!(outcome(&["grep", "-q", "good"]).await, Ok(()));
        assert_eq!(outcome(&["grep", "-q", "other", "{tree}/b/y.conf"]).await, Ok(()));
        assert_eq!(outcome(&["test", "-f", "{file}"]).await, Ok(()));
        let said = outcome(&["sh", "-c", "echo no such directive in $1; exit 3", "sh", "{file}"]).await.unwrap_err();
        assert!(said.ends_with("failed with exit code 3: no such directive in a/x.conf"), "{said}");
        let said = outcome(&["/no/such/program"]).await.unwrap_err();
        assert!(said.contains("could not run /no/such/program"), "{said}");
    }
}
