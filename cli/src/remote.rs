//! A leader on another machine: its address and the token for it. The token
//! comes from the environment or a file, never from the command line, where
//! every user of the machine could read it.

use crate::command::say;
use crate::contexts::{Context, Contexts};
use crate::exit::{Failed, failed};
use lockstep_edge::tls::{Certificate, Pins, authorities, identity};
use std::io::IsTerminal as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use zeroize::Zeroizing;

/// What `--url`, `--token-file` and `--context` said.
static FLAGS: OnceLock<Flags> = OnceLock::new();

/// How long an address may take to be reached: one that drops what is sent to it says nothing.
const CONNECT: Duration = Duration::from_secs(5);

/// Whether `--root` was said: then this machine is meant, whatever the environment says.
static STAY: AtomicBool = AtomicBool::new(false);

#[derive(Default, Clone)]
struct Flags {
    url: Option<String>,
    token_file: Option<PathBuf>,
    context: Option<String>,
}

/// A leader elsewhere.
pub(crate) struct Remote {
    /// Its admin listener, without a slash at the end.
    pub(crate) url: String,
    /// The API token.
    pub(crate) token: Zeroizing<String>,
    /// The authorities that are believed and no others; none: those of the system.
    pub(crate) authorities: Vec<Certificate>,
    /// Where a person finds these.
    place: String,
}

/// Remembers the flags: every command that speaks to a leader heeds them.
pub(crate) fn remember(url: Option<String>, token_file: Option<PathBuf>, context: Option<String>) {
    let _ = FLAGS.set(Flags { url, token_file, context });
}

/// `--root` was said.
pub(crate) fn stay() {
    STAY.store(true, Ordering::Relaxed);
}

/// Refuses the flags for a command that works on this machine's files only.
pub(crate) fn refuse() -> Result<(), Failed> {
    match FLAGS.get() {
        None | Some(Flags { url: None, token_file: None, context: None }) => Ok(()),
        _ => Err(failed("this command works on this machine's files: leave out --url, --token-file and --context")),
    }
}

/// `--token-file`, for a command that takes it and names its leader otherwise.
pub(crate) fn token_file_alone() -> Result<Option<PathBuf>, Failed> {
    let flags = FLAGS.get().cloned().unwrap_or_default();
    match (flags.url, flags.context) {
        (None, None) => Ok(flags.token_file),
        _ => Err(failed("contexts are this machine's: leave out --url and --context")),
    }
}

/// Which leader is meant: what is typed counts more than the environment, and
/// that more than the context in use.
#[derive(Debug, PartialEq, Eq)]
enum Meant {
    /// The one of this machine.
    Here,
    /// At this address.
    At(String),
    /// By this name.
    Named(String),
}

fn meant(flags: &Flags, stay: bool, env: impl Fn(&str) -> Option<String>, current: Option<String>) -> Meant {
    let home = || env("LOCKSTEP_ROOT").or_else(|| env("PRYV_CONF_ROOT"));
    if let Some(url) = &flags.url {
        Meant::At(url.clone())
    } else if let Some(name) = &flags.context {
        Meant::Named(name.clone())
    } else if stay {
        Meant::Here
    } else if let Some(url) = env("LOCKSTEP_URL") {
        Meant::At(url)
    } else if let Some(name) = env("LOCKSTEP_CONTEXT") {
        Meant::Named(name)
    } else if home().is_some() {
        Meant::Here
    } else {
        current.map_or(Meant::Here, Meant::Named)
    }
}

impl Remote {
    /// Whether a leader elsewhere is meant: by `--url`, `--context`, the environment, or the context in use.
    pub(crate) fn asked() -> Result<Option<Self>, Failed> {
        let env = |name: &str| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        let flags = FLAGS.get().cloned().unwrap_or_default();
        let contexts = Contexts::load();
        let current = contexts.as_ref().ok().and_then(|contexts| contexts.current.clone());
        match meant(&flags, STAY.load(Ordering::Relaxed), env, current) {
            Meant::Here => match flags.token_file {
                Some(_) => Err(failed("--token-file is for a leader elsewhere: say which, with --url or LOCKSTEP_URL")),
                None => Ok(None),
            },
            Meant::Named(name) => {
                let contexts = contexts?;
                let context = contexts.get(&name)?;
                if flags.context.is_none() && std::io::stderr().is_terminal() && !SAID.swap(true, Ordering::Relaxed) {
                    say(&format!("context {name}: {}", context.url));
                }
                Self::of(&name, context).map(Some)
            }
            Meant::At(url) => {
                let url = address(&url)?;
                let file = flags.token_file.or_else(|| env("LOCKSTEP_TOKEN_FILE").map(PathBuf::from));
                let token = match (file, env("LOCKSTEP_TOKEN")) {
                    (Some(file), _) => from_file(&file)?,
                    (None, Some(token)) => Zeroizing::new(token),
                    (None, None) => {
                        return Err(failed(format!(
                            "{url} wants a token: set LOCKSTEP_TOKEN, or say --token-file FILE; lockstep access create NAME --right read makes one, on the leader's machine"
                        )));
                    }
                };
                let place = env("LOCKSTEP_CA").unwrap_or_default();
                let authorities = if place.is_empty() { Vec::new() } else { from_environment(Path::new(&place))? };
                Ok(Some(Self { url, token: Zeroizing::new(token.trim().to_owned()), authorities, place }))
            }
        }
    }

    /// The leader of a context.
    pub(crate) fn of(name: &str, context: &Context) -> Result<Self, Failed> {
        let token = match (&context.token_file, &context.token) {
            (Some(file), _) => from_file(file)?,
            (None, Some(token)) => Zeroizing::new(token.clone()),
            (None, None) => {
                return Err(failed(format!(
                    "context {name} has no token: lockstep context remove {name}, then add it again"
                )));
            }
        };
        let (authorities, place) = match &context.ca {
            Some(pem) => authorities(pem)
                .map(|read| (read, format!("context {name} (lockstep context show {name})")))
                .map_err(|error| failed(format!("context {name}: ca: {error}")))?,
            None => (Vec::new(), String::new()),
        };
        Ok(Self { url: address(&context.url)?, token: Zeroizing::new(token.trim().to_owned()), authorities, place })
    }

    /// A client that goes by those authorities, and by the system's where there are none.
    pub(crate) fn builder(&self) -> Result<reqwest::ClientBuilder, Failed> {
        let builder = lockstep_edge::client::builder().connect_timeout(CONNECT);
        if self.url.starts_with("http://") {
            return Ok(builder.tls_certs_only([]));
        }
        if self.authorities.is_empty() {
            return Ok(builder);
        }
        let pins = Arc::new(Pins::new(self.place.clone(), self.authorities.clone()));
        let tls = pins.client(identity::LEADER).map_err(|error| failed(format!("TLS could not be set up: {error}")))?;
        Ok(builder.tls_backend_preconfigured(tls))
    }
}

/// Which context it is, is said once.
static SAID: AtomicBool = AtomicBool::new(false);

/// The authorities that `LOCKSTEP_CA` names.
fn from_environment(file: &Path) -> Result<Vec<Certificate>, Failed> {
    let read = std::fs::read_to_string(file).map_err(|error| error.to_string());
    let read = read.and_then(|pem| authorities(&pem).map_err(|error| error.to_string()));
    read.map_err(|why| {
        failed(format!(
            "LOCKSTEP_CA: {}: {why}; lockstep ca show --pem prints it on the leader's machine",
            file.display()
        ))
    })
}

fn from_file(file: &Path) -> Result<Zeroizing<String>, Failed> {
    lockstep_edge::key::refuse_loose(file)?;
    let text = std::fs::read_to_string(file).map_err(|error| failed(format!("{}: {error}", file.display())))?;
    Ok(Zeroizing::new(text))
}

/// An address that a token may be sent to.
pub(crate) fn address(text: &str) -> Result<String, Failed> {
    let bad = || failed(format!("{text:?} is not an address of a leader: write e.g. https://leader.example.com"));
    let url = reqwest::Url::parse(text).map_err(|_| bad())?;
    let host = url.host_str().ok_or_else(bad)?;
    let near = host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match url.scheme() {
        "https" => {}
        "http" if near => {}
        "http" => {
            return Err(failed(format!(
                "{text} would send the token for everybody on the way to read: use https://, or ssh -L 7001:127.0.0.1:7001 {host} and --url http://127.0.0.1:7001"
            )));
        }
        _ => return Err(bad()),
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Flags, Meant, address, meant};

    #[test]
    fn what_is_typed_counts_more_than_what_is_set() {
        let nothing = |_: &str| None;
        let all = |name: &str| match name {
            "LOCKSTEP_URL" => Some("https://env".to_owned()),
            "LOCKSTEP_CONTEXT" => Some("env".to_owned()),
            _ => None,
        };
        let only = |wanted: &'static str| move |name: &str| (name == wanted).then(|| "env".to_owned());
        let current = || Some("used".to_owned());
        let flags = Flags::default;
        let url = Flags { url: Some("https://typed".into()), ..flags() };
        let context = Flags { context: Some("typed".into()), ..flags() };
        assert_eq!(meant(&url, true, all, current()), Meant::At("https://typed".into()));
        assert_eq!(meant(&context, true, all, current()), Meant::Named("typed".into()));
        assert_eq!(meant(&flags(), true, all, current()), Meant::Here, "--root");
        assert_eq!(meant(&flags(), false, all, current()), Meant::At("https://env".into()));
        assert_eq!(meant(&flags(), false, only("LOCKSTEP_CONTEXT"), current()), Meant::Named("env".into()));
        assert_eq!(meant(&flags(), false, only("LOCKSTEP_ROOT"), current()), Meant::Here);
        assert_eq!(meant(&flags(), false, nothing, current()), Meant::Named("used".into()));
        assert_eq!(meant(&flags(), false, nothing, None), Meant::Here);
    }

    #[test]
    fn tokens_go_where_nobody_listens() {
        assert_eq!(address("https://a.example/").unwrap(), "https://a.example");
        assert_eq!(address("http://127.0.0.1:7001").unwrap(), "http://127.0.0.1:7001");
        assert_eq!(address("http://[::1]:7001").unwrap(), "http://[::1]:7001");
        assert!(address("http://192.0.2.1:7001").unwrap_err().0.contains("ssh -L"));
        assert!(address("leader").unwrap_err().0.contains("https://leader.example.com"));
        assert!(address("ftp://a.example").is_err());
    }
}
