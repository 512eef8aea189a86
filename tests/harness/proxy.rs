//! A proxy in front of the engine's socket, as careful operators put one there:
//! it writes down every call, and lets through what isn't denied.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const ENGINE: &str = "/var/run/docker.sock";

/// The proxy; its threads end with the test.
pub(crate) struct Proxy {
    pub(crate) path: PathBuf,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// `METHOD /path` with identifiers as `{id}`, of calls that lockstep itself made.
    calls: BTreeSet<String>,
    /// The same with everything, of all callers.
    raw: Vec<String>,
    denied: BTreeSet<String>,
}

impl Proxy {
    pub(crate) fn new(folder: &Path) -> Self {
        let path = folder.join("proxy.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let seen = Arc::<Mutex<Seen>>::default();
        let shared = seen.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let seen = shared.clone();
                std::thread::spawn(move || serve(client, &seen));
            }
        });
        Self { path, seen }
    }

    pub(crate) fn deny(&self, call: &str) {
        self.seen.lock().unwrap().denied.insert(call.to_owned());
    }

    pub(crate) fn allow(&self, call: &str) {
        self.seen.lock().unwrap().denied.remove(call);
    }

    pub(crate) fn calls(&self) -> BTreeSet<String> {
        self.seen.lock().unwrap().calls.clone()
    }

    pub(crate) fn raw(&self) -> Vec<String> {
        self.seen.lock().unwrap().raw.clone()
    }
}

/// One connection, and one request on it: the engine is told to close it then.
fn serve(mut client: UnixStream, seen: &Mutex<Seen>) -> Option<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if client.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let text = String::from_utf8(head).ok()?;
    let mut words = text.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let call = format!("{method} {}", template(target));
    let lower = text.to_lowercase();
    let refused = {
        let mut seen = seen.lock().unwrap();
        seen.raw.push(format!("{method} {target}"));
        // Compose says who it is.
        if !lower.contains("docker-py") && !lower.contains("docker-compose") && !lower.contains("docker-client") {
            seen.calls.insert(call.clone());
        }
        seen.denied.contains(&call)
    };
    if refused {
        let body = r#"{"message":"not allowed here"}"#;
        let answer = format!(
            "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        return client.write_all(answer.as_bytes()).ok();
    }
    let mut engine = UnixStream::connect(ENGINE).ok()?;
    let kept: Vec<&str> = text.trim_end().lines().collect();
    let upgrade = lower.contains("\r\nupgrade:");
    let mut sent = kept.iter().filter(|line| upgrade || !line.to_lowercase().starts_with("connection:")).fold(
        String::new(),
        |mut sent, line| {
            sent += line;
            sent += "\r\n";
            sent
        },
    );
    if !upgrade {
        sent += "Connection: close\r\n";
    }
    engine.write_all((sent + "\r\n").as_bytes()).ok()?;
    let (mut from_client, mut to_engine) = (client.try_clone().ok()?, engine.try_clone().ok()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_engine);
        let _ = to_engine.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut engine, &mut client);
    client.shutdown(Shutdown::Both).ok()
}

/// The path without version and query, identifiers as `{id}`.
fn template(target: &str) -> String {
    let path = target.split('?').next().unwrap_or(target);
    let mut segments: Vec<&str> = path.split('/').skip(1).collect();
    if segments.first().is_some_and(|first| first.starts_with("v1.")) {
        segments.remove(0);
    }
    let kinds = ["containers", "exec", "volumes", "images", "networks"];
    if segments.len() > 1 && kinds.contains(&segments[0]) && !matches!(segments[1], "json" | "create") {
        segments[1] = "{id}";
    }
    format!("/{}", segments.join("/"))
}
