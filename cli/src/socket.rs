//! Speaks to the leader: the running one over its unix socket; one on another
//! machine with an API token; or, where none runs, the same routes in this
//! process, on its files.

use crate::command::{author, environment, offline_actor, say};
use crate::exit::{Failed, failed};
use crate::remote::Remote;
use axum::Router;
use axum::body::Body;
use lockstep_edge::client::{builder, innermost};
use lockstep_edge::trace::{REQUEST_ID, RequestId};
use lockstep_leader::config::Config;
use lockstep_leader::http::{ACTOR, offline};
use lockstep_leader::leader::Leader;
use lockstep_shared::Problem;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::time::timeout;
use tower::ServiceExt as _;

/// The name of this command, in the leader's answers, in logs and in the audit:
/// `LOCKSTEP_REQUEST_ID`, where whoever runs it has one already.
fn request_id() -> &'static RequestId {
    static ID: LazyLock<RequestId> = LazyLock::new(|| {
        let given = std::env::var("LOCKSTEP_REQUEST_ID").ok();
        given.as_deref().and_then(RequestId::parse).unwrap_or_default()
    });
    &ID
}

/// What stands before a target on the unix socket, which needs no address.
const HERE: &str = "http://leader";

/// How long a leader may be silent: what only asks is answered in a fraction of it, on a busy machine too.
const SILENT: Duration = Duration::from_secs(10);

/// Questions that the leader works on for as long as it takes: it renders or goes through all that it keeps.
const LONG: [&str; 6] =
    ["/admin/plan", "/admin/rollback", "/admin/migration", "/admin/audit/verdict", "/admin/blame", "/admin/diff"];

/// A way to a leader.
pub(crate) struct Socket(Way);

enum Way {
    /// Over HTTP: the client, what stands before a target, and where that leader is.
    Wire { http: reqwest::Client, base: String, place: Place },
    /// In this process, while no leader runs.
    Files(Router),
}

/// Where a person finds a leader.
enum Place {
    Socket(PathBuf),
    Url(String),
}

impl Place {
    /// In words; with the number of its process where that can be seen.
    async fn words(&self) -> String {
        let path = match self {
            Self::Url(url) => return format!("the leader at {url}"),
            Self::Socket(path) => path,
        };
        let asked = tokio::net::UnixStream::connect(path).await;
        // 0 is that of a process outside of this container.
        match asked.ok().and_then(|stream| stream.peer_cred().ok()?.pid()).filter(|pid| *pid > 0) {
            Some(pid) => format!("the leader (pid {pid}, {})", path.display()),
            None => format!("the leader ({})", path.display()),
        }
    }
}

impl Socket {
    /// The leader that `--url` names, or the running one here; `None` where none runs.
    pub(crate) fn find(config: &Config) -> Result<Option<Self>, Failed> {
        if let Some(remote) = Remote::asked()? {
            return Self::far(&remote).map(Some);
        }
        Self::here(config)
    }

    /// The running leader of this home; `None` where none runs.
    pub(crate) fn here(config: &Config) -> Result<Option<Self>, Failed> {
        let path: PathBuf = config.socket();
        match UnixStream::connect(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(failed(format!(
                    "{}: {error}: run the command as the leader's user (sudo)",
                    path.display()
                )));
            }
            Err(_) => return Ok(None),
        }
        let mut actor = HeaderMap::new();
        if let Ok(name) = HeaderValue::try_from(author()) {
            actor.insert(ACTOR, name);
        }
        let place = Place::Socket(path.clone());
        let http = builder().tls_certs_only([]).unix_socket(path).default_headers(actor).build()?;
        Ok(Some(Self(Way::Wire { http, base: HERE.to_owned(), place })))
    }

    /// The same, where a leader has to run.
    pub(crate) fn needed(config: &Config) -> Result<Self, Failed> {
        Self::find(config)?.ok_or_else(|| {
            failed(format!(
                "no leader answers on {}: start it with scripts/run-config-leader or lockstep leader, or say where it is with --root",
                config.socket().display()
            ))
        })
    }

    /// The same, or its files where none runs; that is said.
    pub(crate) fn or_files(config: Config) -> Result<Self, Failed> {
        if let Some(running) = Self::find(&config)? {
            return Ok(running);
        }
        let files = Self::files(config)?;
        say("no leader is running: this works on its files");
        Ok(files)
    }

    /// The same, where nobody wonders which of the two it is.
    pub(crate) fn quietly(config: Config) -> Result<Self, Failed> {
        Self::find(&config)?.map_or_else(|| Self::files(config), Ok)
    }

    fn files(config: Config) -> Result<Self, Failed> {
        let leader = Leader::offline(config, environment())?;
        Ok(Self(Way::Files(offline(Arc::new(leader), offline_actor()))))
    }

    /// A leader elsewhere.
    pub(crate) fn far(remote: &Remote) -> Result<Self, Failed> {
        let mut headers = HeaderMap::new();
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", remote.token.as_str()))
            .map_err(|_| failed("the token holds signs that no token has: copy it again, as a whole"))?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
        let http = remote.builder()?.default_headers(headers);
        let place = Place::Url(remote.url.clone());
        Ok(Self(Way::Wire { http: http.build()?, base: remote.url.clone(), place }))
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, Failed> {
        self.send(Method::GET, target, None).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, target: &str, body: &impl Serialize) -> Result<T, Failed> {
        self.send(Method::POST, target, Some(serde_json::to_vec(body)?)).await
    }

    pub(crate) async fn put<T: DeserializeOwned>(&self, target: &str, body: &impl Serialize) -> Result<T, Failed> {
        self.send(Method::PUT, target, Some(serde_json::to_vec(body)?)).await
    }

    pub(crate) async fn delete<T: DeserializeOwned>(&self, target: &str) -> Result<T, Failed> {
        self.send(Method::DELETE, target, None).await
    }

    /// Whether the leader answers, and says that it serves.
    pub(crate) async fn serves(&self) -> bool {
        let Way::Wire { http, base, .. } = &self.0 else { return false };
        let answer = http.get(format!("{base}/readyz")).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Server-sent events, from the one after `last` on.
    pub(crate) async fn events(&self, target: &str, last: Option<&str>) -> Result<Events, Failed> {
        let Way::Wire { http, base, place } = &self.0 else {
            return Err(failed("no leader is running: there is nothing to follow (lockstep leader)"));
        };
        let request = http.get(format!("{base}{target}")).header("accept", "text/event-stream");
        let mut request = request.header(REQUEST_ID, request_id().as_str());
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let answer = in_time(place, false, request.send()).await?;
        let answer = answer.map_err(|error| failed(format!("the leader did not answer: {}", innermost(&error))))?;
        if !answer.status().is_success() {
            let problem: Result<Problem, _> = serde_json::from_slice(&answer.bytes().await?);
            return Err(problem.map_or_else(
                |_| failed("the leader did not say what happens: see its log"),
                |problem| failed(problem.detail),
            ));
        }
        Ok(Events { answer, read: Vec::new() })
    }

    /// The address, if followers are served there: only they sign requests, and only there it is asked for.
    async fn of_followers(&self) -> Option<&str> {
        let Way::Wire { http, base, .. } = &self.0 else { return None };
        if base == HERE {
            return None;
        }
        let answer = http.get(format!("{base}/conf")).send().await.ok()?;
        let problem: Problem = serde_json::from_slice(&answer.bytes().await.ok()?).ok()?;
        (problem.short_kind() == "unsigned").then_some(base)
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &str,
        body: Option<Vec<u8>>,
    ) -> Result<T, Failed> {
        let (status, body) = match &self.0 {
            Way::Wire { http, base, place } => {
                let long = may_be_long(&method, target);
                in_time(place, long, wire(http, base, method, target, body)).await??
            }
            Way::Files(router) => files(router.clone(), method, target, body).await?,
        };
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| {
                failed(format!("the leader's answer can't be read ({error}): are leader and command of one version?"))
            });
        }
        if let Some(base) = self.of_followers().await {
            return Err(failed(format!(
                "{base} is the leader's listener for followers, which takes no commands: its admin listener has an address of its own, \"admin\" in config-leader.json on the leader (docs/api.md)"
            )));
        }
        let problem: Result<Problem, _> = serde_json::from_slice(&body);
        Err(problem.map_or_else(
            |_| failed(format!("the leader answered {status} and did not explain it: see its log")),
            |problem| failed(problem.detail),
        ))
    }
}

/// A stream of server-sent events (the HTML standard, section 9.2).
pub(crate) struct Events {
    answer: reqwest::Response,
    read: Vec<u8>,
}

/// One event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Its number: what to say when one comes again.
    pub(crate) id: Option<String>,
    /// Its kind.
    pub(crate) event: String,
    /// What it says.
    pub(crate) data: String,
}

impl Events {
    /// The next one; `None` when the leader ends the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<Heard>, Failed> {
        loop {
            while let Some(end) = self.read.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.read.drain(..end + 2).collect();
                if let Some(heard) = heard(&String::from_utf8_lossy(&block)) {
                    return Ok(Some(heard));
                }
            }
            match self.answer.chunk().await {
                Ok(Some(chunk)) => self.read.extend_from_slice(&chunk),
                Ok(None) => return Ok(None),
                Err(error) => return Err(failed(format!("the leader fell silent: {}", innermost(&error)))),
            }
        }
    }
}

/// One block of lines; `None` where it only keeps the connection alive.
fn heard(block: &str) -> Option<Heard> {
    let mut heard = Heard::default();
    for (name, value) in block.lines().filter_map(|line| line.split_once(':')) {
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => heard.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut heard.event),
            "data" if heard.data.is_empty() => value.clone_into(&mut heard.data),
            "data" => {
                heard.data.push('\n');
                heard.data.push_str(value);
            }
            _ => {}
        }
    }
    (!heard.data.is_empty()).then_some(heard)
}

/// Whether an answer may take its time. What changes something is waited for in any case: nobody
/// could say of it afterwards whether it was done.
fn may_be_long(method: &Method, target: &str) -> bool {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    method != Method::GET || LONG.contains(&path)
}

/// Waits for what the leader says; one that is silent is told of, and given up unless it may be `long`.
async fn in_time<T>(place: &Place, long: bool, answer: impl Future<Output = T>) -> Result<T, Failed> {
    let mut answer = pin!(answer);
    if let Ok(answer) = timeout(SILENT, &mut answer).await {
        return Ok(answer);
    }
    let (place, seconds) = (place.words().await, SILENT.as_secs());
    if !long {
        return Err(failed(format!(
            "{place} takes the connection and doesn't answer: not a word in {seconds} s, so it hangs or is stopped (kill -CONT); see lockstep logs leader and lockstep doctor there"
        )));
    }
    say(&format!("{place} has not answered for {seconds} s: it is waited for; lockstep logs leader may say why there"));
    Ok(answer.await)
}

async fn wire(
    http: &reqwest::Client,
    base: &str,
    method: Method,
    target: &str,
    body: Option<Vec<u8>>,
) -> Result<(StatusCode, Vec<u8>), Failed> {
    let broken = |error: reqwest::Error| {
        let why = lockstep_edge::tls::why(&error).unwrap_or_else(|| innermost(&error));
        failed(match base {
            HERE => format!("the leader did not answer: {why}; see its log"),
            elsewhere if why.contains("UnknownIssuer") => format!(
                "{elsewhere} shows a certificate that this machine doesn't trust, and nothing was sent: say the platform's authority (LOCKSTEP_CA=FILE, with what lockstep ca show --pem prints on the leader), or let lockstep context add fetch it"
            ),
            elsewhere => format!(
                "the leader at {elsewhere} did not answer: {why}; does it run, with \"admin\" in config-leader.json, and is that its address (--url, LOCKSTEP_URL)?"
            ),
        })
    };
    let mut request = http.request(method, format!("{base}{target}")).header(REQUEST_ID, request_id().as_str());
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body);
    }
    let answer = request.send().await.map_err(broken)?;
    let status = answer.status();
    Ok((status, answer.bytes().await.map_err(broken)?.to_vec()))
}

async fn files(
    router: Router,
    method: Method,
    target: &str,
    body: Option<Vec<u8>>,
) -> Result<(StatusCode, Vec<u8>), Failed> {
    let request = axum::http::Request::builder().method(method).uri(target).header("content-type", "application/json");
    let request = request.header(REQUEST_ID, request_id().as_str());
    let request = request.body(body.map_or_else(Body::empty, Body::from))?;
    let answer = match router.oneshot(request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    };
    let status = answer.status();
    Ok((status, axum::body::to_bytes(answer.into_body(), usize::MAX).await?.to_vec()))
}

/// A text as one segment of a path, or one value of a query.
pub(crate) fn escaped(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::heard;

    #[test]
    fn events_are_read_as_the_standard_says() {
        let one = heard("event: machine\nid: 7\ndata: {\"a\":\ndata: 1}\n\n").unwrap();
        assert_eq!((one.id.as_deref(), one.event.as_str(), one.data.as_str()), (Some("7"), "machine", "{\"a\":\n1}"));
        assert_eq!(heard(":\n\n"), None);
    }
}
