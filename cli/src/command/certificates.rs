//! `lockstep certificates`: the public ones, such as nginx's. A key comes from
//! a file, and is never printed.

use super::follow::Following;
use super::{leader_config, print, print_json, publish, say, table};
use crate::exit::{Done, Failed, failed};
use crate::printable::printable;
use crate::socket::Socket;
use clap::Subcommand;
use lockstep_edge::clock;
use lockstep_leader::certificates::check::{DAY, SOON, day};
use lockstep_leader::certificates::ends::next;
use lockstep_leader::certificates::given::Shown;
use lockstep_leader::rollout::strategy::Wish;
use lockstep_shared::api::Ending;
use serde_json::json;
use std::io::IsTerminal as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

#[derive(Debug, Subcommand)]
pub(crate) enum Certificates {
    /// Check a certificate and its key, show what changes, ask, and publish both
    Set {
        /// The certificate, followed by its intermediates, PEM (fullchain.pem)
        #[arg(long, value_name = "FILE")]
        cert: PathBuf,
        /// Its private key, PEM, without passphrase (privkey.pem)
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The setting that holds it, where the release has several
        #[arg(long)]
        name: Option<String>,
        /// Why, for the history
        #[arg(short, long, value_name = "TEXT")]
        message: Option<String>,
        /// Publish without asking
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        following: Following,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the certificates: names, dates, what is wrong with them, who gets them
    Show {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List certificates that end soon; exit 0 none, 2 some (or ended), 1 error
    Expiring {
        /// Within how many days
        #[arg(long, default_value_t = SOON, value_parser = clap::value_parser!(i64).range(0..=36_500))]
        days: i64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(root: &Path, certificates: Certificates) -> Result<Done, Failed> {
    match certificates {
        Certificates::Set { cert, key, name, message, yes, following, json } => {
            if !yes && !std::io::stdin().is_terminal() {
                return Err(failed(
                    "certificates set asks before it publishes, and there is no terminal: add --yes; nothing was changed",
                ));
            }
            publish::tell_what_else(root, "the certificate").await.inspect_err(|_| say("no certificate was set"))?;
            let shown = give(root, &cert, &key, name.as_deref()).await?;
            if !json {
                told_of(&shown)?;
            }
            let message = message.unwrap_or_else(|| format!("certificate {}", shown.name));
            let options = publish::Options { message, yes, plan: None, wish: Wish::default(), following, json };
            publish::run(root, options).await.inspect_err(|_| {
                say(&format!("{} and {} are set, and wait for a publication: lockstep publish; or lockstep settings set, lockstep secrets discard {1}", shown.name, shown.key));
            })
        }
        Certificates::Show { json } => {
            let shown: Vec<Shown> = Socket::or_files(leader_config(root)?)?.get("/admin/certificates").await?;
            if json {
                print_json(&shown)?;
            } else if shown.is_empty() {
                say("the release in templates/ has no certificate (certificate: {key: ...} in templates/settings.yml)");
            }
            for one in shown.iter().filter(|_| !json) {
                told_of(one)?;
            }
            Ok(Done::Good)
        }
        Certificates::Expiring { days, json } => expiring(root, days, json).await,
    }
}

/// Reads both files and hands them to the leader, which looks at them before it changes anything.
async fn give(root: &Path, cert: &Path, key: &Path, name: Option<&str>) -> Result<Shown, Failed> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData => failed(format!(
                "{} is no text, and PEM is: a certificate in DER becomes PEM by openssl x509 -inform der -in FILE, a key by openssl pkey -inform der -in FILE",
                path.display()
            )),
            _ => failed(format!("{}: {error}", path.display())),
        })
    };
    let certificate = read(cert)?;
    let text = Zeroizing::new(read(key)?);
    let loose = key.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0);
    if loose {
        say(&format!("{} can be read by everybody on this machine: chmod 600 {0}", key.display()));
    }
    let socket = Socket::or_files(leader_config(root)?)?;
    socket.put("/admin/certificates", &json!({"name": name, "certificate": certificate, "key": text.as_str()})).await
}

fn told_of(shown: &Shown) -> Result<(), Failed> {
    let now = clock::now();
    let title = if shown.title.is_empty() { String::new() } else { format!(" ({})", shown.title) };
    let mut lines = vec![format!("{}{title}, its key in {}", shown.name, shown.key)];
    let mut line = |name: &str, text: String| lines.push(format!("  {name:<10} {}", printable(&text)));
    if let Some(facts) = &shown.certificate {
        line("for", facts.names.join(", "));
        line("issued by", facts.issuer.clone());
        line(
            "valid",
            format!("{} to {}, {} days left", day(facts.begins), day(facts.ends), (facts.ends - now).div_euclid(DAY)),
        );
        line("chain", super::counted(facts.chain, "certificate"));
        line("SHA-256", facts.fingerprint.clone());
    } else {
        let key = if shown.has_key { "; its key has a value" } else { "" };
        line("value", format!("not set{key}: lockstep certificates set --cert fullchain.pem --key privkey.pem"));
    }
    if shown.certificate.is_some() && !shown.has_key {
        line("key", "not set: lockstep certificates set gives both".to_owned());
    }
    let machines = if shown.machines.is_empty() {
        "no machine: no template of a role in use names it".to_owned()
    } else {
        shown.machines.join(", ")
    };
    line("goes to", machines);
    for problem in &shown.problems {
        line("WRONG", problem.clone());
    }
    for warning in &shown.warnings {
        line("note", warning.clone());
    }
    print(&(lines.join("\n") + "\n"))
}

async fn expiring(root: &Path, days: i64, json: bool) -> Result<Done, Failed> {
    let all: Vec<Ending> = Socket::or_files(leader_config(root)?)?.get("/admin/certificates/ends").await?;
    let now = clock::now();
    let (total, until) = (all.len(), now + days * DAY);
    let public = all.iter().filter(|one| one.public).count();
    let mut ending: Vec<Ending> = all.into_iter().filter(|ending| ending.ends < until).collect();
    ending.sort_by_key(|ending| ending.ends);
    if json {
        print_json(&ending)?;
    } else if ending.is_empty() {
        print(&format!(
            "nothing ends within {days} days, of {} in use and {} between leader and followers\n",
            super::counted(public, "public certificate"),
            if total - public == 1 { "1 authority".to_owned() } else { format!("{} authorities", total - public) }
        ))?;
    } else {
        let mut table = table(["certificate", "ends", "days left", "next"]);
        for one in &ending {
            let name = match &one.machine {
                Some(machine) => format!("{} of {machine}", one.name),
                None if one.public => one.name.clone(),
                None => format!("{} (between leader and followers)", one.name),
            };
            table.add_row([
                printable(&name),
                day(one.ends),
                (one.ends - now).div_euclid(DAY).to_string(),
                next(one).to_owned(),
            ]);
        }
        print(&format!("{table}\n"))?;
    }
    Ok(if ending.is_empty() { Done::Good } else { Done::Different })
}
