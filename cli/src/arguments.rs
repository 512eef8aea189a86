//! What can be typed.

use clap::{Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// Configuration for a fleet of machines that run Docker Compose
#[derive(Debug, Parser)]
#[command(name = "lockstep", version, disable_help_subcommand = true, propagate_version = true)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// The leader's admin listener, to act on it from another machine.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        help = "The leader's admin listener, to act on it from another machine [env: LOCKSTEP_URL, with LOCKSTEP_TOKEN]"
    )]
    pub(crate) url: Option<String>,
    /// The file with the API token for it.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help = "The file with the API token for it [env: LOCKSTEP_TOKEN_FILE]"
    )]
    pub(crate) token_file: Option<PathBuf>,
    /// A leader elsewhere, by the name that lockstep context add gave it.
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        conflicts_with_all = ["url", "token_file"],
        help = "A leader elsewhere, by its name: lockstep context list [env: LOCKSTEP_CONTEXT]"
    )]
    pub(crate) context: Option<String>,
}

/// The home in `follower`, or `follower --root DIR`: how machines start one. Clap says the same of
/// these words, but it builds every command to do so, and a process that runs for months would keep
/// what that takes in its memory. `None`: anything else.
pub(crate) fn follower_alone(words: &[OsString]) -> Option<Root> {
    let (command, rest) = words.split_first()?;
    let dir = match rest {
        [] => None,
        [flag, dir] if flag == "--root" => Some(PathBuf::from(dir)),
        _ => return None,
    };
    // What clap takes for a flag, or for no value at all.
    let odd = dir.as_ref().is_some_and(|dir| matches!(dir.as_os_str().as_encoded_bytes().first(), None | Some(b'-')));
    (command == "follower" && !odd).then_some(Root { dir })
}

/// Where the files are.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Root {
    /// The home folder.
    #[arg(
        long = "root",
        value_name = "DIR",
        global = true,
        help = "The home folder [default: $LOCKSTEP_ROOT, then $PRYV_CONF_ROOT, then /var/lib/lockstep]"
    )]
    dir: Option<PathBuf>,
}

impl Root {
    /// The folder, absolute.
    pub(crate) fn path(&self) -> PathBuf {
        let from_env = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if self.dir.is_some() {
            crate::remote::stay();
        }
        let root = self.dir.clone().or_else(|| from_env("LOCKSTEP_ROOT")).or_else(|| from_env("PRYV_CONF_ROOT"));
        let root = root.unwrap_or_else(|| PathBuf::from("/var/lib/lockstep"));
        let root = std::path::absolute(&root).unwrap_or(root);
        if self.dir.is_some() {
            crate::hints::at(&root);
        }
        root
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the leader in the foreground
    Leader {
        #[command(flatten)]
        root: Root,
    },
    /// Run a follower in the foreground
    Follower {
        #[command(flatten)]
        root: Root,
    },
    /// Say everything that is wrong with the leader's files; exit 1 if anything is
    Validate {
        #[command(flatten)]
        root: Root,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Render a role from the files on disk
    Render {
        /// The role
        role: String,
        #[command(flatten)]
        root: Root,
        /// A machine's own view
        #[arg(long)]
        machine: Option<String>,
        /// Write the tree into this folder, which has to be new or empty
        #[arg(long, value_name = "DIR", conflicts_with = "format")]
        out: Option<PathBuf>,
        /// Print it in this form
        #[arg(long, value_enum, default_value_t = Format::Json)]
        format: Format,
    },
    /// Show what publishing would change; exit 0 nothing, 2 something, 1 error
    Plan {
        #[command(flatten)]
        root: Root,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a new platform: the leader's home, its keys and its first revision
    InitPlatform {
        #[command(flatten)]
        root: Root,
        #[command(flatten)]
        options: crate::command::InitOptions,
    },
    /// Validate, render and publish what is on disk, and notify the followers
    Publish {
        #[command(flatten)]
        root: Root,
        /// Why, for the history
        #[arg(short, long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        message: String,
        /// Don't ask
        #[arg(long)]
        yes: bool,
        /// Only if it is this plan, by the id that lockstep plan gave
        #[arg(long, value_name = "ID")]
        plan: Option<String>,
        #[command(flatten)]
        going: crate::command::Going,
        #[command(flatten)]
        following: crate::command::Following,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show how far the last revision has come, and steer it
    Rollout {
        #[command(subcommand)]
        steer: Option<crate::command::Steer>,
        #[command(flatten)]
        root: Root,
        /// Print JSON
        #[arg(long, global = true)]
        json: bool,
    },
    /// Tell the followers again, without publishing
    Notify {
        #[command(flatten)]
        root: Root,
        /// Act on this compose service only, whether or not its files changed (repeatable)
        #[arg(long = "service", value_name = "SERVICE")]
        services: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Look at settings, and edit them in platform.yml
    Settings {
        #[command(subcommand)]
        command: crate::command::settings::Settings,
    },
    /// Migrate platform.yml to the release in templates/, or back
    Migrate {
        #[command(flatten)]
        root: Root,
        #[command(flatten)]
        options: crate::command::migrate::Options,
    },
    /// Show what is published, what every machine runs, what is wrong, and what to do about it
    Status {
        #[command(flatten)]
        root: Root,
        #[command(flatten)]
        options: crate::command::StatusOptions,
    },
    /// Show what the leader or follower of this machine says, a service's containers, or what is known of another machine
    Logs {
        #[command(flatten)]
        root: Root,
        #[command(flatten)]
        options: crate::command::LogsOptions,
    },
    /// Say what this version of the program changes for this platform, and in which order to install it
    Upgrade {
        #[command(flatten)]
        root: Root,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Say which version this is
    Version {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Say more of a command, or of exit-codes, environment, contexts
    Help {
        /// A command, or a topic
        #[arg(value_name = "COMMAND")]
        words: Vec<String>,
    },
    /// Print a reference in Markdown: commands, or a release's settings
    #[command(hide = true)]
    Reference {
        /// Its settings.yml; without, all commands
        #[arg(value_name = "FILE")]
        settings: Option<PathBuf>,
    },
    /// Steer leaders elsewhere by names
    Context {
        #[command(subcommand)]
        command: crate::command::Leaders,
    },
    /// Look for what is wrong around the leader or follower of this machine, and say how to mend it; exit 1 if something is broken
    Doctor {
        #[command(flatten)]
        root: Root,
        #[command(flatten)]
        options: crate::command::DoctorOptions,
    },
    /// Wait until machines run a revision, or the leader is ready; exit 3 if that doesn't come
    Wait {
        #[command(flatten)]
        root: Root,
        #[command(flatten)]
        options: crate::command::WaitOptions,
    },
    /// Show what was published: when, by whom, why, and what it changed
    History {
        #[command(flatten)]
        root: Root,
        #[command(flatten)]
        options: crate::command::HistoryOptions,
    },
    /// Show a revision, a machine's files in it, or what a machine ran at a time
    Show {
        #[command(flatten)]
        root: Root,
        #[command(flatten)]
        options: crate::command::ShowOptions,
    },
    /// Show what differs between two revisions; exit 0 nothing, 2 something, 1 error
    Diff {
        #[command(flatten)]
        root: Root,
        #[command(flatten)]
        options: crate::command::DiffOptions,
    },
    /// Publish the content of an old revision as a new one
    Rollback {
        #[command(flatten)]
        root: Root,
        #[command(flatten)]
        options: crate::command::RollbackOptions,
    },
    /// Show who gave a setting its value, and the values before
    Blame {
        #[command(flatten)]
        root: Root,
        #[command(flatten)]
        options: crate::command::BlameOptions,
    },
    /// Write everything of this leader to one file; it may run meanwhile
    Backup {
        #[command(flatten)]
        root: Root,
        #[command(flatten)]
        options: crate::command::BackupOptions,
    },
    /// Put a backup in place
    Restore {
        #[command(flatten)]
        root: Root,
        #[command(flatten)]
        options: crate::command::RestoreOptions,
    },
    /// Show, set and rotate secrets
    Secrets {
        #[command(subcommand)]
        secrets: crate::command::Secrets,
        #[command(flatten)]
        root: Root,
    },
    /// Give, show and watch the platform's public certificates
    Certificates {
        #[command(subcommand)]
        certificates: crate::command::Certificates,
        #[command(flatten)]
        root: Root,
    },
    /// Make, show and revoke API tokens, for people and programs elsewhere
    Access {
        #[command(subcommand)]
        access: crate::command::Access,
        #[command(flatten)]
        root: Root,
    },
    /// Make this machine a follower, with a token from its leader
    JoinPlatform {
        #[command(flatten)]
        root: Root,
        #[command(flatten)]
        options: crate::command::JoinOptions,
    },
    /// Make, show and revoke tokens that machines join with
    Tokens {
        #[command(subcommand)]
        tokens: crate::command::Tokens,
        #[command(flatten)]
        root: Root,
    },
    /// Show followers; disable and remove them, give them new keys
    Followers {
        #[command(subcommand)]
        followers: crate::command::Followers,
        #[command(flatten)]
        root: Root,
    },
    /// Show and replace the platform's own authority, which TLS goes by
    Ca {
        #[command(subcommand)]
        ca: crate::command::Ca,
        #[command(flatten)]
        root: Root,
    },
    /// Show who did what, or whether the record of it is whole
    Audit {
        #[command(flatten)]
        options: crate::command::AuditOptions,
        #[command(flatten)]
        root: Root,
    },
    /// Write the manual pages, one for each command
    Man {
        /// The folder for them
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Take over a platform of the original Pryv.io leader and follower, byte for byte
    ImportPryv {
        #[command(flatten)]
        root: Root,
        #[command(flatten)]
        options: crate::command::ImportOptions,
    },
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// How a rendered role is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// As GET /conf/{role} answers.
    Json,
    /// As a tar.
    Tar,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_alone_is_what_clap_says_it_is() {
        let words =
            |line: &str| -> Vec<OsString> { line.split(' ').map(|word| word.replace("''", "").into()).collect() };
        let by_clap = |line: &str| {
            let typed = Arguments::try_parse_from(std::iter::once("lockstep".into()).chain(words(line)));
            typed.map(|arguments| format!("{:?}", arguments.command))
        };
        for line in ["follower", "follower --root /srv/lockstep", "follower --root follower"] {
            let alone = follower_alone(&words(line)).map(|root| format!("{:?}", Command::Follower { root }));
            assert_eq!(alone, by_clap(line).ok(), "{line}");
        }
        for line in ["follower --help", "follower --root", "follower --root -x", "follower --root ''", "follower x"] {
            assert!(follower_alone(&words(line)).is_none(), "{line}");
            assert!(by_clap(line).is_err(), "{line}");
        }
        for line in ["leader", "--root /srv follower", "follower --root=/srv", "follower --root /a --url http://b"] {
            assert!(follower_alone(&words(line)).is_none(), "{line}");
        }
    }
}
