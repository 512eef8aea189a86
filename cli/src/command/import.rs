//! `lockstep import-pryv`: from an installation of the original to a root,
//! and asking a running original whether the root serves the same.

use super::ask::ask;
use super::{counted, print, say};
use crate::exit::{Done, Failed, failed};
use crate::printable::printable;
use clap::ValueEnum;
use lockstep_pryv::{Accident, Answer, Answers, Conf, Draft, Old, Question, Root};
use lockstep_shared::Name;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The most places shown of one question.
const MOST_SHOWN: usize = 20;
/// The largest answer that a leader may give, in bytes.
const LARGEST: usize = 64 * 1024 * 1024;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The installation of the original: what `$PRYV_CONF_ROOT` names on the leader's machine
    #[arg(value_name = "DIR", required_unless_present = "verify")]
    installation: Option<PathBuf>,
    /// The new home, which must not exist yet
    #[arg(long, value_name = "ROOT", required_unless_present = "verify")]
    out: Option<PathBuf>,
    /// Answer every question with its default: the same bytes as before
    #[arg(long)]
    yes: bool,
    /// Names within longer words
    #[arg(long, value_enum, value_name = "ANSWER")]
    names_in_words: Option<Said>,
    /// Settings whose value names a secret
    #[arg(long, value_enum, value_name = "ANSWER")]
    secrets_in_settings: Option<Said>,
    /// Files that the original leaves out, for others of equal base name
    #[arg(long, value_enum, value_name = "ANSWER")]
    equal_base_names: Option<Said>,
    /// Files that are not UTF-8 text
    #[arg(long, value_enum, value_name = "ANSWER")]
    binary: Option<Said>,
    /// Ask this running leader of the original for a role, and show what lockstep would serve differently; exit 2 if anything
    #[arg(long, value_name = "URL", requires = "key")]
    verify: Option<String>,
    /// The key of a follower of that role; several for several roles
    #[arg(long, value_name = "KEY", env = "LOCKSTEP_PRYV_KEY", hide_env_values = true, value_delimiter = ',')]
    key: Vec<String>,
    /// The role, where its files don't say it
    #[arg(long, requires = "verify")]
    role: Option<String>,
}

/// An answer, as an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Said {
    /// As the original: every file keeps its bytes
    Same,
    /// As it was most likely meant
    Meant,
}

pub(super) fn run(root: &Path, options: &Options) -> Result<Done, Failed> {
    let out = options.out.as_deref();
    let mut served = Vec::new();
    if let Some(url) = &options.verify {
        for key in &options.key {
            served.push(super::wait_for(fetch(url, key))?);
        }
    }
    if let Some(installation) = &options.installation {
        let out = out.ok_or_else(|| failed("say where the new home is to be: --out ROOT"))?;
        import(installation, out, &served, options)?;
    }
    let mut done = Done::Good;
    for conf in &served {
        if verify(conf, out.unwrap_or(root), options.role.as_deref())? == Done::Different {
            done = Done::Different;
        }
    }
    Ok(done)
}

fn import(installation: &Path, out: &Path, served: &[Conf], options: &Options) -> Result<(), Failed> {
    lockstep_pryv::refuse(installation, out)?;
    let mut old = Old::read(installation)?;
    for conf in served {
        old.learn(conf)?;
    }
    let answers = answered(&old.questions()?, options)?;
    let draft = Draft::of(&old, &answers)?;
    let proven = lockstep_pryv::write(&draft, out)?;
    print(&lines(&draft.account.to_string()))?;
    let same = Accident::ALL.into_iter().all(|accident| answers.same(accident));
    let proof = if same { "as the original serves it" } else { "as answered" };
    print(&format!(
        "Proven: {} of {} rendered by lockstep, every byte {proof}.\n",
        counted(proven.files, "file"),
        counted(proven.trees, "machine")
    ))?;
    say(&format!(
        "{} is ready; next: lockstep validate --root {}, then docs/moving-from-pryv.md",
        out.display(),
        out.display()
    ));
    Ok(())
}

/// Every question with an answer: an option's, the default, or a person's.
fn answered(questions: &[Question], options: &Options) -> Result<Answers, Failed> {
    let mut answers = Answers::default();
    let mut open = Vec::new();
    for question in questions {
        let said = match question.accident {
            Accident::NamesInWords => options.names_in_words,
            Accident::SecretsInSettings => options.secrets_in_settings,
            Accident::EqualBaseNames => options.equal_base_names,
            Accident::Binary => options.binary,
        };
        match said {
            Some(Said::Same) => answers.set(question.accident, Answer::Same),
            Some(Said::Meant) => answers.set(question.accident, Answer::Meant),
            None => open.push(question),
        }
        if said.is_some() || options.yes {
            let same = answers.same(question.accident);
            say(&format!(
                "{}\n  {}",
                told(question),
                if same { question.accident.if_same() } else { question.accident.if_meant() }
            ));
        }
    }
    if options.yes || open.is_empty() {
        return Ok(answers);
    }
    if !std::io::stdin().is_terminal() {
        let all: Vec<String> = open.iter().map(|question| told(question)).collect();
        let flags: Vec<String> =
            open.iter().map(|question| format!("{} same|meant", question.accident.flag())).collect();
        return Err(failed(format!(
            "{}\nthere is no terminal to ask on, and nothing was written: add --yes to keep the same bytes, or answer with {}",
            all.join("\n"),
            flags.join(" ")
        )));
    }
    for question in open {
        say(&told(question));
        let same = ask(&format!("keep the same bytes (n: {})", question.accident.if_meant()))?;
        answers.set(question.accident, if same { Answer::Same } else { Answer::Meant });
    }
    Ok(answers)
}

/// Somebody else's names and texts, line by line fit for a terminal.
fn lines(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("{}\n", printable(line))).collect()
}

fn told(question: &Question) -> String {
    let mut text = format!("{}:", question.accident.said());
    for line in question.where_.iter().take(MOST_SHOWN) {
        text.push_str(&format!("\n    {}", printable(line)));
    }
    if question.where_.len() > MOST_SHOWN {
        text.push_str(&format!("\n    and {} more", question.where_.len() - MOST_SHOWN));
    }
    text
}

fn verify(conf: &Conf, root: &Path, role: Option<&str>) -> Result<Done, Failed> {
    let role = role.map(Name::new).transpose()?;
    let root = Root::open(root)?;
    let verified = lockstep_pryv::compare(conf, &root, role.as_ref())?;
    for difference in &verified.differences {
        print(&lines(difference))?;
    }
    let files = counted(verified.files, "file");
    if verified.differences.is_empty() {
        print(&format!("role {}: {files}, every byte the same\n", verified.role))?;
        return Ok(Done::Good);
    }
    print(&format!("role {}: {} in {files}\n", verified.role, counted(verified.differences.len(), "difference")))?;
    Ok(Done::Different)
}

/// What the original serves to the follower with this key.
async fn fetch(url: &str, key: &str) -> Result<Conf, Failed> {
    let at = format!("{}/conf", url.trim_end_matches('/'));
    let unreached = |error: reqwest::Error| {
        let why = lockstep_edge::client::innermost(&error);
        failed(format!("{at}: {why}; is the original's leader running, and is this its address?"))
    };
    let client = lockstep_edge::client::builder().timeout(Duration::from_mins(1)).build()?;
    let mut answer = client.get(&at).header("authorization", key).send().await.map_err(unreached)?;
    let status = answer.status();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreached)? {
        body.extend_from_slice(&chunk);
        if body.len() > LARGEST {
            return Err(failed(format!(
                "{at}: the answer is larger than {LARGEST} bytes: this is no leader of the original"
            )));
        }
    }
    if !status.is_success() {
        return Err(failed(format!(
            "{at}: {status}; give the key of a follower from followers in the original's config-leader.json, and look at the original's log"
        )));
    }
    serde_json::from_slice(&body)
        .map_err(|_| failed(format!("{at}: the answer has no list of files: this is no leader of the original")))
}
