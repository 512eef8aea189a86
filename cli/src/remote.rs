//! A leader on another machine: its address and the token for it. The token
//! comes from the environment or a file, never from the command line, where
//! every user of the machine could read it.

use crate::exit::{Failed, failed};
use lockstep_edge::tls;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use zeroize::Zeroizing;

/// What `--url` and `--token-file` said.
static FLAGS: OnceLock<(Option<String>, Option<PathBuf>)> = OnceLock::new();

/// A leader elsewhere.
pub(crate) struct Remote {
    /// Its admin listener, without a slash at the end.
    pub(crate) url: String,
    /// The API token.
    pub(crate) token: Zeroizing<String>,
    /// The file with the platform's own authority, where the leader speaks TLS by that (`LOCKSTEP_CA`).
    pub(crate) ca: Option<PathBuf>,
}

/// Remembers the flags: every command that speaks to a leader heeds them.
pub(crate) fn remember(url: Option<String>, token_file: Option<PathBuf>) {
    let _ = FLAGS.set((url, token_file));
}

/// Refuses the flags for a command that works on this machine's files only.
pub(crate) fn refuse() -> Result<(), Failed> {
    match FLAGS.get() {
        Some((None, None)) | None => Ok(()),
        _ => Err(failed("this command works on this machine's files: leave out --url and --token-file")),
    }
}

impl Remote {
    /// Whether a leader elsewhere is meant: by `--url` or `LOCKSTEP_URL`.
    pub(crate) fn asked() -> Result<Option<Self>, Failed> {
        let env = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        let (url, file) = FLAGS.get().cloned().unwrap_or_default();
        let Some(url) = url.or_else(|| env("LOCKSTEP_URL")) else {
            return match file {
                Some(_) => Err(failed("--token-file is for a leader elsewhere: say which, with --url or LOCKSTEP_URL")),
                None => Ok(None),
            };
        };
        let url = address(&url)?;
        let file = file.or_else(|| env("LOCKSTEP_TOKEN_FILE").map(PathBuf::from));
        let token = match (file, env("LOCKSTEP_TOKEN")) {
            (Some(file), _) => from_file(&file)?,
            (None, Some(token)) => Zeroizing::new(token),
            (None, None) => {
                return Err(failed(format!(
                    "{url} wants a token: set LOCKSTEP_TOKEN, or say --token-file FILE; lockstep access create NAME --right read makes one, on the leader's machine"
                )));
            }
        };
        let ca = env("LOCKSTEP_CA").map(PathBuf::from);
        Ok(Some(Self { url, token: Zeroizing::new(token.trim().to_owned()), ca }))
    }
}

impl Remote {
    /// A client that goes by that authority, where one is named, and by the system's otherwise.
    pub(crate) fn builder(&self) -> Result<reqwest::ClientBuilder, Failed> {
        let builder = lockstep_edge::client::builder();
        let Some(file) = &self.ca else {
            return Ok(if self.url.starts_with("http://") { builder.tls_certs_only([]) } else { builder });
        };
        let bad = |why: String| {
            failed(format!(
                "LOCKSTEP_CA: {}: {why}; lockstep ca show --pem prints it on the leader's machine",
                file.display()
            ))
        };
        let text = std::fs::read_to_string(file).map_err(|error| bad(error.to_string()))?;
        let authorities = tls::authorities(&text).map_err(|error| bad(error.to_string()))?;
        let pins = Arc::new(tls::Pins::new(file.display().to_string(), authorities));
        let config = pins.client(tls::identity::LEADER).map_err(|error| bad(error.to_string()))?;
        Ok(builder.tls_backend_preconfigured(config))
    }
}

fn from_file(file: &Path) -> Result<Zeroizing<String>, Failed> {
    lockstep_edge::key::refuse_loose(file)?;
    let text = std::fs::read_to_string(file).map_err(|error| failed(format!("{}: {error}", file.display())))?;
    Ok(Zeroizing::new(text))
}

/// An address that a token may be sent to.
fn address(text: &str) -> Result<String, Failed> {
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
    use super::address;

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
